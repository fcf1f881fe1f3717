"""Batches for networks that are laid over a level: patches, and what each window in them shows.

A patch is larger than a window, so it holds windows on a logo, beside it and away from it at once,
as a level does. A batch depends on the seed, the epoch, the step and the rank alone, so training
that resumes sees what undisturbed training saw.

B patches, H W pixels of one, h w cells of its score map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.records import BACKGROUND, Crop
from nnst.training.augmentation import (
    Distortion,
    Matrix,
    Pixels,
    corners,
    degrade,
    distort,
    frame,
    paste,
    warp,
)
from nnst.training.settings import AugmentSettings

IGNORED = -1  # as a target: neither logo nor background
BACKGROUND_IOU = 0.6  # of the least IoU of a logo: what overlaps it less is background
STILL = AugmentSettings(rotate=0, stretch=0, shear=0, perspective=0)


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
    stride: int  # pixels between windows
    context: float  # side of a window over side of the object that it shows
    logos: int  # patches with a logo
    background: int  # patches without
    patch_hw: tuple[int, int]
    logo_iou: float  # least IoU of a window's object with the logo, at its own aspect
    scale: float  # factor, half a step of the scan's pyramid
    strays: float  # share of logos of any size, also one at which no window should find it
    augment: AugmentSettings


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches, and the class of each of their windows."""

    patches: NDArray[np.uint8]  # (B, 3, H, W) RGB
    targets: NDArray[np.int64]  # (B, h, w), IGNORED where a window shows half a logo


def draw_batch(store: CropStore, settings: BatchSettings, seed: tuple[int, int, int, int]) -> Batch:
    """The batch of this (seed, epoch, step, rank). Classes of logos are drawn equally often."""
    rng = np.random.default_rng(seed)
    picks = balanced(store.classes, settings.logos, rng)
    drawn = [_logo_patch(store, pick, settings, rng) for pick in picks.tolist()]
    empty = np.full(_grid_hw(settings), BACKGROUND, np.int64)
    drawn += [(_patch(store, settings, rng), empty) for _ in range(settings.background)]
    return Batch(
        planes([patch for patch, _ in drawn], settings.patch_hw),
        np.stack([targets for _, targets in drawn]),
    )


def centred_windows(
    crops: Sequence[Crop], window_hw: tuple[int, int], context: float
) -> NDArray[np.uint8]:
    """(N, 3, h, w) the window exactly on each crop's box, unchanged: for validation."""
    rng = np.random.default_rng(0)  # without a say in what STILL changes
    middle = window_hw[1] / 2, window_hw[0] / 2
    windows = []
    for crop in crops:
        logo = distort(crop.box_in_crop, STILL, rng)
        scale = np.full(2, _scale_to(logo, window_hw, context))
        matrix = frame(logo.center, scale, middle) @ logo.matrix
        windows.append(warp(crop.pixels, matrix, window_hw))
    return planes(windows, window_hw)


