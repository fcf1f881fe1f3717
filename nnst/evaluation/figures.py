"""A scan and its truth -> the figures of every label, with bootstrap intervals over pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst.errors import InputError
from nnst.evaluation.curves import Ranking, precision_recall
from nnst.evaluation.results import (
    DEFAULTS,
    Estimate,
    Evaluation,
    EvaluationSettings,
    JudgedPicture,
    LabelEvaluation,
)
from nnst.evaluation.slices import slices_of
from nnst.evaluation.verdicts import Verdicts, chosen, truth_of, verdicts_of

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)  # of the resamples, by the percentile method (Efron 1979)
SLACK = 1e-9  # false positives: 0.29 a picture allow 29 in 100 pictures, whatever floats say
FIGURES = (
    "ap50",
    "ap30",
    "recall_at_fp_rate",
    "recall50_at_megapixel_rate",
    "recall30_at_megapixel_rate",
    "image_ap",
    "precision",
    "recall",
)


def evaluate(
    pictures: Sequence[JudgedPicture],
    labels: Sequence[str],
    threshold: float,
    settings: EvaluationSettings = DEFAULTS,
) -> Evaluation:
    """The figures of every label. Truth boxes with another label are not looked for.

    A threshold of nan is none: the figures at it are not known. Raises InputError if no picture is
    left to judge.
    """
    judged = chosen(pictures, settings)
    if not judged:
        raise InputError(
            f"the truth lists none of the {len(pictures)} pictures",
            "use --unlisted negative if they show nothing that should be found",
        )
    megapixels = np.array([picture.megapixels for picture in judged])
    found = [_judge(judged, label, threshold, settings) for label in labels]
    drawn = _draw(found, megapixels, settings)  # (1 + resamples, labels, figures)
    results = [
        _label_evaluation(label, one, _estimates(drawn[:, index]), threshold)
        for index, (label, one) in enumerate(zip(labels, found, strict=True))
    ]
    means = _estimates(_mean_over_labels(drawn))
    return Evaluation(
        labels=tuple(results),
        map50=means["ap50"],
        map30=means["ap30"],
        mean_recall50_at_megapixel_rate=means["recall50_at_megapixel_rate"],
        mean_recall30_at_megapixel_rate=means["recall30_at_megapixel_rate"],
        threshold=threshold,
        pictures=len(judged),
        megapixels=float(megapixels.sum()),
        unreadable=sum(not picture.readable for picture in judged),
        unlisted=sum(picture.truth is None for picture in judged),
        skipped=len(pictures) - len(judged),
        settings=settings,
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """One label's detections, judged at both overlaps, and its pictures by their best score."""

    verdicts: Verdicts  # at IoU 0.5
    at50: Ranking
    at30: Ranking
    images: Ranking
    found: Floats  # (P,) true detections of each picture at the threshold
    returned: Floats  # (P,) and all detections
    ignored_boxes: int

    def figures(self, copies: Floats, allowed: float, allowed_here: float) -> tuple[float, ...]:
        """FIGURES with picture p there `copies[p]` times, and the false positives allowed by the
        rate a picture and by the rate a megapixel."""
        at50, at30 = self.at50.count(copies), self.at30.count(copies)
        found, returned = float(self.found @ copies), float(self.returned @ copies)
        return (
            at50.average_precision(),
            at30.average_precision(),
            at50.recall_at(allowed),
            at50.recall_at(allowed_here),
            at30.recall_at(allowed_here),
            self.images.count(copies).average_precision(),
            found / returned if returned else float("nan"),
            found / at50.positives if at50.positives else float("nan"),
        )


def _judge(
    pictures: Sequence[JudgedPicture], label: str, threshold: float, settings: EvaluationSettings
) -> _Judged:
    truth = [truth_of(picture.truth, label, settings) for picture in pictures]
    verdicts = verdicts_of(pictures, label, truth, 0.5)
    kept = verdicts.kept(threshold)
    unknown = np.nan if np.isnan(threshold) else 0.0
    found, returned = (
        np.bincount(verdicts.picture[which], minlength=len(pictures)).astype(np.float64) + unknown
        for which in (kept & verdicts.tp, kept)
    )
    return _Judged(
        verdicts=verdicts,
        at50=verdicts.ranking(),
        at30=verdicts_of(pictures, label, truth, 0.3).ranking(),
        images=_rank_images(verdicts),
        found=found,
        returned=returned,
        ignored_boxes=sum(int(aside.sum()) for _, aside in truth),
    )


def _rank_images(verdicts: Verdicts) -> Ranking:
    """The pictures with detections, by the best of them; true are those with a truth box."""
    best = np.full(verdicts.pictures, np.nan)
    np.fmax.at(best, verdicts.picture, verdicts.scores)
    seen, present = np.flatnonzero(~np.isnan(best)), verdicts.positives > 0
    return Ranking.of(best[seen], present[seen], seen, present)


def _draw(found: Sequence[_Judged], megapixels: Floats, settings: EvaluationSettings) -> Floats:
    """(1 + resamples, labels, figures): of the pictures as they are, then of each resample."""
    rate = settings.false_positives_per_picture
    rate_here = settings.false_positives_per_100_megapixels / 100
    drawn = []
    for copies in _copies(len(megapixels), settings):
        allowed = rate * len(copies) + SLACK
        allowed_here = rate_here * float(megapixels @ copies) + SLACK
        drawn.append([one.figures(copies, allowed, allowed_here) for one in found])
    return np.array(drawn).reshape(1 + settings.resamples, len(found), len(FIGURES))


def _copies(pictures: int, settings: EvaluationSettings) -> Iterator[Floats]:
    yield np.ones(pictures)
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.resamples):
        drawn = rng.integers(pictures, size=pictures)
        yield np.bincount(drawn, minlength=pictures).astype(np.float64)


def _mean_over_labels(values: Floats) -> Floats:
    """(1 + resamples, figures) means over the labels whose figure is not nan."""
    known = ~np.isnan(values)
    total, number = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def _estimates(values: Floats) -> Mapping[str, Estimate]:
    """Each figure by name, from its (1 + resamples, figures) values."""
    return {name: _estimate(values[:, index]) for index, name in enumerate(FIGURES)}


def _estimate(values: Floats) -> Estimate:
    resampled = values[1:][~np.isnan(values[1:])]  # a resample may hold no truth box
    if np.isnan(values[0]) or not resampled.size:
        return Estimate(float(values[0]), float("nan"), float("nan"))
    low, high = np.percentile(resampled, PERCENTILES)
    return Estimate(float(values[0]), float(low), float(high))


def _label_evaluation(
    label: str, judged: _Judged, figures: Mapping[str, Estimate], threshold: float
) -> LabelEvaluation:
    verdicts = judged.verdicts
    kept = verdicts.kept(threshold)
    positives, tp = int(verdicts.positives.sum()), int(verdicts.tp[kept].sum())
    precision, recall = figures["precision"], figures["recall"]
    curves = {name: figures[name] for name in FIGURES if name not in ("precision", "recall")}
    return LabelEvaluation(
        label=label,
        **curves,
        curve=precision_recall(verdicts.scores, verdicts.tp, positives).rises(),
        truth_boxes=positives,
        ignored_boxes=judged.ignored_boxes,
        tp=tp,
        fp=int(kept.sum()) - tp,
        missed=positives - tp,
        precision=precision.value,
        recall=recall.value,
        precision_interval=(precision.low, precision.high),
        recall_interval=(recall.low, recall.high),
        slices=slices_of(verdicts, threshold),
    )
