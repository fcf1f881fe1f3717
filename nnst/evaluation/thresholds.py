"""A precision that is wanted -> the threshold that has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nnst.evaluation.curves import precision_recall
from nnst.evaluation.results import DEFAULTS, EvaluationSettings, JudgedPicture, plain
from nnst.evaluation.verdicts import chosen, truth_of, verdicts_of


@dataclass(frozen=True, slots=True)
class PrecisionTarget:
    """The threshold for a precision over all labels together, at IoU 0.5."""

    target: float
    threshold: float  # a score, in the fewest digits that name it as float32; nan: none reaches it
    precision: float  # at the threshold; where there is none, the best of all thresholds
    recall: float  # at the same place

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON knows them, None for nan."""
        return dict(plain(asdict(self)))


def least_threshold(
    pictures: Sequence[JudgedPicture],
    labels: Sequence[str],
    target: float,
    settings: EvaluationSettings = DEFAULTS,
) -> PrecisionTarget:
    """The least threshold whose precision on these pictures is at least the target."""
    judged = chosen(pictures, settings)
    verdicts = [
        verdicts_of(judged, label, [truth_of(p.truth, label, settings) for p in judged], 0.5)
        for label in labels
    ]
    curve = precision_recall(
        np.concatenate([np.zeros(0), *(each.scores for each in verdicts)]),
        np.concatenate([np.zeros(0, dtype=bool), *(each.tp for each in verdicts)]),
        sum(int(each.positives.sum()) for each in verdicts),
    )
    if not len(curve.precision):
        return PrecisionTarget(target, float("nan"), float("nan"), float("nan"))
    reached = curve.precision >= target
    if not reached.any():
        best = int(np.flatnonzero(curve.precision == curve.precision.max())[-1])
        return PrecisionTarget(
            target, float("nan"), float(curve.precision[best]), float(curve.recall[best])
        )
    least = int(np.flatnonzero(reached)[-1])  # thresholds fall
    threshold = float(str(np.float32(curve.thresholds[least])))
    return PrecisionTarget(
        target, threshold, float(curve.precision[least]), float(curve.recall[least])
    )