def balanced(classes: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(count,) indices in which each class comes equally often, on average."""
    order = np.argsort(classes, kind="stable")
    _, starts, sizes = np.unique(classes[order], return_index=True, return_counts=True)
    wanted = rng.integers(len(starts), size=count)
    within = (rng.random(count) * sizes[wanted]).astype(np.int64)
    return np.asarray(order[starts[wanted] + within], np.int64)


def cell_targets(
    box: NDArray[np.float64], label: int, settings: BatchSettings
) -> NDArray[np.int64]:
    """(h, w) the class of every window of a patch with a logo in this box of it.

    A window can have but one shape, so the logo counts as a box of the window's aspect with its
    centre and its area.
    """
    height, width = (side / settings.context for side in settings.window_hw)
    rows, columns = _grid_hw(settings)
    y, x = np.mgrid[:rows, :columns] * settings.stride
    centers = np.stack([x + settings.window_hw[1] / 2, y + settings.window_hw[0] / 2], axis=-1)
    area = max(float((box[2] - box[0]) * (box[3] - box[1])), 1e-6)
    size = np.array([math.sqrt(area * height / width), math.sqrt(area * width / height)])
    logo = boxes_.from_center((box[None, :2] + box[None, 2:]) / 2, size[None])
    windows = boxes_.from_center(centers.reshape(-1, 2), np.array([[height, width]]))
    iou = boxes_.pairwise_iou(windows, logo).reshape(rows, columns)
    targets = np.where(iou < BACKGROUND_IOU * settings.logo_iou, BACKGROUND, IGNORED)
    targets[iou >= settings.logo_iou] = label
    return targets.astype(np.int64)


def _logo_patch(
    store: CropStore, pick: int, settings: BatchSettings, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.int64]]:
    """A logo somewhere in a patch, at a size that some level of the pyramid would show."""
    crop = store.logos[pick]
    logo = distort(crop.box_in_crop, settings.augment, rng)
    scale = _scale_to(logo, settings.window_hw, settings.context)
    scale *= settings.scale ** rng.uniform(-1, 1)
    if rng.random() < settings.strays:
        scale *= math.exp(rng.uniform(-1.1, 1.1))
    height, width = settings.patch_hw
    room = (width - settings.window_hw[1]) / 2, (height - settings.window_hw[0]) / 2
    x, y = (rng.uniform(-1, 1, 2) * room).tolist()
    at = width / 2 + x, height / 2 + y
    box = np.concatenate([at - scale * logo.size / 2, at + scale * logo.size / 2])
    matrix = frame(logo.center, np.full(2, scale), at) @ logo.matrix
    patch = show(store, crop, matrix, settings.patch_hw, settings.augment, rng)
    return patch, cell_targets(box, int(store.classes[pick]), settings)


def show(
    store: CropStore,
    crop: Crop,
    matrix: Matrix,
    hw: tuple[int, int],
    augment: AugmentSettings,
    rng: np.random.Generator,
) -> Pixels:
    """(h, w, 3) the crop through a matrix, degraded; now and then on another background.

    Scenery stands wherever the crop ends too: grey there would tell where a logo is not.
    """
    # Replicated, as grey would shine through along the seam.
    border = cv2.BORDER_REPLICATE if store.background else cv2.BORDER_CONSTANT
    window = warp(crop.pixels, matrix, hw, border)
    whole = 0.0, 0.0, float(crop.pixels.shape[1]), float(crop.pixels.shape[0])
    x0, y0, x1, y1 = crop.box_in_crop.tolist()
    pasted = bool(crop.label) and rng.random() < augment.paste
    polygon = corners(matrix, (x0, y0, x1, y1) if pasted else whole)
    if store.background and (pasted or not _covers(polygon, hw)):
        window = paste(window, _scenery(store, hw, rng), polygon)
    return degrade(window, augment, rng)


def _covers(polygon: NDArray[np.float64], hw: tuple[int, int]) -> bool:
    """Whether a convex polygon, its corners in turn, holds all of a window."""
    points = np.array([[0, 0], [hw[1], 0], [hw[1], hw[0]], [0, hw[0]]])
    edge = np.roll(polygon, -1, axis=0) - polygon  # (4, 2)
    apart = points[:, None] - polygon[None]  # (4, 4, 2)
    side = edge[:, 0] * apart[..., 1] - edge[:, 1] * apart[..., 0]
    return bool((side >= 0).all() or (side <= 0).all())


def _patch(store: CropStore, settings: BatchSettings, rng: np.random.Generator) -> Pixels:
    """A piece of a background crop, at the scale it was cut for or up to 1.8 times larger."""
    crop = store.background[rng.integers(len(store.background))]
    logo = distort(crop.box_in_crop, settings.augment, rng)
    scale = _scale_to(logo, settings.window_hw, settings.context) * math.exp(rng.uniform(0, 0.6))
    height, width = settings.patch_hw
    x, y = (rng.uniform(-0.3, 0.3, 2) * settings.window_hw[::-1]).tolist()
    matrix = frame(logo.center, np.full(2, scale), (width / 2 + x, height / 2 + y)) @ logo.matrix
    return show(store, crop, matrix, settings.patch_hw, settings.augment, rng)


def _scenery(store: CropStore, hw: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """A piece of a background crop that fills a window of any size."""
    crop = store.background[rng.integers(len(store.background))]
    height, width = crop.pixels.shape[:2]
    fits = max(hw[0] / height, hw[1] / width)
    scale = np.full(2, fits * math.exp(rng.uniform(0, 0.6)))
    middle = np.array([width, height]) / 2
    matrix = frame(middle, scale, (hw[1] / 2, hw[0] / 2))
    return warp(crop.pixels, matrix, hw, cv2.BORDER_REPLICATE)


def _scale_to(logo: Distortion, window_hw: tuple[int, int], context: float) -> float:
    """The scale at which a logo has the area of the object that a window shows."""
    area = window_hw[0] * window_hw[1] / context**2
    return math.sqrt(area / max(float(logo.size.prod()), 1e-6))


def _grid_hw(settings: BatchSettings) -> tuple[int, int]:
    height, width = (
        (patch - window) // settings.stride + 1
        for patch, window in zip(settings.patch_hw, settings.window_hw, strict=True)
    )
    return height, width


def planes(windows: Sequence[Pixels], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(N, 3, h, w) of (h, w, 3) pictures; channels stay last in memory, as convolutions like it."""
    stacked = np.stack(windows) if windows else np.zeros((0, *hw, 3), np.uint8)
    return stacked.transpose(0, 3, 1, 2)
