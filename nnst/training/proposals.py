"""Batches for the judge: crops of proposed boxes, what they show, and where the logo really is.

A proposal is a box that a scout may point at, or that the judge itself has moved before: about
right and of the window's shape, nearly right and of the logo's shape, or well beside it.

B proposals, h w pixels of the judge's window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.records import BACKGROUND, Crop
from nnst.training.augmentation import Distortion, Pixels, distort, frame, warp
from nnst.training.batches import IGNORED, STILL, CropStore, balanced, planes, show
from nnst.training.settings import AugmentSettings

LOGO_IOU, BACKGROUND_IOU = 0.5, 0.25  # of a far proposal with the logo
BOX_IOU = 0.3  # with less the judge need not know where the logo is


@dataclass(frozen=True, slots=True)
class ProposalSettings:
    """What a batch holds."""

    window_hw: tuple[int, int]  # the judge's
    context: float  # side of its window over side of the box that it judges
    aspect: float  # width over height of the boxes that the scout gives
    reach: float  # how far off the scout's boxes are, in their own sides, at most
    scale: float  # factor by which they are too large or too small, at most
    near: int  # proposals as the scout gives them
    moved: int  # as the judge moves them
    far: int  # well off
    background: int
    augment: AugmentSettings


@dataclass(frozen=True, slots=True)
class ProposalBatch:
    """Crops of proposals, with classes and what moves each onto its logo."""

    windows: NDArray[np.uint8]  # (B, 3, h, w) RGB
    classes: NDArray[np.int64]  # (B,), IGNORED for half a logo
    deltas: NDArray[np.float32]  # (B, 4) dx, dy in sides of the box, log of dw, log of dh
    on_logo: NDArray[np.bool_]  # (B,) whether the deltas mean something


def draw_proposals(
    store: CropStore,
    settings: ProposalSettings,
    seed: tuple[int, int, int, int],
    hard: NDArray[np.int64] | None = None,
) -> ProposalBatch:
    """The batch of this (seed, epoch, step, rank).

    `hard` are indices into `store.background` from which half of the background is drawn.
    """
    rng = np.random.default_rng(seed)
    drawn: list[tuple[Pixels, int, NDArray[np.float64] | None]] = []
    kinds = (settings.near, _near), (settings.moved, _moved), (settings.far, _far)
    for count, propose in kinds:
        for pick in balanced(store.classes, count, rng).tolist():
            crop = store.logos[pick]
            logo = distort(crop.box_in_crop, settings.augment, rng)
            box = propose(logo, settings, rng)
            label = int(store.classes[pick])
            iou = _iou(box, logo.box)
            if propose is _far:
                label = label if iou >= LOGO_IOU else IGNORED
                label = BACKGROUND if iou < BACKGROUND_IOU else label
            deltas = _deltas(box, logo.box) if iou >= BOX_IOU or propose is _near else None
            drawn.append((_cut(store, crop, (logo, box), settings, rng), label, deltas))
    for pick in _background(store, settings.background, hard, rng):
        crop = store.background[pick]
        logo = distort(crop.box_in_crop, settings.augment, rng)
        box = _shaken(logo, settings, rng)
        drawn.append((_cut(store, crop, (logo, box), settings, rng), BACKGROUND, None))
    moves = [np.zeros(4) if item is None else item for _, _, item in drawn]
    return ProposalBatch(
        windows=planes([window for window, _, _ in drawn], settings.window_hw),
        classes=np.array([label for _, label, _ in drawn], np.int64),
        deltas=np.array(moves, np.float32).reshape(-1, 4),
        on_logo=np.array([item is not None for _, _, item in drawn], bool),
    )


def _background(
    store: CropStore, count: int, hard: NDArray[np.int64] | None, rng: np.random.Generator
) -> list[int]:
    picks = rng.integers(len(store.background), size=count)
    if hard is not None and len(hard):
        picks[: count // 2] = rng.choice(hard, count // 2)
    return [int(pick) for pick in picks]


def _near(
    logo: Distortion, settings: ProposalSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Of the window's shape, with about the logo's area."""
    area = float(logo.size.prod()) * settings.scale ** (2 * rng.uniform(-1, 1))
    size = np.array([math.sqrt(area * settings.aspect), math.sqrt(area / settings.aspect)])
    center = logo.center + rng.uniform(-settings.reach, settings.reach, 2) * size
    return np.concatenate([center - size / 2, center + size / 2])


def _moved(
    logo: Distortion, settings: ProposalSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Of about the logo's own shape, size and place."""
    size = logo.size * np.exp(rng.standard_normal(2) * 0.1)
    center = logo.center + rng.standard_normal(2) * 0.05 * size
    return np.concatenate([center - size / 2, center + size / 2])


def _far(
    logo: Distortion, settings: ProposalSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Off by up to a side, and up to twice too large or too small."""
    size = _near(logo, settings, rng)
    size = (size[2:] - size[:2]) * math.exp(rng.uniform(-0.7, 0.7))
    center = logo.center + rng.uniform(-0.8, 0.8, 2) * np.maximum(size, logo.size)
    return np.concatenate([center - size / 2, center + size / 2])


def _shaken(
    logo: Distortion, settings: ProposalSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A background box nearly where it was: the network was wrong about this very place."""
    size = logo.size * np.exp(rng.standard_normal(2) * 0.05)
    center = logo.center + rng.standard_normal(2) * 0.04 * size
    return np.concatenate([center - size / 2, center + size / 2])


def _cut(
    store: CropStore,
    crop: Crop,
    where: tuple[Distortion, NDArray[np.float64]],
    settings: ProposalSettings,
    rng: np.random.Generator,
) -> Pixels:
    """(h, w, 3) the box and what is around it, stretched to the judge's window."""
    logo, box = where
    height, width = settings.window_hw
    scale = np.array([width, height]) / settings.context / (box[2:] - box[:2])
    matrix = frame((box[:2] + box[2:]) / 2, scale, (width / 2, height / 2)) @ logo.matrix
    return show(store, crop, matrix, settings.window_hw, settings.augment, rng)


def _deltas(box: NDArray[np.float64], logo: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) as `boxes.deltas`, of one box."""
    return np.asarray(
        boxes_.deltas(box[None].astype(np.float32), logo[None].astype(np.float32))[0], np.float64
    )


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(
        boxes_.pairwise_iou(one[None].astype(np.float32), other[None].astype(np.float32))[0, 0]
    )


def cut_still(
    crops: Sequence[Crop], window_hw: tuple[int, int], context: float
) -> NDArray[np.uint8]:
    """(N, 3, h, w) the box of each crop as the judge sees it in a scan, unchanged."""
    rng = np.random.default_rng(0)  # without a say in what STILL changes
    height, width = window_hw
    windows = []
    for crop in crops:
        logo = distort(crop.box_in_crop, STILL, rng)
        scale = np.array([width, height]) / context / logo.size
        matrix = frame(logo.center, scale, (width / 2, height / 2)) @ logo.matrix
        windows.append(warp(crop.pixels, matrix, window_hw))
    return planes(windows, window_hw)
