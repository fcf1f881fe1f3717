"""A detector from the folder of a model."""

from __future__ import annotations

from functools import lru_cache

import torch

from nnst import models
from nnst.detector.cascade import Cascade
from nnst.detector.pictures import Detector
from nnst.detector.settings import DetectorSettings
from nnst.detector.sliding import Sliding
from nnst.errors import InputError
from nnst.models import Model
from nnst.stopwatch import Stopwatch


def detector_of(
    model: Model,
    settings: DetectorSettings | None = None,
    device: str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Detector:
    """The detector that looks with a model: its kind is the model's."""
    kind = Cascade if model.spec.architecture == models.CASCADE else Sliding
    return kind(model, settings, device, stopwatch)


@lru_cache(maxsize=2)
def load_detector(
    folder: str, digest: str, settings: DetectorSettings = DetectorSettings()
) -> Detector:
    """The detector of the model in a folder, kept for the next call in this process.

    On a GPU if there is one. Raises InputError when the folder holds a model of another digest.
    """
    model = models.load(folder)
    if model.digest != digest:
        raise InputError(f"the model in {folder} is not the one that was asked for", "start again")
    return detector_of(model, settings, "cuda" if torch.cuda.is_available() else "cpu")
