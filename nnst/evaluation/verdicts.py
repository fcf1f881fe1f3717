"""What became of the detections of one label, over all judged pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.evaluation.curves import Ranking
from nnst.evaluation.matching import match
from nnst.evaluation.results import DEFAULTS, EvaluationSettings, JudgedPicture
from nnst.records import Annotation

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Truth = tuple[boxes_.Boxes, Mask]  # (M, 4) boxes, (M,) which of them are set aside


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The detections of one label, without the ignored ones, and the truth that they could find."""

    scores: NDArray[np.float32]  # (N,)
    tp: Mask  # (N,)
    picture: NDArray[np.intp]  # (N,) which of the P pictures
    side: Floats  # (N,) root of the area: of the truth box that was found, else of the detection
    truth_picture: NDArray[np.intp]  # (M,)
    truth_side: Floats  # (M,)
    pictures: int  # P

    @property
    def positives(self) -> NDArray[np.intp]:
        """(P,) truth boxes of each picture."""
        return np.bincount(self.truth_picture, minlength=self.pictures)

    def ranking(self) -> Ranking:
        """The same detections, best first."""
        return Ranking.of(self.scores, self.tp, self.picture, self.positives)

    def kept(self, threshold: float) -> Mask:
        """(N,) which detections reach the threshold; none reaches nan."""
        return self.scores >= np.float32(threshold)  # scores are float32


def chosen(pictures: Sequence[JudgedPicture], settings: EvaluationSettings) -> list[JudgedPicture]:
    """The pictures to judge."""
    return [p for p in pictures if p.truth is not None or settings.unlisted == "negative"]


def truth_of(truth: Annotation | None, label: str, settings: EvaluationSettings) -> Truth:
    """The boxes that matter for the label, and which of them are set aside."""
    if truth is None:
        return boxes_.as_boxes([]), np.zeros(0, dtype=bool)
    own = np.array([name == label for name in truth.labels], dtype=bool)
    aside = truth.ignore | (truth.difficult & (not settings.count_difficult))
    matters = own | truth.ignore  # what an ignore box hides may be of any label
    return truth.boxes[matters], aside[matters]


def verdicts_of(
    pictures: Sequence[JudgedPicture], label: str, truth: Sequence[Truth], iou_threshold: float
) -> Verdicts:
    """The detections of the label, matched picture by picture; `truth` is that of each picture."""
    judged = [
        _verdicts(picture, picture.labels == label, boxes, aside, iou_threshold)
        for picture, (boxes, aside) in zip(pictures, truth, strict=True)
    ]
    counts = [len(scores) for scores, _, _ in judged]
    sides = [_side(boxes[~aside]) for boxes, aside in truth]
    every = np.arange(len(pictures))
    return Verdicts(
        scores=_joined([scores for scores, _, _ in judged], np.float32),
        tp=_joined([tp for _, tp, _ in judged], np.bool_),
        picture=np.repeat(every, counts),
        side=_joined([side for _, _, side in judged], np.float64),
        truth_picture=np.repeat(every, [len(side) for side in sides]),
        truth_side=_joined(sides, np.float64),
        pictures=len(pictures),
    )


def pooled(
    pictures: Sequence[JudgedPicture], labels: Sequence[str]
) -> tuple[NDArray[np.float32], Mask, int]:
    """(N,) scores and (N,) truth of the detections of these labels at IoU 0.5, and the number of
    truth boxes. What is ignored is in neither; a picture that the truth does not list has no box.
    """
    scores, is_true = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
    positives = 0
    for picture in pictures:
        for label in labels:
            mine = picture.labels == label
            boxes, aside = truth_of(picture.truth, label, DEFAULTS)
            matched = match(picture.boxes[mine], picture.scores[mine], boxes, aside, 0.5)
            judged = ~matched.ignored
            scores.append(picture.scores[mine][judged])
            is_true.append(matched.tp[judged])
            positives += int((~aside).sum())
    return np.concatenate(scores), np.concatenate(is_true), positives


def _verdicts(
    picture: JudgedPicture, mine: Mask, truth_boxes: boxes_.Boxes, aside: Mask, iou_threshold: float
) -> tuple[NDArray[np.float32], Mask, Floats]:
    """scores, tp and side of one picture's detections."""
    boxes, scores = picture.boxes[mine], picture.scores[mine]
    matched = match(boxes, scores, truth_boxes, aside, iou_threshold)
    side = _side(boxes)
    side[matched.tp] = _side(truth_boxes)[matched.found[matched.tp]]
    judged = ~matched.ignored
    return scores[judged], matched.tp[judged], side[judged]


def _side(boxes: boxes_.Boxes) -> Floats:
    """(N,) the side of the square of the same area."""
    return np.sqrt(boxes_.area(boxes).astype(np.float64))


def _joined(columns: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *columns])
