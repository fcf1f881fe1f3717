"""Batches for one step: windows on and beside the logos, and patches of background.

A batch depends on the seed, the epoch, the step and the rank alone, so training that resumes
sees what undisturbed training saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst.records import BACKGROUND, Crop
from nnst.training.augmentation import degrade, paste, view, warp
from nnst.training.settings import AugmentSettings

NEAR_MISS_IOU = 0.3  # a window that shares less than this with a logo's window is background


@dataclass(frozen=True, slots=True)
class CropStore:
    """The crops of one side of the split, with the classes of their labels."""

    labels: tuple[str, ...]  # class names; labels[0] is background
    logos: tuple[Crop, ...]
    background: tuple[Crop, ...]

    @classmethod
    def of(cls, crops: Sequence[Crop], labels: Sequence[str]) -> CropStore:
        """The crops sorted by what they show. Raises ValueError for a label not in `labels`."""
        unknown = {crop.label for crop in crops if crop.label} - set(labels[1:])
        if unknown:
            raise ValueError(f"no class for the labels {sorted(unknown)}")
        logos = tuple(crop for crop in crops if crop.label)
        return cls(tuple(labels), logos, tuple(crop for crop in crops if not crop.label))

    def classes(self) -> NDArray[np.int64]:
        """(N,) the class of each logo crop."""
        return np.array([self.labels.index(crop.label) for crop in self.logos], np.int64)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What a batch holds."""

    window_hw: tuple[int, int]
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
    classes = store.classes()
    picks = _balanced(classes, settings.logos, rng)
    windows = [_logo(store, int(pick), settings, rng) for pick in picks]
    beside = rng.integers(len(store.logos), size=settings.near_misses)
    windows += [_near_miss(store.logos[pick], settings, rng) for pick in beside]
    patches = [_patch(store, settings, rng) for _ in range(settings.patches)]
    targets = np.concatenate([classes[picks], np.full(settings.near_misses, BACKGROUND)])
    return Batch(
        _planes(windows, settings.window_hw),
        targets.astype(np.int64),
        _planes(patches, settings.patch_hw),
    )


def centred_windows(crops: Sequence[Crop], window_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(N, 3, h, w) the window exactly on each crop's box, unchanged: for validation."""
    still = AugmentSettings(rotate=0, stretch=0, shear=0)
    rng = np.random.default_rng(0)
    windows = [
        warp(crop.pixels, view(crop.box_in_crop, window_hw, (0, 0, 1), still, rng), window_hw)
        for crop in crops
    ]
    return _planes(windows, window_hw)


def _balanced(
    classes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(count,) indices in which each class comes equally often."""
    present = np.unique(classes)
    members = {label: np.flatnonzero(classes == label) for label in present}
    return np.array([rng.choice(members[label]) for label in rng.choice(present, size=count)])


def _logo(
    store: CropStore, pick: int, settings: BatchSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    crop = store.logos[pick]
    placement = (
        rng.uniform(-settings.shift, settings.shift),
        rng.uniform(-settings.shift, settings.shift),
        settings.scale ** rng.uniform(-1, 1),
    )
    matrix = view(crop.box_in_crop, settings.window_hw, placement, settings.augment, rng)
    window = warp(crop.pixels, matrix, settings.window_hw)
    if store.background and rng.random() < settings.augment.paste:
        window = paste(window, _scenery(store, settings, rng), crop.box_in_crop, matrix)
    return degrade(window, settings.augment, rng)


def _near_miss(crop: Crop, settings: BatchSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A window that sees part of a logo, or a logo much too large or too small."""
    height, width = settings.window_hw
    while True:
        dx, dy = rng.uniform(-0.9, 0.9, size=2) * (width, height)
        scale = np.exp(rng.uniform(-1.1, 1.1))
        if _window_iou(dx / width, dy / height, scale) < NEAR_MISS_IOU:
            break
    matrix = view(crop.box_in_crop, settings.window_hw, (dx, dy, scale), settings.augment, rng)
    return degrade(warp(crop.pixels, matrix, settings.window_hw), settings.augment, rng)


def _window_iou(dx: float, dy: float, scale: float) -> float:
    """IoU of the unit square with one of this side whose centre is off by (dx, dy)."""
    shared = 1.0
    for offset in (dx, dy):
        shared *= max(0.0, min(0.5, offset + scale / 2) - max(-0.5, offset - scale / 2))
    return shared / (1 + scale * scale - shared)


def _patch(
    store: CropStore, settings: BatchSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    crop = store.background[rng.integers(len(store.background))]
    return degrade(_place(crop, settings.patch_hw, settings, rng), settings.augment, rng)


def _scenery(
    store: CropStore, settings: BatchSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    crop = store.background[rng.integers(len(store.background))]
    return _place(crop, settings.window_hw, settings, rng)


def _place(
    crop: Crop, hw: tuple[int, int], settings: BatchSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A piece of a background crop at about the scale it was cut for."""
    height, width = settings.window_hw
    offset = rng.uniform(-0.3, 0.3, size=2) * (width, height)
    matrix = view(
        crop.box_in_crop,
        settings.window_hw,
        (offset[0], offset[1], np.exp(rng.uniform(-0.4, 0.4))),
        settings.augment,
        rng,
    )
    matrix[:, 2] += (np.array([hw[1], hw[0]]) - (width, height)) / 2  # centred in the patch
    return warp(crop.pixels, matrix, hw)


def _planes(windows: Sequence[NDArray[np.uint8]], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(N, 3, h, w) of (h, w, 3) pictures."""
    if not windows:
        return np.zeros((0, 3, *hw), np.uint8)
    return np.ascontiguousarray(np.stack(windows).transpose(0, 3, 1, 2))
