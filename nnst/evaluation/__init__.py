"""How good a scan is: matching to truth, precision, recall, average precision, calibration.

A detection is true (tp), false (fp), or ignored because it lies on an ignore box. A picture without
truth boxes can only add false positives. A picture that could not be read has no detections: it
counts as a picture, and each of its truth boxes is missed. Tied scores are one step of every curve,
so the order of detections and of pictures changes no figure. What cannot be said is nan.

`matching` pairs boxes with boxes and pictures with pictures, `curves` turns scores into figures,
`verdicts` holds what became of each detection, `slices` has figures by size, `thresholds` finds the
threshold for a precision, `calibration` turns scores into probabilities, `figures` judges a whole
scan with intervals, and `results` holds what goes in and what comes out. Without truth,
`differences` has what one of two scans found and the other did not, and `drift` whether what is
found today looks like what was found before.
"""

from __future__ import annotations

from nnst.evaluation.calibration import calibrate
from nnst.evaluation.curves import (
    PrecisionRecall,
    average_precision,
    best_threshold,
    image_average_precision,
    precision_recall,
    recall_at,
)
from nnst.evaluation.figures import evaluate
from nnst.evaluation.matching import Matched, Pairing, match, meet
from nnst.evaluation.results import (
    Estimate,
    Evaluation,
    EvaluationSettings,
    JudgedPicture,
    LabelEvaluation,
    SizeSlice,
)
from nnst.evaluation.thresholds import PrecisionTarget, least_threshold
from nnst.evaluation.verdicts import pooled

__all__ = [
    "Estimate",
    "Evaluation",
    "EvaluationSettings",
    "JudgedPicture",
    "LabelEvaluation",
    "Matched",
    "Pairing",
    "PrecisionRecall",
    "PrecisionTarget",
    "SizeSlice",
    "average_precision",
    "best_threshold",
    "calibrate",
    "evaluate",
    "image_average_precision",
    "least_threshold",
    "match",
    "meet",
    "pooled",
    "precision_recall",
    "recall_at",
]
