"""One epoch of training, and what held-out crops say after it.

B batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nnst import evaluation
from nnst.records import BACKGROUND, Crop
from nnst.training.lessons import Lesson, Place
from nnst.training.settings import TrainingSettings

SCORED_AT_ONCE = 256


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


def run_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    lesson: Lesson,
    settings: TrainingSettings,
    place: Place,
) -> dict[str, float]:
    """Take the steps of one epoch; `network` (it may be wrapped for several ranks) is changed.

    Returns the means over the epoch, of this rank: `loss`, its parts, and `learning_rate`.
    """
    lesson.begin(network, place)
    network.train()
    sums: dict[str, float] = {}
    rate = 0.0
    for step in range(settings.steps):
        total = place.epochs * settings.steps
        rate = learning_rate(settings, place.epoch * settings.steps + step, total)
        for parameters in optimiser.param_groups:
            parameters["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        for part in range(settings.accumulate):
            # Ranks exchange gradients once an update, with those of its last batch.
            last = part == settings.accumulate - 1
            with nullcontext() if last else _alone(network):
                batch = step * settings.accumulate + part
                for name, value in _add_gradients(network, lesson, settings, place, batch).items():
                    sums[name] = sums.get(name, 0.0) + value.item() / settings.accumulate
        optimiser.step()
    return {name: value / settings.steps for name, value in sums.items()} | {"learning_rate": rate}


def _add_gradients(
    network: nn.Module, lesson: Lesson, settings: TrainingSettings, place: Place, batch: int
) -> Mapping[str, Tensor]:
    """`loss` and its parts of a batch, whose share of the update's gradients is added."""
    with torch.autocast(torch.device(place.device).type, torch.bfloat16, settings.bfloat16):
        parts = lesson.losses(network, place, batch)
    whole = torch.stack(list(parts.values())).sum()
    # Means of means: a mean over all batches of the update, if these count the same.
    (whole / settings.accumulate).backward()  # type: ignore[no-untyped-call]
    return {"loss": whole, **parts}


def _alone(network: nn.Module) -> AbstractContextManager[None]:
    """While inside, this rank's gradients are kept to itself."""
    alone = getattr(network, "no_sync", nullcontext)  # only a network that is wrapped has it
    return alone()


def validate(network: nn.Module, lesson: Lesson) -> dict[str, float]:
    """Loss and average precision on the lesson's crops, each seen once, as a scan would at best.

    nan where there is no logo or no background.
    """
    store = lesson.store
    scores, classes = score_crops(network, lesson, (*store.logos, *store.background))
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
    network: nn.Module, lesson: Lesson, crops: Sequence[Crop]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(N, K) probabilities of each crop, and (N,) its true class."""
    labels = lesson.store.labels
    network.eval()
    rows: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for start in range(0, len(crops), SCORED_AT_ONCE):
            logits = lesson.logits(network, crops[start : start + SCORED_AT_ONCE])  # (B, K)
            rows.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
    scores = np.concatenate(rows) if rows else np.zeros((0, len(labels)))
    classes = [_class_of(crop, labels) for crop in crops]
    return scores, np.array(classes, np.int64)


def _class_of(crop: Crop, labels: Sequence[str]) -> int:
    """The class of a crop; where all logos are one class, that."""
    if not crop.label:
        return BACKGROUND
    return labels.index(crop.label) if crop.label in labels else 1
