"""The scales at which a picture is looked at, and the picture resized to each of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.records import PyramidLevel

Pixels = NDArray[np.uint8]

LITTLE = 1 / 500  # of a picture's side
LARGE = 100  # pixels of a side: smaller pictures cost nothing anyway


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


class Halves:
    """A picture, and copies of it with each side halved again and again, made when first needed.

    A linear resize looks at 2 x 2 pixels: at a half that is their mean, below a half it skips some.
    So nothing is ever made from a copy by less than a half.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels  # (H, W, 3)
        # By size, as the sides of an odd picture are not halved in step.
        self._copies = {(pixels.shape[0], pixels.shape[1]): pixels}

    def halved_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """The size itself, or that of a halved copy which a side of an odd picture misses by one.

        Halving costs half of what any other resizing does.
        """
        height, width = self.pixels.shape[:2]
        while height > hw[0] + 1 and width > hw[1] + 1:
            height, width = height // 2, width // 2
            if min(height, width) < LARGE:
                break
            if max(abs(height - hw[0]), abs(width - hw[1])) <= 1:
                return height, width
        return hw

    def for_hw(self, hw: tuple[int, int]) -> Pixels:
        """The smallest copy from which a picture of this size can be made."""
        height, width = self.pixels.shape[:2]
        while True:
            copy = self._copies[height, width]
            halved = (
                height // 2 if height >= 2 * hw[0] else height,
                width // 2 if width >= 2 * hw[1] else width,
            )
            if halved == (height, width):
                return copy
            if halved not in self._copies:
                self._copies[halved] = _resized(_even(copy), halved)
            height, width = halved

    def cut(self, box: NDArray[np.float32], hw: tuple[int, int], colour: int) -> Pixels:
        """(h, w, 3) a box (4,) of the picture at this size; `colour` around the picture."""
        x0, y0, x1, y1 = box.tolist()
        zoom_xy = hw[1] / max(x1 - x0, 1e-3), hw[0] / max(y1 - y0, 1e-3)
        height, width = self.pixels.shape[:2]
        zoom = max(zoom_xy)  # the finer axis decides
        base = self.for_hw((max(1, math.ceil(height * zoom)), max(1, math.ceil(width * zoom))))
        scale_xy = zoom_xy[0] * width / base.shape[1], zoom_xy[1] * height / base.shape[0]
        # cv2 speaks of pixel centres, the box of pixel corners.
        matrix = np.array(
            [
                [scale_xy[0], 0, scale_xy[0] / 2 - zoom_xy[0] * x0 - 0.5],
                [0, scale_xy[1], scale_xy[1] / 2 - zoom_xy[1] * y0 - 0.5],
            ]
        )
        border = (colour,) * 3
        return np.asarray(cv2.warpAffine(base, matrix, hw[::-1], borderValue=border), np.uint8)


def levels(
    halves: Halves,
    scales: Iterable[float],
    pad_xy: tuple[int, int] = (0, 0),
    colour: tuple[float, float, float] = (127.5, 127.5, 127.5),
) -> Iterator[PyramidLevel]:
    """The levels of an (H, W, 3) picture, one at a time, with a border of `pad_xy` on each side."""
    pixels = halves.pixels
    for scale in scales:
        # A side never gets smaller than one pixel, so scale_xy may differ from scale, per axis.
        hw = max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale))
        hw = halves.halved_hw(hw)
        scale_xy = hw[1] / pixels.shape[1], hw[0] / pixels.shape[0]
        yield PyramidLevel(scale_xy, _with_border(halves.for_hw(hw), hw, pad_xy, colour), pad_xy)


def _even(pixels: Pixels) -> Pixels:
    """The picture without the last pixel of an odd side, where nobody can miss it.

    cv2 takes half the time where a side is exactly halved, and a box moves by less than LITTLE.
    """
    height, width = (side - side % 2 * (side > 1 / LITTLE) for side in pixels.shape[:2])
    return pixels[:height, :width]


def _resized(pixels: Pixels, hw: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(pixels, hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _with_border(
    base: Pixels, hw: tuple[int, int], pad_xy: tuple[int, int], colour: tuple[float, float, float]
) -> Pixels:
    """(h + 2 pad_y, w + 2 pad_x, 3) read-only pixels."""
    pad_x, pad_y = pad_xy
    level = np.empty((hw[0] + 2 * pad_y, hw[1] + 2 * pad_x, 3), dtype=np.uint8)
    value = np.round(colour).astype(np.uint8)
    inside = level[pad_y : pad_y + hw[0], pad_x : pad_x + hw[1]]
    # Only the border is painted: numpy takes longer to fill a level than cv2 to resize into it.
    for strip in (level[:pad_y], level[pad_y + hw[0] :]):
        strip[:] = value
    for strip in (level[:, :pad_x], level[:, pad_x + hw[1] :]):
        strip[:] = value
    cv2.resize(base, hw[::-1], dst=inside, interpolation=cv2.INTER_LINEAR)
    level.setflags(write=False)
    return level
