"""Many levels of any size, scored through canvases of a few sizes.

A convolution of a shape that was not seen before costs more to prepare than to compute, and the
levels of pictures come in endless sizes. So levels are cut into tiles, tiles are laid side by side
on canvases, of which hardly more is scored than is used, and the score maps are taken out again.
Windows that lie across two tiles are never looked at: each window of a level lies whole in one of
its tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst.records import ModelSpec
from nnst.windows.maps import ScoreMap, grid_hw, span, tiles


@dataclass(frozen=True, slots=True)
class Canvas:
    """How much is scored in a pass, in pixels."""

    hw: tuple[int, int]
    grain: int  # sides of what is scored are multiples of it


# Larger ones are no faster, smaller ones are slower; 64 shapes at most.
CANVAS = Canvas((512, 512), 64)
# A GPU is at work only in large passes. All have one shape: for another it may choose a method that
# rounds otherwise, and what is found would depend on the company that a picture has.
GPU_CANVAS = Canvas((2048, 2048), 2048)

Scorer = Callable[[NDArray[np.uint8]], ScoreMap]  # (H, W, 3) -> (K, h, w)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A piece of a level, and where its scores belong."""

    level: int
    rows: slice  # cells of the level
    columns: slice
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Placed:
    tile: _Tile
    canvas: int
    y: int  # pixels on the canvas, multiples of the stride
    x: int


def score_maps(
    levels: Sequence[NDArray[np.uint8]],
    spec: ModelSpec,
    score: Scorer,
    canvas: Canvas = CANVAS,
) -> list[ScoreMap]:
    """(K, h, w) logits of every window of each (H, W, 3) level, as `score_map` gives them."""
    canvas_hw = _at_least(canvas.hw, spec)
    results = [
        np.empty((len(spec.labels), *grid_hw(level.shape[:2], spec)), np.float32)
        for level in levels
    ]
    cut = [
        _Tile(index, rows, columns, level[span(rows, spec, 0), span(columns, spec, 1)])
        for index, level in enumerate(levels)
        for rows, columns in tiles(results[index].shape[1:], canvas_hw, spec)
    ]
    placed = _place(cut, canvas_hw, spec.stride)
    pixels = np.zeros((*canvas_hw, 3), np.uint8)  # one for all: what is left over is not read
    by_canvas: dict[int, list[_Placed]] = {}
    for place in placed:
        by_canvas.setdefault(place.canvas, []).append(place)
    for mine in by_canvas.values():
        logits = score(_laid(mine, pixels, canvas.grain))
        for place in mine:
            tile, row, column = place.tile, place.y // spec.stride, place.x // spec.stride
            height, width = (part.stop - part.start for part in (tile.rows, tile.columns))
            found = logits[:, row : row + height, column : column + width]
            results[tile.level][:, tile.rows, tile.columns] = found
    return results


def _at_least(canvas_hw: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """A canvas that holds a window at least, with sides that are multiples of the stride."""
    height, width = (
        -(-max(side, 2 * window) // spec.stride) * spec.stride
        for side, window in zip(canvas_hw, spec.window_hw, strict=True)
    )
    return height, width


def _place(cut: Iterable[_Tile], canvas_hw: tuple[int, int], stride: int) -> list[_Placed]:
    """Each tile's place: rows of tiles, the highest first, so that little is left empty."""
    placed: list[_Placed] = []
    shelves: list[list[int]] = []  # canvas, top, height, next free x
    tops: list[int] = []  # next free y of each canvas
    for tile in sorted(cut, key=lambda tile: -tile.pixels.shape[0]):
        height, width = (-(-side // stride) * stride for side in tile.pixels.shape[:2])
        shelf = next((s for s in shelves if s[2] >= height and s[3] + width <= canvas_hw[1]), None)
        if shelf is None:
            canvas = next((n for n, top in enumerate(tops) if top + height <= canvas_hw[0]), None)
            if canvas is None:
                canvas = len(tops)
                tops.append(0)
            shelf = [canvas, tops[canvas], height, 0]
            shelves.append(shelf)
            tops[canvas] += height
        placed.append(_Placed(tile, shelf[0], shelf[1], shelf[3]))
        shelf[3] += width
    return placed


def _laid(placed: Iterable[_Placed], canvas: NDArray[np.uint8], grain: int) -> NDArray[np.uint8]:
    """The part of the canvas that the tiles cover, with them on it."""
    bottom = right = 0
    for place in placed:
        height, width = place.tile.pixels.shape[:2]
        canvas[place.y : place.y + height, place.x : place.x + width] = place.tile.pixels
        bottom, right = max(bottom, place.y + height), max(right, place.x + width)
    return canvas[: -(-bottom // grain) * grain, : -(-right // grain) * grain]
