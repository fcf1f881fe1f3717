"""Batches for one step: windows on and beside the logos, and patches of background.

A batch depends on the seed, the epoch, the step and the rank alone, so training that resumes
sees what undisturbed training saw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst.records import BACKGROUND, Crop
from nnst.training.augmentation import degrade, paste, view, warp
from nnst.training.settings import AugmentSettings

NEAR_MISS_IOU = 0.3  # a window whose object shares less than this with the logo is background
STILL = AugmentSettings(rotate=0, stretch=0, shear=0)


@dataclass(frozen=True, slots=True)
class CropStore:
    """The crops of one side of the split, with the classes of their labels."""

    labels: tuple[str, ...]  # class names; labels[0] is background
    logos: tuple[Crop, ...]
    classes: NDArray[np.int64]  # (N,) of the logos
    background: tuple[Crop, ...]

    @classmethod
    def of(cls, crops: Sequence[Crop], labels: Sequence[str]) -> CropStore:
        """The crops sorted by what they show. Raises ValueError for a label not in `labels`."""
        unknown = {crop.label for crop in crops if crop.label} - set(labels[1:])
        if unknown:
            raise ValueError(f"no class for the labels {sorted(unknown)}")
        logos = tuple(crop for crop in crops if crop.label)
        classes = np.array([labels.index(crop.label) for crop in logos], np.int64)
        classes.setflags(write=False)
        return cls(tuple(labels), logos, classes, tuple(crop for crop in crops if not crop.label))


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What a batch holds."""

    window_hw: tuple[int, int]
    context: float  # side of a window over side of the object that it shows
    logos: int  # windows on a logo
    near_misses: int  # windows beside one
    patches: int  # of background, each seen densely
    patch_hw: tuple[int, int]
    shift: float  # window pixels, half of what the scan's grid may be off
    scale: float  # factor, half a step of the scan's pyramid
    augment: AugmentSettings


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows with classes, and patches whose every window is background."""

    windows: NDArray[np.uint8]  # (B, 3, h, w) RGB
    classes: NDArray[np.int64]  # (B,)
    patches: NDArray[np.uint8]  # (P, 3, H, W) RGB


def draw_batch(store: CropStore, settings: BatchSettings, seed: tuple[int, int, int, int]) -> Batch:
    """The batch of this (seed, epoch, step, rank). Classes of logos are drawn equally often."""
    rng = np.random.default_rng(seed)
    picks = _balanced(store.classes, settings.logos, rng)
    windows = [_logo(store, pick, settings, rng) for pick in picks.tolist()]
    beside = rng.integers(len(store.logos), size=settings.near_misses)
    windows += [_near_miss(store.logos[pick], settings, rng) for pick in beside.tolist()]
    patches = [_patch(store, settings, rng) for _ in range(settings.patches)]
    targets = np.concatenate([store.classes[picks], np.full(settings.near_misses, BACKGROUND)])
    return Batch(
        _planes(windows, settings.window_hw),
        targets.astype(np.int64),
        _planes(patches, settings.patch_hw),
    )


def centred_windows(
    crops: Sequence[Crop], window_hw: tuple[int, int], context: float
) -> NDArray[np.uint8]:
    """(N, 3, h, w) the window exactly on each crop's box, unchanged: for validation."""
    rng = np.random.default_rng(0)  # without a say in what STILL changes
    placement = (0.0, 0.0, 1 / context)
    windows = [
        warp(crop.pixels, view(crop.box_in_crop, window_hw, placement, STILL, rng), window_hw)
        for crop in crops
    ]
    return _planes(windows, window_hw)


def _balanced(
    classes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(count,) indices in which each class comes equally often, on average."""
    present = np.unique(classes)
    wanted = rng.choice(present, size=count)
    picks = np.empty(count, np.int64)
    for label in present:
        places = wanted == label
        picks[places] = rng.choice(np.flatnonzero(classes == label), size=places.sum())
    return picks


def _logo(
    store: CropStore, pick: int, settings: BatchSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    crop = store.logos[pick]
    placement = (
        rng.uniform(-settings.shift, settings.shift),
        rng.uniform(-settings.shift, settings.shift),
        settings.scale ** rng.uniform(-1, 1) / settings.context,
    )
    matrix = view(crop.box_in_crop, settings.window_hw, placement, settings.augment, rng)
    window = warp(crop.pixels, matrix, settings.window_hw)
    if store.background and rng.random() < settings.augment.paste:
        scenery = _scenery(store, settings.window_hw, settings, rng)
        window = paste(window, scenery, crop.box_in_crop, matrix)
    return degrade(window, settings.augment, rng)


def _near_miss(crop: Crop, settings: BatchSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A window that sees part of a logo, or a logo much too large or too small."""
    placement = near_miss_placement(settings, rng)
    matrix = view(crop.box_in_crop, settings.window_hw, placement, settings.augment, rng)
    return degrade(warp(crop.pixels, matrix, settings.window_hw), settings.augment, rng)


def near_miss_placement(
    settings: BatchSettings, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Where a logo lies, as `view` takes it, when the window's object hardly overlaps it."""
    height, width = (side / settings.context for side in settings.window_hw)
    while True:
        size = math.exp(rng.uniform(-1.1, 1.1))
        reach = 0.9 * (settings.context + min(size, 1)) / 2  # so that the window sees some of it
        dx, dy = rng.uniform(-reach, reach, size=2)  # in sides of the object
        if _iou(dx, dy, size) < NEAR_MISS_IOU:
            return dx * width, dy * height, size / settings.context


def _iou(dx: float, dy: float, size: float) -> float:
    """IoU of the unit square with one of this side whose centre is off by (dx, dy)."""
    shared = 1.0
    for offset in (dx, dy):
        shared *= max(0.0, min(0.5, offset + size / 2) - max(-0.5, offset - size / 2))
    return shared / (1 + size * size - shared)


def _patch(
    store: CropStore, settings: BatchSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    return degrade(_scenery(store, settings.patch_hw, settings, rng), settings.augment, rng)


def _scenery(
    store: CropStore, hw: tuple[int, int], settings: BatchSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A piece of a background crop, at the scale it was cut for or up to 1.8 times larger.

    So a crop with its context fills a patch, and has the resolution for it.
    """
    crop = store.background[rng.integers(len(store.background))]
    height, width = settings.window_hw
    # As to a window in the middle of the piece.
    dx, dy = rng.uniform(-0.3, 0.3, size=2) * (width, height)
    placement = dx, dy, math.exp(rng.uniform(0, 0.6)) / settings.context
    matrix = view(crop.box_in_crop, settings.window_hw, placement, settings.augment, rng)
    matrix[:, 2] += (hw[1] - width) / 2, (hw[0] - height) / 2
    return warp(crop.pixels, matrix, hw)


def _planes(windows: Sequence[NDArray[np.uint8]], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(N, 3, h, w) of (h, w, 3) pictures; channels stay last in memory, as convolutions like it."""
    stacked = np.stack(windows) if windows else np.zeros((0, *hw, 3), np.uint8)
    return stacked.transpose(0, 3, 1, 2)
