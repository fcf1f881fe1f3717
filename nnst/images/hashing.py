"""What a picture is known by: the hash of its bytes, and one that near duplicates share."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.images.encoding import Pixels, resize


def content_hash(data: bytes) -> str:
    """The identity of a picture: sha256 of its bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits that change little when a picture is scaled, recompressed or relit.

    Signs of the lowest 8 x 8 frequencies, the mean left out, of a grey 32 x 32 picture against
    their median (pHash: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash
    Functions, 2010). Flat pictures give 0.
    """
    grey = cv2.cvtColor(resize(pixels, (32, 32)), cv2.COLOR_RGB2GRAY)  # (32, 32)
    basis = _cosines()  # (8, 32)
    frequencies = np.round(basis @ grey.astype(np.float64) @ basis.T, 3)  # (8, 8), no last bits
    bits = frequencies > np.median(frequencies)  # (8, 8)
    return int.from_bytes(np.packbits(bits).tobytes())


def hamming(a: int, b: int) -> int:
    """In how many bits two hashes differ."""
    return (a ^ b).bit_count()


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """(8, 32) frequencies 1 to 8 of the cosine transform of 32 values."""
    at = np.arange(32) + 0.5
    return np.cos(np.pi / 32 * np.outer(np.arange(1, 9), at))
