"""A map of scores as a picture to lay over a thumbnail: black is none, and bright is much."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnst import images

# From least to most, each lighter than the one before: told apart without colour too. Black first:
# the page adds it to the picture's light.
_COLOURS = np.array(
    [[0, 0, 0], [90, 10, 110], [205, 50, 80], [250, 150, 40], [255, 245, 150]], np.float32
)


def encode(scores: NDArray[np.float32]) -> bytes:
    """PNG of an (h, w) map of scores in [0, 1]."""
    steps = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(scores, steps, _COLOURS[:, channel]) for channel in range(3)]
    return images.encode_png(np.rint(np.stack(channels, axis=2)).astype(np.uint8))
