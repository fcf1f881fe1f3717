"""Calibration and threshold: scores become probabilities, and the threshold parts them best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst.evaluation import JudgedPicture
from nnst.records import Annotation
from nnst.training.operating import OperatingPoint, fit_operating_point

FEW = settings(max_examples=40, deadline=None)


def judged(scores: Sequence[float], is_true: Sequence[bool], aside: str = "") -> JudgedPicture:
    """A picture with a detection for each score, on a box of its own where it is true."""
    count = len(scores)
    boxes = np.array([[20 * n, 0, 20 * n + 10, 10] for n in range(count)], np.float32)
    marked = boxes[np.array(is_true, bool)]
    flags = [False] * len(marked)
    truth = Annotation(
        "a",
        "",
        marked,
        ("mark",) * len(marked),
        ignore=[True] * len(marked) if aside == "ignore" else flags,
        difficult=[True] * len(marked) if aside == "difficult" else flags,
    )
    return JudgedPicture("a", boxes, np.array(scores), ["mark"] * count, truth)


def calibrated(point: OperatingPoint, score: float) -> float:
    slope, offset = point.calibration
    return 1 / (1 + math.exp(-(slope * math.log(score / (1 - score)) + offset)))


MARK = ("mark",)


def test_the_threshold_parts_true_from_false_detections() -> None:
    true, false = [0.9, 0.8, 0.75, 0.95], [0.3, 0.2, 0.6, 0.05, 0.1]
    point = fit_operating_point([judged(true, [True] * 4), judged(false, [False] * 5)], MARK)
    assert calibrated(point, 0.6) < point.threshold < calibrated(point, 0.75)


@FEW
@given(
    true=st.lists(st.floats(0.01, 0.99), min_size=3, max_size=9),
    false=st.lists(st.floats(0.01, 0.99), max_size=9),
)
def test_calibration_never_turns_the_order_of_scores_around(
    true: list[float], false: list[float]
) -> None:
    pictures = [judged(true, [True] * len(true)), judged(false, [False] * len(false))]
    point = fit_operating_point(pictures, MARK)
    assert point.calibration[0] > 0
    assert 0.01 <= point.threshold <= 0.99


def test_calibrated_scores_are_probabilities() -> None:
    """Of raw scores that are far too sure, at 0.99 half are true."""
    rng = np.random.default_rng(0)
    raw = np.where(rng.random(2000) < 0.5, 0.99, 0.9).tolist()
    is_true = [rng.random() < (0.5 if score == 0.99 else 0.1) for score in raw]
    pictures = [judged(raw[n : n + 40], is_true[n : n + 40]) for n in range(0, 2000, 40)]
    point = fit_operating_point(pictures, MARK)
    assert calibrated(point, 0.99) == pytest.approx(0.5, abs=0.05)
    assert calibrated(point, 0.9) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("true", [0, 2])
def test_with_too_few_true_detections_nothing_is_fitted(true: int) -> None:
    few = judged([0.9, 0.8, 0.2, 0.1], [n < true for n in range(4)])
    assert fit_operating_point([few], MARK) == OperatingPoint((1.0, 0.0), 0.5)
    assert fit_operating_point([], MARK) == OperatingPoint((1.0, 0.0), 0.5)


@pytest.mark.parametrize("aside", ["ignore", "difficult"])
def test_boxes_set_aside_neither_help_nor_harm(aside: str) -> None:
    plain = [judged([0.9, 0.8, 0.7], [True] * 3), judged([0.2, 0.4], [False] * 2)]
    more = judged([0.99, 0.01], [True, True], aside)
    assert fit_operating_point([*plain, more], MARK) == fit_operating_point(plain, MARK)


def test_boxes_that_are_no_logo_are_background_to_the_threshold() -> None:
    """Boxes of a negative label were drawn to be told apart, not to be found."""
    plain = [judged([0.9, 0.8, 0.7], [True] * 3), judged([0.2, 0.4], [False] * 2)]
    other = replace(plain[1], truth=Annotation("b", "", [[0, 0, 9, 9]], ("other",), [0], [0]))
    assert fit_operating_point([plain[0], other], MARK) == fit_operating_point(plain, MARK)
