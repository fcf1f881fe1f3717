"""An evaluation in words and as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnst import storage

if TYPE_CHECKING:
    from nnst.evaluation import Estimate, Evaluation, LabelEvaluation, SizeSlice

_WIDTH = 31  # of the names of figures
_SIZES = {"small": "below 32 px", "medium": "32 to 96 px", "large": "above 96 px"}


def metrics(found: Evaluation, prefix: str = "") -> dict[str, float]:
    """Every figure by the name that it has in a run; nan where it is not known."""
    values = {
        "map50": found.map50.value,
        "map30": found.map30.value,
        "mean_recall50_at_megapixel_rate": found.mean_recall50_at_megapixel_rate.value,
        "mean_recall30_at_megapixel_rate": found.mean_recall30_at_megapixel_rate.value,
        "threshold": found.threshold,
    }
    for item in found.labels:
        label = storage.safe_name(item.label)
        values |= {f"{name}_{label}": value for name, value in _label_metrics(item).items()}
    return {f"{prefix}{name}": value for name, value in values.items()}


def interval_metrics(name: str, estimate: Estimate) -> dict[str, float]:
    """The ends of a figure's interval, by its name; nan where they are not known."""
    return {f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _label_metrics(item: LabelEvaluation) -> dict[str, float]:
    estimates = {
        name: getattr(item, name).value
        for name in (
            "ap50",
            "ap30",
            "image_ap",
            "recall_at_fp_rate",
            "recall50_at_megapixel_rate",
            "recall30_at_megapixel_rate",
        )
    }
    by_size = {
        f"{name}_{each.size}": float(getattr(each, name))
        for each in item.slices
        for name in ("boxes", "recall", "ap50")
    }
    return estimates | {"precision": item.precision, "recall": item.recall} | by_size


def lines(found: Evaluation, title: str) -> Iterator[str]:
    """The figures of every label, and their means where there are several."""
    yield title
    for item in found.labels:
        yield from _label_lines(item, found)
    if len(found.labels) > 1:
        yield from _mean_lines(found)


def _label_lines(item: LabelEvaluation, found: Evaluation) -> Iterator[str]:
    rate = found.settings.false_positives_per_picture
    yield f"  {item.label}: {item.truth_boxes} boxes in the truth, {item.ignored_boxes} set aside"
    yield _line("average precision at IoU 0.5", interval(item.ap50))
    yield _line("average precision at IoU 0.3", interval(item.ap30))
    yield _line("average precision of pictures", interval(item.image_ap))
    yield _line(f"recall at {rate:g} false a picture", interval(item.recall_at_fp_rate))
    yield _line(_megapixel_rate(found), interval(item.recall50_at_megapixel_rate))
    yield _line("  the same at IoU 0.3", interval(item.recall30_at_megapixel_rate))
    if not np.isnan(found.threshold):
        yield (
            f"    at the threshold {found.threshold:.2f}: {item.tp} found, {item.missed} missed, "
            f"{item.fp} false"
        )
        yield _line("  precision", _between(item.precision, item.precision_interval))
        yield _line("  recall", _between(item.recall, item.recall_interval))
    if item.truth_boxes:
        yield from _slice_lines(item.slices)


def _slice_lines(slices: Sequence[SizeSlice]) -> Iterator[str]:
    yield f"    {'size (root of the area)':<24}{'boxes':>7}{'recall':>9}{'AP':>8}"
    for each in slices:
        recall, ap50 = _number(each.recall), _number(each.ap50)
        yield f"      {_SIZES[each.size]:<22}{each.boxes:>7}{recall:>9}{ap50:>8}"


def _mean_lines(found: Evaluation) -> Iterator[str]:
    yield f"  mean of {len(found.labels)} labels"
    yield _line("average precision at IoU 0.5", interval(found.map50))
    yield _line("average precision at IoU 0.3", interval(found.map30))
    yield _line(_megapixel_rate(found), interval(found.mean_recall50_at_megapixel_rate))
    yield _line("  the same at IoU 0.3", interval(found.mean_recall30_at_megapixel_rate))


def _megapixel_rate(found: Evaluation) -> str:
    return f"recall at {found.settings.false_positives_per_100_megapixels:g} false per 100 MP"


def _line(name: str, figure: str) -> str:
    return f"    {name:<{_WIDTH}} {figure}"


def target_line(target: Mapping[str, Any]) -> str:
    """Which threshold has the wanted precision, or that none has."""
    if target["precision"] is None:
        return f"no threshold has a precision of {target['target']:g}: nothing was detected"
    recall = "" if target["recall"] is None else f", recall {target['recall']:.3f}"
    if target["threshold"] is None:
        best = f"the best is {target['precision']:.3f}"
        return f"no threshold has a precision of {target['target']:g}: {best}{recall}"
    return (
        f"threshold {target['threshold']}: the least with a precision of {target['target']:g} "
        f"({target['precision']:.3f}{recall})"
    )


def curve_lines(points: Sequence[Mapping[str, Any]], advice: str) -> Iterator[str]:
    """The learning curve as a table, and what to make of it."""
    judged = points[-1]["judged"]
    yield f"learning curve, on {judged} pictures that the model was not trained on"
    yield f"  {'boxes':>7}  AP at IoU 0.5"
    for point in points:
        ap50 = {k: np.nan if v is None else v for k, v in point["ap50"].items()}
        yield f"  {point['boxes']:>7}  {_between(ap50['value'], (ap50['low'], ap50['high']))}"
    if advice:
        yield f"  {advice}"


def interval(estimate: Estimate) -> str:
    """A figure with its interval, as far as they are known."""
    return _between(estimate.value, (estimate.low, estimate.high))


def _between(value: float, bounds: tuple[float, float]) -> str:
    if np.isnan(value) or np.isnan(bounds[0]):
        return _number(value)
    return f"{value:.3f}  (95 %: {bounds[0]:.3f} to {bounds[1]:.3f})"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
