"""Scores and their truth -> precision, recall, average precision, thresholds.

`scores` and `tp` are the judged detections of one label over all pictures, in any order, without
the ignored ones; `positives` is the number of truth boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision and recall when every score of at least `thresholds` is kept; thresholds fall."""

    thresholds: Floats  # (S,) the distinct scores
    precision: Floats  # (S,)
    recall: Floats  # (S,) nan where there is no positive

    def rises(self) -> PrecisionRecall:
        """The points where recall rises: all that a plot needs, at most one per truth box."""
        rise = np.diff(self.recall, prepend=0) > 0
        return PrecisionRecall(self.thresholds[rise], self.precision[rise], self.recall[rise])


def _ranked(scores: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(N,) the order from best to worst and (S,) the last place of each distinct score in it."""
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    return order, np.flatnonzero(np.diff(values[order], append=-np.inf))


@dataclass(frozen=True, slots=True)
class Ranking:
    """Judged detections of one label, best first, and the pictures they lie on."""

    scores: Floats  # (N,)
    tp: NDArray[np.bool_]  # (N,)
    picture: NDArray[np.intp]  # (N,) which of the P pictures
    positives: Floats  # (P,)
    bounds: NDArray[np.intp]  # (S + 1,) of the steps; in each, at its last score, recall rises

    @classmethod
    def of(
        cls, scores: ArrayLike, tp: ArrayLike, picture: ArrayLike, positives: ArrayLike
    ) -> Ranking:
        """Detections in any order, ranked."""
        order, ends = _ranked(scores)
        truth = np.asarray(tp, dtype=bool)[order]
        rises = np.diff(np.cumsum(truth)[ends], prepend=0) > 0
        return cls(
            scores=np.asarray(scores, dtype=np.float64)[order],
            tp=truth,
            picture=np.asarray(picture, dtype=np.intp)[order],
            positives=np.asarray(positives, dtype=np.float64),
            bounds=np.append(0, ends[rises] + 1),
        )

    def count(self, copies: Floats) -> Counts:
        """The counts when picture p is there `copies[p]` times, as a bootstrap draws it."""
        starts, stop = self.bounds[:-1], self.bounds[-1]
        weight = copies[self.picture[:stop]]  # below the last true detection recall is settled
        found = np.add.reduceat(weight * self.tp[:stop], starts).cumsum()
        returned = np.add.reduceat(weight, starts).cumsum()
        return Counts(found, returned, float(self.positives @ copies))


@dataclass(frozen=True, slots=True)
class Counts:
    """How many true detections, and how many in all, there are down to the end of each step."""

    found: Floats  # (S,)
    returned: Floats  # (S,)
    positives: float

    def average_precision(self) -> float:
        """Area under the interpolated curve, from 0 to 1; nan if there is no positive."""
        if not self.positives:
            return float("nan")
        precision = self.found / np.maximum(self.returned, 1)
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.diff(self.found, prepend=0) @ best_from_here / self.positives)

    def recall_at(self, false_positives_allowed: float) -> float:
        """The largest recall with no more false positives; nan if there is no positive."""
        if not self.positives:
            return float("nan")
        within = self.returned - self.found <= false_positives_allowed
        return float(self.found[within].max(initial=0) / self.positives)


def _count(scores: ArrayLike, tp: ArrayLike, positives: int) -> Counts:
    return Ranking.of(scores, tp, np.zeros(np.size(scores)), [positives]).count(np.ones(1))


def precision_recall(scores: ArrayLike, tp: ArrayLike, positives: int) -> PrecisionRecall:
    """One point for each distinct score, the highest first."""
    order, ends = _ranked(scores)
    found = np.cumsum(np.asarray(tp, dtype=bool)[order])[ends]
    recall = found / positives if positives else np.full(len(ends), np.nan)
    thresholds = np.asarray(scores, dtype=np.float64)[order][ends]
    return PrecisionRecall(thresholds, found / (ends + 1), recall)


def average_precision(scores: ArrayLike, tp: ArrayLike, positives: int) -> float:
    """Area under the interpolated precision-recall curve, all points (PASCAL VOC from 2010 on).

    Precision at a recall is the best precision at that recall or a larger one. Ties are one step.
    nan if there is no positive.
    """
    return _count(scores, tp, positives).average_precision()


def recall_at(
    scores: ArrayLike, tp: ArrayLike, positives: int, false_positives_allowed: float
) -> float:
    """The largest recall that a threshold gives with no more false positives than allowed.

    For a rate, multiply by the pictures, or by the megapixels / 100. nan if there is no positive.
    """
    return _count(scores, tp, positives).recall_at(false_positives_allowed)


def image_average_precision(best_scores: ArrayLike, present: ArrayLike) -> float:
    """Average precision of pictures ranked by their best score; `present`: the truth has a box.

    A best score of nan is a picture without detections: it is never returned, at no threshold.
    """
    best, wanted = np.asarray(best_scores, dtype=np.float64), np.asarray(present, dtype=bool)
    seen = ~np.isnan(best)
    return average_precision(best[seen], wanted[seen], int(wanted.sum()))


def best_threshold(scores: ArrayLike, tp: ArrayLike, positives: int) -> float:
    """The threshold with the best F1, midway between the last score kept and the next below it.

    Below the lowest score comes 0; of equal F1 the highest threshold wins; 0.5 if nothing is true.
    """
    order, ends = _ranked(scores)
    found = np.cumsum(np.asarray(tp, dtype=bool)[order])[ends]
    if not positives or not found.any():
        return 0.5
    f1 = 2 * found / (ends + 1 + positives)
    distinct = np.append(np.asarray(scores, dtype=np.float64)[order][ends], 0.0)
    best = int(f1.argmax())
    return float((distinct[best] + distinct[best + 1]) / 2)
