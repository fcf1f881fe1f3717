"""Where in a picture a detector's windows score how much: a map to look at.

Of a cascade it is the scout's map, before the judge has looked: what was worth a second look, and
what was not even that.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst import windows
from nnst.detector.pictures import Detector
from nnst.detector.voting import Scored, View, windows_spec
from nnst.records import ModelSpec

Scores = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def score_picture(
    detector: Detector, pixels: Pixels, side: int = 160, enlarge: float = 1.0
) -> Scores:
    """(h, w) the best score of any window centred there, of upright pixels (H, W, 3).

    The map has the picture's proportions and `side` cells along its longer side; `enlarge` is as in
    `Detector.detect_all`.
    """
    height, width = pixels.shape[:2]
    zoom = side / max(height, width)
    hw = max(1, round(height * zoom)), max(1, round(width * zoom))
    spec = windows_spec(detector)
    found = np.zeros(hw, np.float32)
    for scored in View(detector, pixels, enlarge).scored:
        if scored[1].size:
            found = np.maximum(found, _laid_out(scored, spec, hw, zoom))
    return found


def _laid_out(scored: Scored, spec: ModelSpec, hw: tuple[int, int], zoom: float) -> Scores:
    """The score map of one level over the whole picture."""
    level, logits = scored
    scores = windows.probabilities(logits, spec).max(axis=0)  # (h', w')
    places, steps = [], []
    for axis in (0, 1):  # rows, columns
        scale, pad = level.scale_xy[1 - axis], level.pad_xy[1 - axis]
        centres = (np.arange(hw[axis]) + 0.5) / zoom * scale + pad  # level pixels
        cells = (centres - spec.window_hw[axis] / 2) / spec.stride
        places.append(np.clip(np.rint(cells), 0, scores.shape[axis] - 1).astype(int))
        steps.append(max(1, math.ceil(scale / zoom / spec.stride)))
    if max(steps) > 1:  # several windows to a place: the best of them
        scores = np.asarray(cv2.dilate(scores, np.ones(steps, np.uint8)))
    return scores[np.ix_(*places)]
