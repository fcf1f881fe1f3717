"""What two scans found in the same picture: what both did, and what only one did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.boxes import Boxes
from nnst.evaluation.matching import match

Kind = Literal["both", "a", "b"]
IOU = 0.5  # from which on two boxes are of the same object


@dataclass(frozen=True, slots=True)
class Found:
    """The detections of one scan in one picture, those below the threshold as well."""

    boxes: Boxes  # (N, 4)
    scores: NDArray[np.float32]  # (N,)
    labels: NDArray[np.str_]  # (N,)
    threshold: float

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(N,) which detections reach the threshold."""
        return self.scores >= np.float32(self.threshold)


@dataclass(frozen=True, slots=True)
class Pair:
    """One object that a or b found, or both. A score of None: nothing at all was seen there."""

    kind: Kind
    box: tuple[float, float, float, float]  # a's where a found it
    label: str
    score_a: float | None
    score_b: float | None

    @property
    def change(self) -> float:
        """By how much b's score is above a's; what was not seen has 0."""
        return (self.score_b or 0.0) - (self.score_a or 0.0)


def differ(a: Found, b: Found, iou: float = IOU) -> tuple[Pair, ...]:
    """Every object that reaches its threshold in a or in b, the largest change first.

    Detections of one label whose boxes have that IoU are one object, each of them once. What only
    one found has the score that the other gave it below its threshold, if it gave one.
    """
    labels = sorted({*a.labels[a.kept].tolist(), *b.labels[b.kept].tolist()})
    pairs = [pair for label in labels for pair in _of_label(a, b, label, iou)]
    return tuple(sorted(pairs, key=lambda pair: (-abs(pair.change), pair.box)))


def _of_label(a: Found, b: Found, label: str, iou: float) -> list[Pair]:
    mine, theirs = (each.kept & (each.labels == label) for each in (a, b))
    none = np.zeros(int(theirs.sum()), bool)
    matched = match(a.boxes[mine], a.scores[mine], b.boxes[theirs], none, iou)
    scores_b = b.scores[theirs]
    pairs = [
        Pair("both", _box(box), label, _short(score), _short(scores_b[other]))
        if other >= 0
        else Pair("a", _box(box), label, _short(score), _weaker(b, box, label, iou))
        for box, score, other in zip(a.boxes[mine], a.scores[mine], matched.found, strict=True)
    ]
    left = np.setdiff1d(np.arange(len(scores_b)), matched.found)
    return pairs + [
        Pair("b", _box(box), label, _weaker(a, box, label, iou), _short(score))
        for box, score in zip(b.boxes[theirs][left], scores_b[left], strict=True)
    ]


def _weaker(found: Found, box: Boxes, label: str, iou: float) -> float | None:
    """The best score below the threshold of what was seen in the place of the box."""
    some = ~found.kept & (found.labels == label)
    if not some.any():
        return None
    near = boxes_.pairwise_iou(found.boxes[some], box[None])[:, 0] >= iou
    return _short(found.scores[some][near].max()) if near.any() else None


def _box(box: Boxes) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(float(side), 2) for side in box)
    return x0, y0, x1, y1


def _short(score: float | np.floating) -> float:
    """The score in the fewest digits that keep it."""
    return float(str(np.float32(score)))
