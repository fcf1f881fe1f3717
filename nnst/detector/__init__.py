"""Pixels in, detections out: pyramid, windows, networks and non-maximum suppression together.

`pictures` says what every detector is, `sliding` and `cascade` are the two kinds, `judging` the
second half of a cascade, `settings` how they look, `loading` gives the one that a model needs.
"""

from __future__ import annotations

from nnst.detector.cascade import Cascade, Proposals
from nnst.detector.loading import detector_of, load_detector
from nnst.detector.pictures import Detector, batches
from nnst.detector.settings import MAX_SCALE, DetectorSettings
from nnst.detector.sliding import Sliding

__all__ = [
    "MAX_SCALE",
    "Cascade",
    "Detector",
    "DetectorSettings",
    "Proposals",
    "Sliding",
    "batches",
    "detector_of",
    "load_detector",
]
