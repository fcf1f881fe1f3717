"""What was learnt -> a model that can be used: calibration, threshold, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nnst import storage
from nnst.records import ModelSpec
from workflows.curriculum import Learnt

if TYPE_CHECKING:
    from nnst.evaluation import Evaluation, JudgedPicture
    from nnst.models import Model

Judge = Callable[[str], Sequence["JudgedPicture"]]
"""Held-out pictures with what the model in a folder finds in them."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A model with calibration and threshold, and what it finds in held-out pictures."""

    model: Model
    found: Evaluation | None  # None: they have no box
    pictures: Sequence[JudgedPicture]  # with calibrated scores

    def metrics(self) -> dict[str, float]:
        """Threshold, costs and average precision, under the names that every run has."""
        values = {"threshold": self.model.spec.threshold, **costs(self.model.spec)}
        return values | (_validation_metrics(self.found) if self.found else {})


def finish(folder: str, learnt: Learnt, facts: Mapping[str, Any], judge: Judge) -> Finished:
    """The model, saved in FOLDER/model with these facts, and its figures on held-out pictures."""
    from nnst import evaluation, models
    from nnst.evaluation import drift
    from nnst.training.operating import calibrated, fit_operating_point

    raw, final = (storage.join(folder, name) for name in ("raw", "model"))
    models.save(raw, learnt.spec, learnt.weights, facts)
    pictures = judge(raw)
    labels = learnt.spec.labels[1:]
    point = fit_operating_point(pictures, labels)
    spec = replace(learnt.spec, calibration=point.calibration, threshold=point.threshold)
    seen = [calibrated(picture, point.calibration) for picture in pictures]
    validation = drift.of_pictures(seen, point.threshold).to_dict()
    models.save(final, spec, learnt.weights, {**facts, "validation": validation})
    has_boxes = any(picture.truth is not None and len(picture.truth) for picture in pictures)
    found = evaluation.evaluate(pictures, labels, 0.0) if has_boxes else None
    return Finished(models.load(final), found, seen)


def costs(spec: ModelSpec) -> dict[str, float]:
    """What a model costs, under the names that every run has."""
    from nnst import models

    return {
        "parameters": models.count_parameters(spec),
        "first_layer_weights": models.first_layer_weights(spec),
        "multiply_adds_per_window": models.multiply_adds(spec),
        "multiply_adds_per_megapixel": models.multiply_adds(spec, (1000, 1000)),
    }


def _validation_metrics(found: Evaluation) -> dict[str, float]:
    metrics = {"validation_map50": found.map50.value}
    for item in found.labels:
        label = storage.safe_name(item.label)
        metrics[f"validation_ap50_{label}"] = item.ap50.value
        metrics[f"validation_ap30_{label}"] = item.ap30.value
    return metrics
