"""A scan and its truth -> the figures of every label, with bootstrap intervals over pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.errors import InputError
from nnst.evaluation.curves import Ranking, precision_recall
from nnst.evaluation.matching import match
from nnst.evaluation.results import (
    DEFAULTS,
    Estimate,
    Evaluation,
    EvaluationSettings,
    JudgedPicture,
    LabelEvaluation,
)
from nnst.records import Annotation

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)  # of the resamples, by the percentile method (Efron 1979)


def evaluate(
    pictures: Sequence[JudgedPicture],
    labels: Sequence[str],
    threshold: float,
    settings: EvaluationSettings = DEFAULTS,
) -> Evaluation:
    """The figures of every label. Truth boxes with another label are not looked for.

    Raises InputError if no picture is left to judge.
    """
    judged = [p for p in pictures if p.truth is not None or settings.unlisted == "negative"]
    if not judged:
        raise InputError(
            f"the truth lists none of the {len(pictures)} pictures",
            "use --unlisted negative if they show nothing that should be found",
        )
    rankings = [_rankings(judged, label, settings) for label in labels]
    drawn = _draw(rankings, len(judged), settings)  # (1 + resamples, labels, 4)
    results = [
        _label_evaluation(label, ranked, drawn[:, index], threshold)
        for index, (label, ranked) in enumerate(zip(labels, rankings, strict=True))
    ]
    return Evaluation(
        labels=tuple(results),
        map50=_estimate(_mean_over_labels(drawn[:, :, 0])),
        threshold=threshold,
        pictures=len(judged),
        unreadable=sum(not picture.readable for picture in judged),
        unlisted=sum(picture.truth is None for picture in judged),
        skipped=len(pictures) - len(judged),
        settings=settings,
    )


@dataclass(frozen=True, slots=True)
class _Rankings:
    """One label's detections, judged at both overlaps, and its pictures by their best score."""

    at50: Ranking
    at30: Ranking
    images: Ranking
    ignored_boxes: int

    def figures(self, copies: Floats, rate: float) -> tuple[float, float, float, float]:
        """ap50, ap30, recall_at_fp_rate and image_ap with picture p there `copies[p]` times."""
        counts = self.at50.count(copies)
        return (
            counts.average_precision(),
            self.at30.count(copies).average_precision(),
            counts.recall_at(rate * len(copies)),
            self.images.count(copies).average_precision(),
        )


def _rankings(
    pictures: Sequence[JudgedPicture], label: str, settings: EvaluationSettings
) -> _Rankings:
    truth = [_truth(picture.truth, label, settings) for picture in pictures]
    at50, at30 = (_rank(pictures, label, truth, iou) for iou in (0.5, 0.3))
    best = np.full(len(pictures), np.nan)
    np.fmax.at(best, at50.picture, at50.scores)
    seen, present = np.flatnonzero(~np.isnan(best)), at50.positives > 0
    images = Ranking.of(best[seen], present[seen], seen, present)
    return _Rankings(at50, at30, images, sum(int(aside.sum()) for _, aside in truth))


def _truth(
    truth: Annotation | None, label: str, settings: EvaluationSettings
) -> tuple[boxes_.Boxes, NDArray[np.bool_]]:
    """(M, 4) boxes that matter for the label and (M,) which of them are set aside."""
    if truth is None:
        return boxes_.as_boxes([]), np.zeros(0, dtype=bool)
    own = np.array([name == label for name in truth.labels], dtype=bool)
    aside = truth.ignore | (truth.difficult & (not settings.count_difficult))
    matters = own | truth.ignore  # what an ignore box hides may be of any label
    return truth.boxes[matters], aside[matters]


def _rank(
    pictures: Sequence[JudgedPicture],
    label: str,
    truth: Sequence[tuple[boxes_.Boxes, NDArray[np.bool_]]],
    iou_threshold: float,
) -> Ranking:
    scores, tp, where = [np.zeros(0)], [np.zeros(0, dtype=bool)], [np.zeros(0, dtype=np.intp)]
    for index, (picture, (truth_boxes, aside)) in enumerate(zip(pictures, truth, strict=True)):
        mine = picture.labels == label
        if not mine.any():
            continue
        matched = match(
            picture.boxes[mine], picture.scores[mine], truth_boxes, aside, iou_threshold
        )
        judged = ~matched.ignored
        scores.append(picture.scores[mine][judged])
        tp.append(matched.tp[judged])
        where.append(np.full(int(judged.sum()), index))
    positives = [int((~aside).sum()) for _, aside in truth]
    return Ranking.of(np.concatenate(scores), np.concatenate(tp), np.concatenate(where), positives)


def _draw(rankings: Sequence[_Rankings], pictures: int, settings: EvaluationSettings) -> Floats:
    """(1 + resamples, labels, 4) figures: of the pictures as they are, then of each resample."""
    rate = settings.false_positives_per_picture
    return np.array(
        [
            [ranked.figures(copies, rate) for ranked in rankings]
            for copies in _copies(pictures, settings)
        ]
    ).reshape(1 + settings.resamples, len(rankings), 4)


def _copies(pictures: int, settings: EvaluationSettings) -> Iterator[Floats]:
    yield np.ones(pictures)
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.resamples):
        drawn = rng.integers(pictures, size=pictures)
        yield np.bincount(drawn, minlength=pictures).astype(np.float64)


def _mean_over_labels(values: Floats) -> Floats:
    """(1 + resamples,) means of (1 + resamples, labels) over the labels that are not nan."""
    known = ~np.isnan(values)
    total, number = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, number, out=np.full(len(values), np.nan), where=number > 0)


def _estimate(values: Floats) -> Estimate:
    resampled = values[1:][~np.isnan(values[1:])]  # a resample may hold no truth box
    if np.isnan(values[0]) or not resampled.size:
        return Estimate(float(values[0]), float("nan"), float("nan"))
    low, high = np.percentile(resampled, PERCENTILES)
    return Estimate(float(values[0]), float(low), float(high))


def _label_evaluation(
    label: str,
    ranked: _Rankings,
    drawn: Floats,  # (1 + resamples, 4)
    threshold: float,
) -> LabelEvaluation:
    at50 = ranked.at50
    kept = at50.scores >= float(np.float32(threshold))  # scores are float32
    positives, tp = int(at50.positives.sum()), int(at50.tp[kept].sum())
    returned = int(kept.sum())
    ap50, ap30, recall_at_fp_rate, image_ap = (_estimate(figure) for figure in drawn.T)
    return LabelEvaluation(
        label=label,
        ap50=ap50,
        ap30=ap30,
        recall_at_fp_rate=recall_at_fp_rate,
        image_ap=image_ap,
        curve=precision_recall(at50.scores, at50.tp, positives).rises(),
        truth_boxes=positives,
        ignored_boxes=ranked.ignored_boxes,
        tp=tp,
        fp=returned - tp,
        missed=positives - tp,
        precision=tp / returned if returned else float("nan"),
        recall=tp / positives if positives else float("nan"),
    )
