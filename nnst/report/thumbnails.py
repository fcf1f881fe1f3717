"""A picture made small to look at, upright, and its detections cut out at their own size.

A logo of 20 pixels in a picture of 4,000 cannot be seen in any thumbnail; its closeup shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import images

_CONTEXT = 0.3  # of a box's sides, shown around it on each side of a closeup


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the small pictures are: longest sides in pixels, quality of JPEG from 1 to 100."""

    side: int
    closeups: int  # how many, of the first boxes
    closeup_side: int
    quality: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture to show. `hw` and `boxes` are those of the whole picture, upright."""

    hw: tuple[int, int]
    boxes: boxes_.Boxes  # (N, 4)
    jpeg: bytes
    closeups: tuple[bytes, ...]  # JPEG, of the first boxes


def cut(data: bytes, boxes: boxes_.Boxes, sizes: Sizes) -> Thumbnail:
    """The thumbnail of a picture file; `boxes` are in its pixels as stored. Raises ImageError."""
    picture = images.decode(data)
    turn = picture.header.orientation
    stored_hw = (picture.pixels.shape[0], picture.pixels.shape[1])
    pixels = images.upright(picture.pixels, turn)
    hw = (pixels.shape[0], pixels.shape[1])
    turned = images.boxes_upright(boxes, stored_hw, turn)
    closeups = [
        _encode(pixels[y0:y1, x0:x1], sizes.closeup_side, sizes.quality)
        for x0, y0, x1, y1 in _with_context(turned[: sizes.closeups], hw).tolist()
    ]
    return Thumbnail(hw, turned, _encode(pixels, sizes.side, sizes.quality), tuple(closeups))


def _with_context(boxes: boxes_.Boxes, hw: tuple[int, int]) -> NDArray[np.int64]:
    """(N, 4) boxes grown on every side, on whole pixels, each at least one pixel of the picture."""
    margin = np.tile(boxes_.size_hw(boxes)[:, ::-1] * _CONTEXT + 2, (1, 2))  # (N, 4)
    grown = boxes + margin * np.array([-1, -1, 1, 1])
    whole = np.rint(boxes_.clip(grown.astype(np.float32), hw)).astype(np.int64)
    whole[:, :2] = np.minimum(whole[:, :2], np.array(hw)[::-1] - 1)
    whole[:, 2:] = np.maximum(whole[:, 2:], whole[:, :2] + 1)
    return whole


def _encode(pixels: NDArray[np.uint8], side: int, quality: int) -> bytes:
    """JPEG bytes of the pixels, made smaller where a side is longer than `side`."""
    height, width = pixels.shape[:2]
    shrink = side / max(height, width)
    if shrink < 1:
        hw = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        pixels = images.resize(pixels, hw)
    return images.encode_jpeg(np.ascontiguousarray(pixels), quality)
