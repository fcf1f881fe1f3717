"""RGB pixels -> bytes, and pixels at another size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.errors import NnstError

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


def resize(pixels: Pixels, hw: tuple[int, int]) -> Pixels:
    """The picture at another size: averaged where a side shrinks, interpolated where it grows."""
    smaller = min(hw[0], pixels.shape[0]), min(hw[1], pixels.shape[1])
    resized: NDArray[Any] = pixels
    for target, method in ((smaller, cv2.INTER_AREA), (hw, cv2.INTER_LINEAR)):
        if resized.shape[:2] != target:
            resized = cv2.resize(resized, target[::-1], interpolation=method)
    return resized


def encode_jpeg(pixels: Pixels, quality: int = 90) -> bytes:
    """A baseline JPEG with halved chroma; the same pixels give the same bytes."""
    subsampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, subsampling]
    return _encode(".jpg", pixels, settings)


def encode_png(pixels: Pixels) -> bytes:
    """A PNG; the same pixels give the same bytes."""
    return _encode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])


def encode_bmp(pixels: Pixels) -> bytes:
    """A BMP: larger than a PNG, and read a dozen times as fast."""
    return _encode(".bmp", pixels, [])


def _encode(suffix: str, pixels: Pixels, settings: list[int]) -> bytes:
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise NnstError(f"pixels of shape {pixels.shape} cannot be written as {suffix}")
    return encoded.tobytes()
