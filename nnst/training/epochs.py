"""One epoch of training, and what held-out crops say after it.

B batch, K classes, P patches, h w cells of a score map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nnst import evaluation
from nnst.models import multiply_adds
from nnst.records import BACKGROUND, Crop, ModelSpec
from nnst.training.batches import BatchSettings, CropStore, centred_windows, draw_batch
from nnst.training.settings import TrainingSettings

PATCH_SIDES = 2.0  # a background patch's sides over the window's
PATCH_BUDGET = 1e9  # multiply-adds that the patches of one step may cost


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """Means over an epoch, of this rank."""

    loss: float
    logo_loss: float
    background_loss: float
    learning_rate: float


def batch_settings(spec: ModelSpec, settings: TrainingSettings, world_size: int) -> BatchSettings:
    """What each rank's batch holds: its share of the whole batch."""
    patch_hw = (
        math.ceil(spec.window_hw[0] * PATCH_SIDES),
        math.ceil(spec.window_hw[1] * PATCH_SIDES),
    )
    affordable = max(1, int(PATCH_BUDGET / multiply_adds(spec, patch_hw)))
    return BatchSettings(
        window_hw=spec.window_hw,
        context=spec.context,
        logos=max(1, settings.logos // world_size),
        near_misses=max(1, settings.near_misses // world_size),
        patches=max(1, min(settings.patches, affordable) // world_size),
        patch_hw=patch_hw,
        shift=spec.stride / 2 + 0.5,
        scale=2 ** (0.5 / settings.levels_per_octave) * 1.03,
        augment=settings.augment,
    )


def class_weights(classes: Sequence[int], count: int) -> Tensor:
    """(K,) weights inverse to how often a class comes in a batch, of mean 1 over the batch."""
    numbers = np.bincount(np.asarray(classes, np.int64), minlength=count).astype(np.float64)
    present = numbers > 0
    weights = np.where(present, len(classes) / np.maximum(numbers, 1) / present.sum(), 0)
    return torch.tensor(weights, dtype=torch.float32)


def loss(
    window_logits: Tensor, classes: Tensor, patch_logits: Tensor, hardest: float
) -> tuple[Tensor, Tensor]:
    """(loss of the windows, loss of the background patches), both means.

    Windows weigh inversely to how often their class comes. Of all windows in the patches only the
    hardest share counts, as in online hard example mining (Shrivastava et al., CVPR 2016).
    """
    weights = class_weights(classes.tolist(), window_logits.shape[1]).to(window_logits.device)
    windows = functional.cross_entropy(window_logits.flatten(1), classes, weight=weights)
    wrong = torch.full_like(patch_logits[:, 0], BACKGROUND, dtype=torch.int64)  # (P, h, w)
    each = functional.cross_entropy(patch_logits, wrong, reduction="none").flatten()
    kept = each.topk(max(1, round(hardest * each.numel()))).values
    return windows, kept.mean()


def make_optimiser(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW over all weights."""
    return torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def learning_rate(settings: TrainingSettings, step: int, total: int) -> float:
    """A twentieth of all steps of warm-up, then a cosine down to a hundredth."""
    warm = max(1, total // 20)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def spec_of(network: nn.Module) -> ModelSpec:
    """The spec of a network, also when it is wrapped for several ranks."""
    return cast(ModelSpec, getattr(network, "module", network).spec)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in training an epoch stands, and which rank this is."""

    seed: int
    epoch: int
    epochs: int
    rank: int = 0
    world_size: int = 1
    device: str = "cpu"


def run_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    store: CropStore,
    settings: TrainingSettings,
    place: Place,
) -> EpochMetrics:
    """Take the steps of one epoch; `network` (it may be wrapped for several ranks) is changed."""
    spec = spec_of(network)
    wanted = batch_settings(spec, settings, place.world_size)
    network.train()
    sums = np.zeros(3)
    rate = 0.0
    for step in range(settings.steps):
        total = place.epochs * settings.steps
        rate = learning_rate(settings, place.epoch * settings.steps + step, total)
        for parameters in optimiser.param_groups:
            parameters["lr"] = rate
        batch = draw_batch(store, wanted, (place.seed, place.epoch, step, place.rank))
        windows = torch.from_numpy(batch.windows).to(place.device)
        patches = torch.from_numpy(batch.patches).to(place.device)
        classes = torch.from_numpy(batch.classes).to(place.device)
        logo_loss, background_loss = loss(
            network(windows), classes, network(patches), settings.hardest
        )
        whole = logo_loss + background_loss
        optimiser.zero_grad(set_to_none=True)
        whole.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        sums += [whole.item(), logo_loss.item(), background_loss.item()]
    means = sums / settings.steps
    return EpochMetrics(float(means[0]), float(means[1]), float(means[2]), rate)


def validate(network: nn.Module, store: CropStore, device: str = "cpu") -> dict[str, float]:
    """Loss and average precision on held-out crops, each seen once through a centred window.

    nan where the store has no logo or no background.
    """
    scores, classes = score_crops(network, (*store.logos, *store.background), store.labels, device)
    if not len(classes):
        return {"validation_loss": math.nan, "validation_window_ap": math.nan}
    chosen = scores[np.arange(len(classes)), classes]
    is_logo = classes != BACKGROUND
    best = scores[:, 1:].max(axis=1)
    precision = math.nan
    if is_logo.any() and not is_logo.all():
        precision = evaluation.average_precision(best, is_logo, int(is_logo.sum()))
    return {
        "validation_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
        "validation_window_ap": precision,
    }


def score_crops(
    network: nn.Module, crops: Sequence[Crop], labels: Sequence[str], device: str = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(N, K) probabilities of each crop's centred window, and (N,) their true classes."""
    spec = spec_of(network)
    network.eval()
    rows: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for start in range(0, len(crops), 256):
            some = crops[start : start + 256]
            windows = torch.from_numpy(centred_windows(some, spec.window_hw, spec.context))
            logits = network(windows.to(device)).flatten(1)  # (B, K)
            rows.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
    scores = np.concatenate(rows) if rows else np.zeros((0, len(labels)))
    classes = [labels.index(crop.label) if crop.label else BACKGROUND for crop in crops]
    return scores, np.array(classes, np.int64)
