"""Log-odds and their truth -> the line that turns them into the log-odds of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEAST_SLOPE = 0.01  # calibration never turns the order of scores around
LARGEST_LOG_ODDS = 40.0  # a float64 probability cannot come nearer to 1
STEPS = 100


def calibrate(log_odds: ArrayLike, is_true: ArrayLike) -> tuple[float, float]:
    """(a, b) such that a * log_odds + b are the log-odds of being true; a is at least 0.01.

    Platt scaling (Platt 1999) with his smoothed targets, so that separable scores and few of them
    give finite numbers, maximised as Lin, Lin and Weng do (2007).
    (1.0, 0.0), which changes nothing, if all are true or none is. Raises ValueError for nan.
    """
    x = np.clip(np.asarray(log_odds, dtype=np.float64), -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)  # (N,)
    truth = np.asarray(is_true, dtype=bool)  # (N,)
    if np.isnan(x).any():
        raise ValueError("log-odds must not be nan")
    n_true, n_false = int(truth.sum()), int((~truth).sum())
    if not n_true or not n_false:
        return 1.0, 0.0
    target = np.where(truth, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))  # (N,)
    base = np.log((n_true + 1) / (n_false + 1))
    one = np.ones_like(x)
    a, b = _fit(np.stack([x, one], axis=1), np.zeros_like(x), target, np.array([0.0, base]))
    if a >= LEAST_SLOPE:
        return float(a), float(b)
    # The log-likelihood is concave: where its top lies beyond the bound, the best allowed is on it.
    (b,) = _fit(one[:, None], LEAST_SLOPE * x, target, np.array([base]))
    return LEAST_SLOPE, float(b)


def _fit(design: Floats, offset: Floats, target: Floats, start: Floats) -> Floats:
    """(P,) weights of the likeliest offset + design @ weights, by Newton with halved steps."""
    weights = start
    loss = _cross_entropy(offset + design @ weights, target)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(offset + design @ weights)))  # (N,)
        gradient = design.T @ (p - target)  # (P,)
        curvature = (design * (p * (1 - p))[:, None]).T @ design  # (P, P)
        curvature += 1e-12 * np.eye(len(weights))  # equal scores leave the slope open
        step = np.linalg.solve(curvature, gradient)
        gain = float(gradient @ step)
        if gain < 1e-12:
            break
        size = 1.0
        while _cross_entropy(offset + design @ (weights - size * step), target) > (
            loss - 1e-4 * size * gain
        ):
            size /= 2
            if size < 1e-10:
                return weights
        weights = weights - size * step
        loss = _cross_entropy(offset + design @ weights, target)
    return weights


def _cross_entropy(log_odds: Floats, target: Floats) -> float:
    return float((np.logaddexp(0, log_odds) - target * log_odds).sum())
