"""What a network is taught in one step, and how held-out crops ask it.

A network that is laid over levels learns from patches, the judge from proposed boxes.
B batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nnst.models import Cascade, Model, Network, multiply_adds
from nnst.models.networks import BOX_DELTAS
from nnst.records import BACKGROUND, Crop, ModelSpec
from nnst.training.batches import (
    IGNORED,
    BatchSettings,
    CropStore,
    centred_windows,
    draw_batch,
)
from nnst.training.proposals import ProposalSettings, cut_still, draw_proposals
from nnst.training.settings import TrainingSettings

PATCH_SIDES = 2.0  # a patch's sides over the window's
PATCH_BUDGET = 4e9  # multiply-adds that the patches of one step may cost
SCORED_AT_ONCE = 256
MOST_LOGO_IOU = 0.6  # see BatchSettings.logo_iou
ASKED = 1500  # background crops among which the hardest are looked for, once an epoch, by all ranks
EASY = 0.3  # share of the training after which only the hardest background counts
EVERY = 4  # one in so many crops of plain background goes to the judge, beside all mined ones


@dataclass(frozen=True, slots=True)
class Place:
    """Where in training an epoch stands, and which rank this is."""

    seed: int
    epoch: int
    epochs: int
    rank: int = 0
    world_size: int = 1
    device: str = "cpu"


class Lesson(Protocol):
    """What teaches one kind of network."""

    store: CropStore

    def begin(self, network: nn.Module, place: Place) -> None:
        """Look at the network before an epoch, to choose what to teach it."""

    def losses(self, network: nn.Module, place: Place, step: int) -> Mapping[str, Tensor]:
        """The parts of the loss of one batch of the epoch, number `step`; their sum is to fall."""

    def logits(self, network: nn.Module, crops: Sequence[Crop]) -> Tensor:
        """(B, K) of crops seen as a scan would see them at best."""


class WindowLesson:
    """Patches of logos and of background, every window of them with its class."""

    def __init__(self, spec: ModelSpec, store: CropStore, settings: TrainingSettings) -> None:
        self.store = as_one_class(store, spec.labels) if spec.labels != store.labels else store
        self._spec, self._settings = spec, settings

    def begin(self, network: nn.Module, place: Place) -> None:
        """Nothing: patches are drawn evenly."""

    def losses(self, network: nn.Module, place: Place, step: int) -> Mapping[str, Tensor]:
        """Of the windows on a logo, and of the hardest ones on background."""
        wanted = batch_settings(self._spec, self._settings, place.world_size)
        batch = draw_batch(self.store, wanted, (place.seed, place.epoch, step, place.rank))
        patches = torch.from_numpy(batch.patches).to(place.device)
        targets = torch.from_numpy(batch.targets).to(place.device)
        share = hardest_share(self._settings, place, step)
        # Pooling may leave room for one window more than the patch holds whole.
        logits = network(patches)[:, :, : targets.shape[1], : targets.shape[2]]
        logo, background = loss(logits.float(), targets, share)
        return {"logo_loss": logo, "background_loss": background}

    def logits(self, network: nn.Module, crops: Sequence[Crop]) -> Tensor:
        """(B, K) of the window exactly on each crop's box."""
        windows = centred_windows(crops, self._spec.window_hw, self._spec.context)
        return _ask(network, windows)


