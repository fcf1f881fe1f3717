"""The scales at which a picture is looked at, and the picture resized to each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.records import PyramidLevel

Pixels = NDArray[np.uint8]


def scales(
    hw: tuple[int, int],
    window_hw: tuple[float, float],
    *,
    levels_per_octave: int,
    max_scale: float,
) -> tuple[float, ...]:
    """Scales from `max_scale` down to the first at which the whole picture fits the window.

    Never empty: a picture that fits at `max_scale` already has this one level.
    """
    if levels_per_octave < 1 or max_scale <= 0 or min(*hw, *window_hw) <= 0:
        raise ValueError(
            f"levels_per_octave, max_scale, picture and window must be above 0, got "
            f"{levels_per_octave}, {max_scale}, {hw}, {window_hw}"
        )
    fits = min(window_hw[0] / hw[0], window_hw[1] / hw[1])
    found = [max_scale]
    while found[-1] > fits:
        found.append(max_scale * 2 ** (-len(found) / levels_per_octave))
    return tuple(found)


def levels(
    pixels: Pixels,
    scales: Iterable[float],
    pad_xy: tuple[int, int] = (0, 0),
    colour: tuple[float, float, float] = (127.5, 127.5, 127.5),
) -> Iterator[PyramidLevel]:
    """The levels of an (H, W, 3) picture, one at a time, with a border of `pad_xy` on each side.

    `scales` must fall. Beside the picture only one half-size copy and one level are in memory.
    """
    base = pixels
    for scale in scales:
        # A side never gets smaller than one pixel, so scale_xy may differ from scale, per axis.
        hw = max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale))
        base = _halved_towards(base, hw)
        scale_xy = hw[1] / pixels.shape[1], hw[0] / pixels.shape[0]
        yield PyramidLevel(scale_xy, _with_border(base, hw, pad_xy, colour), pad_xy)


def _halved_towards(base: Pixels, hw: tuple[int, int]) -> Pixels:
    """The base, each side halved while it stays at least as large as the level's.

    A linear resize looks at 2 x 2 pixels: at a half that is their mean, below a half it skips
    some. So no level is ever made by less than a half.
    """
    while True:
        height, width = (
            side // 2 if side >= 2 * wanted else side
            for side, wanted in zip(base.shape[:2], hw, strict=True)
        )
        if (height, width) == base.shape[:2]:
            return base
        base = np.asarray(cv2.resize(base, (width, height), interpolation=cv2.INTER_LINEAR))


def _with_border(
    base: Pixels, hw: tuple[int, int], pad_xy: tuple[int, int], colour: tuple[float, float, float]
) -> Pixels:
    """(h + 2 pad_y, w + 2 pad_x, 3) read-only pixels."""
    pad_x, pad_y = pad_xy
    level = np.empty((hw[0] + 2 * pad_y, hw[1] + 2 * pad_x, 3), dtype=np.uint8)
    level[:] = np.round(colour).astype(np.uint8)
    inside = level[pad_y : pad_y + hw[0], pad_x : pad_x + hw[1]]
    inside[:] = cv2.resize(base, hw[::-1], interpolation=cv2.INTER_LINEAR)
    level.setflags(write=False)
    return level
