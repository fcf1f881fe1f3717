"""Word marks from SVG files, drawn on photographs as crops: what a judge sees before any logo.

A mark and its mirror image are two marks: to tell them apart a network must look at shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst import images
from nnst.errors import ImageError, InputError
from nnst.records import Crop

DRAWN_HEIGHT = 120  # pixels at which an SVG is drawn
AREA = 2400  # pixels of a mark in its crop
LEAST_SIDE = 14
AROUND = 0.75  # of scenery on each side of a mark, in sides of a square of its area
MOST_ASPECT = 8.0
ONE_COLOUR, PLATE, ANY_PLATE = 0.35, 0.6, 0.6  # shares of the drawings
LEAST_CONTRAST = 120  # of a mark to its plate, summed over the channels

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mark:
    """A drawing without background."""

    name: str
    colours: NDArray[np.float32]  # (h, w, 3) RGB, 0 to 255
    alpha: NDArray[np.float32]  # (h, w, 1), 0 to 1


def read_marks(folder: str | Path) -> list[Mark]:
    """Every SVG file of a folder that can be drawn, and its mirror image, by name.

    Raises InputError when there are fewer than two.
    """
    marks: list[Mark] = []
    for path in sorted(Path(folder).glob("*.svg")):
        mark = _draw(path)
        if mark is not None:
            colours, alpha = mark.colours[:, ::-1], mark.alpha[:, ::-1]
            marks += [mark, Mark(f"{mark.name}-mirrored", colours, alpha)]
    if len(marks) < 4:
        raise InputError(f"{folder} holds fewer than two drawable SVG files", "give word marks")
    return marks


def drawn_crops(
    marks: Sequence[Mark], photographs: Sequence[Pixels], each: int, seed: int
) -> Iterator[Crop]:
    """`each` crops of every mark: in its colours or in one, on a plate or on a photograph."""
    for index, mark in enumerate(marks):
        small = _resized(mark)
        rng = np.random.default_rng([seed, index])
        for _ in range(each):
            pixels, box = _on_scenery(small, photographs, rng)
            yield Crop(pixels, mark.name, "positive", mark.name, box, box)


def _draw(path: Path) -> Mark | None:
    """The drawing in a file, cut to what it shows; None if it shows nothing or is very long.

    It is drawn on black and on white: what differs between them is what shines through.
    """
    try:
        import resvg_py
    except ImportError:
        what = "drawing SVG files needs the package resvg-py"
        raise InputError(what, "pip install 'nnst[pretrain]'") from None
    text = path.read_text(encoding="utf-8")
    try:
        black, white = (
            images.decode(
                bytes(
                    resvg_py.svg_to_bytes(svg_string=text, height=DRAWN_HEIGHT, background=colour)
                )
            ).pixels.astype(np.float32)
            for colour in ("black", "white")
        )
    except (ImageError, ValueError):
        return None
    alpha = np.clip(1 - (white - black).mean(axis=2, keepdims=True) / 255, 0, 1)  # (h, w, 1)
    rows, columns = np.nonzero(alpha[..., 0] > 0.08)
    if not len(rows):
        return None
    shown = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    colours = np.clip(black / np.maximum(alpha, 0.02), 0, 255)
    height, width = alpha[shown].shape[:2]
    if not 1 / MOST_ASPECT <= width / height <= MOST_ASPECT:
        return None
    return Mark(path.stem, colours[shown], alpha[shown])


def _resized(mark: Mark) -> Mark:
    """The mark at the area that a judge sees it at, no side below LEAST_SIDE pixels."""
    height, width = mark.alpha.shape[:2]
    scale = math.sqrt(AREA / (height * width))
    hw = max(LEAST_SIDE, round(height * scale)), max(LEAST_SIDE, round(width * scale))
    colours, alpha = (
        np.asarray(cv2.resize(values, hw[::-1], interpolation=cv2.INTER_AREA), np.float32)
        for values in (mark.colours, mark.alpha)
    )
    return Mark(mark.name, colours, alpha[..., None])


def _on_scenery(
    mark: Mark, photographs: Sequence[Pixels], rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float32]]:
    """(H, W, 3) the mark in the middle of a piece of a photograph, and its box (4,) there."""
    height, width = mark.alpha.shape[:2]
    y = x = round(AROUND * math.sqrt(height * width))
    photograph = photographs[int(rng.integers(len(photographs)))]
    canvas = _piece(photograph, (height + 2 * y, width + 2 * x), rng).astype(np.float32)
    colours = mark.colours
    if rng.random() < ONE_COLOUR:
        colours = np.broadcast_to(_colour(rng), colours.shape)
    if rng.random() < PLATE:
        mean = (colours * mark.alpha).sum(axis=(0, 1)) / mark.alpha.sum()
        margin_x, margin_y = (rng.uniform(0.02, 0.5, 2) * min(height, width)).astype(int)
        canvas[
            max(0, y - margin_y) : y + height + margin_y,
            max(0, x - margin_x) : x + width + margin_x,
        ] = _plate(mean, rng)
    inside = canvas[y : y + height, x : x + width]
    inside[:] = inside * (1 - mark.alpha) + colours * mark.alpha
    box = np.array([x, y, x + width, y + height], np.float32)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8), box


def _piece(photograph: Pixels, hw: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """(h, w, 3) a piece of a photograph at a random scale."""
    height, width = photograph.shape[:2]
    scale = max(hw[0] / height, hw[1] / width, rng.uniform(0.15, 1))
    size = max(hw[1], round(width * scale)), max(hw[0], round(height * scale))
    whole = np.asarray(cv2.resize(photograph, size, interpolation=cv2.INTER_AREA), np.uint8)
    y, x = rng.integers(size[1] - hw[0] + 1), rng.integers(size[0] - hw[1] + 1)
    return whole[y : y + hw[0], x : x + hw[1]]


def _plate(mean: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """(3,) a colour that a mark of this mean colour can be read on."""
    for _ in range(20):
        if rng.random() >= ANY_PLATE:
            break
        colour = _colour(rng)
        if np.abs(colour - mean).sum() > LEAST_CONTRAST:
            return colour
    return np.full(3, 255 if mean.mean() < 128 else 10, np.float32)


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.integers(0, 256, 3).astype(np.float32)