class JudgeLesson:
    """Proposed boxes on and beside logos, and on background, of which some is hard."""

    def __init__(
        self, scout: ModelSpec, judge: ModelSpec, store: CropStore, settings: TrainingSettings
    ) -> None:
        mined = [crop for crop in store.background if crop.origin == "hard_negative"]
        plain = [crop for crop in store.background if crop.origin != "hard_negative"]
        kept = plain[::EVERY] if mined else plain
        self.store = replace(store, background=(*mined, *kept))
        self._scout, self._judge, self._settings = scout, judge, settings
        self._hard: NDArray[np.int64] | None = None

    def begin(self, network: nn.Module, place: Place) -> None:
        """Find out which background looks most like a logo to the network, after a first epoch."""
        if place.epoch == 0:
            return
        rng = np.random.default_rng((place.seed, place.epoch, place.rank))
        count = min(-(-ASKED // place.world_size), len(self.store.background))
        asked = np.sort(rng.choice(len(self.store.background), count, replace=False))
        network.eval()
        device = torch.device(place.device).type
        with (
            torch.inference_mode(),
            torch.autocast(device, torch.bfloat16, self._settings.bfloat16),
        ):
            logits = _in_batches(self, network, [self.store.background[i] for i in asked]).float()
        odds = (logits[:, 1:].amax(1) - logits[:, BACKGROUND]).cpu().numpy()
        hardest = np.argsort(-odds, kind="stable")
        self._hard = asked[hardest[: max(1, round(self._settings.hard_share * count))]]

    def losses(self, network: nn.Module, place: Place, step: int) -> Mapping[str, Tensor]:
        """Of logos, of background, and of the boxes."""
        wanted = proposal_settings(self._scout, self._judge, self._settings, place.world_size)
        seed = place.seed, place.epoch, step, place.rank
        batch = draw_proposals(self.store, wanted, seed, self._hard)
        columns = (batch.windows, batch.classes, batch.deltas, batch.on_logo)
        windows, *known = (torch.from_numpy(column).to(place.device) for column in columns)
        outputs = network(windows).float().flatten(1)
        logo, background, boxes = judge_loss(outputs, *known)
        return {"logo_loss": logo, "background_loss": background, "box_loss": boxes}

    def logits(self, network: nn.Module, crops: Sequence[Crop]) -> Tensor:
        """(B, K) of the box of each crop."""
        windows = cut_still(crops, self._judge.window_hw, self._judge.context)
        return _ask(network, windows)[:, :-BOX_DELTAS]


def lesson_of(model: Model, store: CropStore, settings: TrainingSettings) -> tuple[Lesson, Network]:
    """What teaches the network of a model that decides, and that network."""
    if isinstance(model.network, Cascade):
        scout, judge = model.spec.stages
        return JudgeLesson(scout, judge, store, settings), model.network.judge
    return WindowLesson(model.spec, store, settings), model.network


def as_one_class(store: CropStore, labels: Sequence[str]) -> CropStore:
    """The store with all logos in the one class of a scout."""
    classes = np.ones(len(store.logos), np.int64)
    classes.setflags(write=False)
    return CropStore(tuple(labels), store.logos, classes, store.background)


def batch_settings(spec: ModelSpec, settings: TrainingSettings, world_size: int) -> BatchSettings:
    """What each rank's batch holds: its share of the whole batch.

    A network that is too costly for many patches gets patches of a single window.
    """
    logos, background = settings.logos, settings.background
    patch_hw = (
        math.ceil(spec.window_hw[0] * PATCH_SIDES),
        math.ceil(spec.window_hw[1] * PATCH_SIDES),
    )
    if multiply_adds(spec, patch_hw) * (logos + background) > PATCH_BUDGET:
        patch_hw = spec.window_hw
    return BatchSettings(
        window_hw=spec.window_hw,
        stride=spec.stride,
        context=spec.context,
        logos=max(1, logos // world_size),
        background=max(1, background // world_size),
        patch_hw=patch_hw,
        logo_iou=min(MOST_LOGO_IOU, 2 ** (-1 / spec.levels_per_octave)),
        scale=2 ** (0.5 / spec.levels_per_octave) * 1.03,
        strays=settings.strays,
        augment=settings.augment,
    )


def proposal_settings(
    scout: ModelSpec, judge: ModelSpec, settings: TrainingSettings, world_size: int
) -> ProposalSettings:
    """What each rank's batch of the judge holds: its share of the whole batch."""
    height, width = (side / scout.context for side in scout.window_hw)
    return ProposalSettings(
        window_hw=judge.window_hw,
        context=judge.context,
        aspect=width / height,
        reach=(scout.stride / 2 + 0.6) / min(height, width),
        scale=2 ** (0.5 / scout.levels_per_octave) * 1.1,
        near=max(1, settings.near // world_size),
        moved=max(1, settings.moved // world_size),
        far=max(1, settings.far // world_size),
        background=max(1, settings.candidates // world_size),
        augment=settings.augment,
    )


def hardest_share(settings: TrainingSettings, place: Place, step: int) -> float:
    """The share of background that counts: all of it at first, then ever harder windows.

    With the hardest alone from the start a fresh network can do no better than to say the same of
    everything, and stays there.
    """
    batches = settings.steps * settings.accumulate
    done = (place.epoch + step / batches) / place.epochs
    return float(settings.hardest ** min(1.0, done / EASY))


def class_weights(classes: Sequence[int], count: int) -> Tensor:
    """(K,) weights inverse to how often a class comes in a batch, of mean 1 over the batch."""
    numbers = np.bincount(np.asarray(classes, np.int64), minlength=count).astype(np.float64)
    present = numbers > 0
    weights = np.where(present, len(classes) / np.maximum(numbers, 1) / max(1, present.sum()), 0)
    return torch.tensor(weights, dtype=torch.float32)


def loss(logits: Tensor, targets: Tensor, hardest: float) -> tuple[Tensor, Tensor]:
    """(loss of the windows on a logo, loss of those on background), both means.

    `logits` (B, K, h, w), `targets` (B, h, w). Classes of logos weigh the same, however often each
    comes. Of the background only the hardest share counts, as in online hard example mining
    (Shrivastava et al., CVPR 2016).
    """
    each = functional.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
    on_logo = targets > BACKGROUND
    found = targets[on_logo]
    weights = class_weights(found.tolist(), logits.shape[1]).to(logits.device)
    logo = (each[on_logo] * weights[found]).sum() / max(1, len(found))
    beside = each[targets == BACKGROUND]
    kept = beside.topk(max(1, round(hardest * beside.numel()))).values
    return logo, kept.mean()


def judge_loss(
    outputs: Tensor, classes: Tensor, deltas: Tensor, on_logo: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss of logos, of background, of boxes): means over those that each concerns.

    `outputs` (B, K + 4), `classes` (B,), `deltas` (B, 4), `on_logo` (B,).
    """
    logits, moved = outputs[:, :-BOX_DELTAS], outputs[:, -BOX_DELTAS:]
    each = functional.cross_entropy(logits, classes, reduction="none", ignore_index=IGNORED)
    is_logo, is_background = classes > BACKGROUND, classes == BACKGROUND
    off = functional.smooth_l1_loss(moved, deltas, reduction="none", beta=0.05).sum(1)
    logo, background, boxes = (
        values[chosen].sum() / chosen.sum().clamp(min=1)
        for values, chosen in ((each, is_logo), (each, is_background), (off, on_logo))
    )
    return logo, background, boxes


def _ask(network: nn.Module, windows: NDArray[np.uint8]) -> Tensor:
    """(B, outputs) of (B, 3, h, w) windows."""
    device = next(network.parameters()).device
    answers: Tensor = network(torch.from_numpy(windows).to(device)).flatten(1)
    return answers


def _in_batches(lesson: Lesson, network: nn.Module, crops: Sequence[Crop]) -> Tensor:
    parts = [
        lesson.logits(network, crops[start : start + SCORED_AT_ONCE])
        for start in range(0, len(crops), SCORED_AT_ONCE)
    ]
    return torch.cat(parts)
