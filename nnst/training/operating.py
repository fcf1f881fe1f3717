"""Calibration and threshold of a detector, fitted on pictures that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnst import evaluation
from nnst.evaluation import JudgedPicture

FEWEST_TRUE = 3  # detections on a logo that a fit needs


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """How raw scores become probabilities, and the least of these that is shown."""

    calibration: tuple[float, float]
    threshold: float


def fit_operating_point(pictures: Sequence[JudgedPicture], labels: Sequence[str]) -> OperatingPoint:
    """Platt scaling, and the threshold with the best F1, of the detections on these pictures.

    Truth with a label that is not in `labels`, such as "not logo", is background. The scores must
    be uncalibrated, of calibration (1, 0). Where fewer than FEWEST_TRUE detections lie on a logo
    nothing can be fitted: scores stay as they are and the threshold is a half.
    """
    scores, is_true, positives = evaluation.pooled(pictures, labels)
    if is_true.sum() < FEWEST_TRUE:
        return OperatingPoint((1.0, 0.0), 0.5)
    inside = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
    log_odds = np.log(inside) - np.log1p(-inside)
    slope, offset = evaluation.calibrate(log_odds, is_true)
    calibrated = 1 / (1 + np.exp(-(slope * log_odds + offset)))
    threshold = evaluation.best_threshold(calibrated, is_true, positives)
    return OperatingPoint((slope, offset), float(np.clip(threshold, 0.01, 0.99)))


def calibrated(picture: JudgedPicture, calibration: tuple[float, float]) -> JudgedPicture:
    """The picture with its raw scores turned into probabilities, as the model will give them."""
    slope, offset = calibration
    inside = np.clip(picture.scores.astype(np.float64), 1e-6, 1 - 1e-6)
    log_odds = np.log(inside) - np.log1p(-inside)
    scores = 1 / (1 + np.exp(-(slope * log_odds + offset)))
    return replace(picture, scores=scores.astype(np.float32))
