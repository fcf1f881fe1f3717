"""A picture file -> what a page shows of it."""

from __future__ import annotations

import numpy as np

from nnst.images.decoding import REDUCTIONS, check
from nnst.images.encoding import encode_jpeg, resize
from nnst.images.guarding import decode
from nnst.images.orientation import upright

WHOLE = 0  # as a side: all of its pixels


def encode_view(data: bytes, side: int = WHOLE, quality: int = 88) -> bytes:
    """A JPEG of the picture, upright, its longer side at most `side`. Raises ImageError.

    A page never gets the file itself: what is no picture, or a bomb, ends here.
    """
    header = check(data)
    longest = max(header.width, header.height)
    least = side or longest
    reduction = max(each for each in REDUCTIONS if each == 1 or longest // each >= least)
    pixels = upright(decode(data, reduction=reduction).pixels, header.orientation)
    height, width = pixels.shape[:2]
    shrink = least / max(height, width)
    if shrink < 1:
        pixels = resize(pixels, (max(1, round(height * shrink)), max(1, round(width * shrink))))
    return encode_jpeg(pixels, quality)


def encode_part(
    data: bytes, frame: tuple[int, int, int, int], side: int, quality: int = 90
) -> bytes:
    """A JPEG of a part of the picture, `frame` (xyxy) of it upright, its longer side at most
    `side`. Raises ImageError."""
    picture = decode(data)
    pixels = upright(picture.pixels, picture.header.orientation)
    x0, y0, x1, y1 = frame
    part = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    shrink = side / max(part.shape[:2])
    if shrink < 1:
        part = resize(part, (max(1, round((y1 - y0) * shrink)), max(1, round((x1 - x0) * shrink))))
    return encode_jpeg(part, quality)
