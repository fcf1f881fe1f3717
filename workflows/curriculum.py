"""The course of a training: which networks are fitted in which order, and what is mined between.

A network by itself is fitted once. Of a cascade the scout comes first; what it points at on
pictures without the logo, and beside the boxes of those with one, is what the judge learns from;
then the judge is asked what it takes for a logo, and learns from that again.

Each step leaves a folder behind, so a training that was interrupted goes on with the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nnst import config, storage
from nnst.config import setting
from nnst.errors import PlanChanged
from nnst.records import ModelSpec
from nnst.training.settings import TrainingSettings
from workflows.commands import Options
from workflows.fanout import FanoutSettings
from workflows.progress import Progress
from workflows.trainer import Crew, FitTask, Fitted, Row, Told

if TYPE_CHECKING:
    from torch import Tensor

    from nnst.training.stores import CropData

WEIGHTS, HISTORY = "weights.safetensors", "rows.json"
LONGEST_SCALE = 1.5  # the scout is asked for what the cascade's largest level shows

OnEpoch = Callable[[str, int, Row, int], None]  # stage, its epoch, metrics, end in milliseconds


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """How a cascade is laid out and taught."""

    scout_area: int = setting(1024, "pixels of the scout's window, at most")
    judge_area: int = setting(4096, "pixels of the judge's window")
    judge_context: float = setting(1.35, "side of the judge's window over side of the box in it")
    scout_epochs: int = setting(16, "rounds of training of the scout")
    judge_epochs: int = setting(8, "rounds of training of the judge")
    again_epochs: int = setting(4, "rounds of training after mining once more")
    mined: int = setting(10, "hard negatives of the scout cut from each picture")
    mined_again: int = setting(6, "hard negatives of the judge cut from each picture")
    pretrained: bool = setting(True, "whether the judge begins with what nnst ships")

    def __post_init__(self) -> None:
        for name, value in config.to_dict(self).items():
            if not isinstance(value, bool) and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")


@dataclass(frozen=True, slots=True)
class Course:
    """Everything that decides what is learnt."""

    folder: str
    spec: ModelSpec
    data: CropData
    background: str  # the archive behind the background crops, "" without
    training: TrainingSettings
    cascade: CascadeSettings
    epochs: int  # 0: as many as each network needs
    rounds: int
    seed: int
    crew: Crew
    fanout: FanoutSettings


@dataclass(frozen=True, slots=True)
class Learnt:
    """What came out of a course."""

    spec: ModelSpec
    weights: Mapping[str, Tensor]  # of the plain network or cascade
    data: CropData  # with what was mined
    histories: Mapping[str, tuple[Row, ...]]  # of each stage
    notes: tuple[str, ...] = ()  # lines for the person


def learn(course: Course, on_epoch: OnEpoch) -> Learnt:
    """Take the course, or what is left of it."""
    from nnst import models
    from nnst.models import norms

    if course.spec.architecture == models.CASCADE:
        return _learn_cascade(course, on_epoch)
    task = _task(course, "fit", course.spec, course.epochs or 14)
    fitted = _fit(course, "fit", task, on_epoch)
    weights = norms.plain_weights(course.spec, fitted.weights)
    return Learnt(course.spec, weights, course.data, {"": fitted.history}, fitted.notes)


def _learn_cascade(course: Course, on_epoch: OnEpoch) -> Learnt:
    wanted, scout_spec = course.cascade, course.spec.stages[0]
    task = _task(course, "scout", scout_spec, course.epochs or wanted.scout_epochs)
    fitted = _fit(course, "scout", task, on_epoch)
    course, scout = _with_scout(course, fitted)
    histories, notes = {"scout": fitted.history}, fitted.notes
    data = _mined(course, course.data, 1, wanted.mined)
    epochs, initial, rate = course.epochs or wanted.judge_epochs, "", 1.0
    rows: tuple[Row, ...] = ()
    judge: Mapping[str, Tensor] = {}
    for number in range(1, course.rounds + 1):
        stage = f"judge-{number}"
        task = _task(replace(course, data=data), stage, course.spec.stages[1], epochs)
        settings = replace(task.settings, learning_rate=rate * task.settings.learning_rate)
        task = replace(task, scout=course.spec.stages[0], initial=initial, settings=settings)
        task = replace(task, pretrained=wanted.pretrained)
        told = len(rows)
        fitted = _fit(course, stage, task, _later(on_epoch, told))
        rows += fitted.history
        notes += fitted.notes
        judge = _save_cascade(course, number, scout, fitted.weights)
        if number < course.rounds:
            data = _mined(course, data, number + 1, wanted.mined_again)
        initial = storage.join(course.folder, stage, WEIGHTS)
        epochs, rate = math.ceil(course.epochs / 2) or wanted.again_epochs, 0.5
    return Learnt(course.spec, {**scout, **judge}, data, histories | {"judge": rows}, notes)


def _later(on_epoch: OnEpoch, told: int) -> OnEpoch:
    """Epochs of another round of the judge go on counting."""

    def tell(_: str, epoch: int, row: Row, ended: int) -> None:
        on_epoch("judge", told + epoch, row, ended)

    return tell


def _with_scout(course: Course, fitted: Fitted) -> tuple[Course, dict[str, Tensor]]:
    """The course with the scout's threshold, and the scout's weights; its model is written."""
    from nnst import models
    from nnst.models import norms
    from nnst.training.lessons import WindowLesson
    from nnst.training.pointing import scout_threshold
    from nnst.training.stores import read_stores

    spec = course.spec.stages[0]
    plain = norms.plain_weights(spec, fitted.weights)
    network = models.build(spec, 0)
    network.load_state_dict(plain)
    stores = read_stores(course.data, course.spec.labels)
    lesson = WindowLesson(spec, stores.train, course.training)
    threshold = scout_threshold(network, lesson, course.training, course.seed)
    spec = replace(spec, threshold=threshold)
    models.save(storage.join(course.folder, "asked-1"), spec, plain)
    stages = (spec, course.spec.stages[1])
    whole = replace(course, spec=replace(course.spec, stages=stages))
    return whole, {f"scout.{name}": value for name, value in plain.items()}


def _save_cascade(
    course: Course, number: int, scout: Mapping[str, Tensor], learnt: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The judge's plain weights, named as in the cascade, which is written to be asked."""
    from nnst import models
    from nnst.models import norms

    plain = norms.plain_weights(course.spec.stages[1], learnt)
    judge = {f"judge.{name}": value for name, value in plain.items()}
    folder = storage.join(course.folder, f"asked-{number + 1}")
    models.save(folder, course.spec, {**scout, **judge})
    return judge


def _mined(course: Course, data: CropData, number: int, count: int) -> CropData:
    """The data with what the model of this number takes for a logo, and is none."""
    sources = [*data.crop_sets, *([course.background] if course.background else [])]
    found = []
    for index, source in enumerate(sources):
        out = storage.join(course.folder, f"hard-{number}-{index}")
        model = storage.join(course.folder, f"asked-{number}") + "/"
        values = {
            "archive": source,
            "model": model,
            "out": out,
            "per_picture": count,
            "min_width": _smallest(course.spec),
            "fanout": config.to_dict(course.fanout),
        }
        _mine(values)
        found.append(out)
    return replace(data, mined=(*data.mined, *found))


def _mine(values: Mapping[str, Any]) -> None:
    from workflows.__main__ import dispatch

    try:
        dispatch("mine", values)
    except PlanChanged:  # pictures came or went since
        dispatch("mine", values, Options(fresh=True))


def _smallest(spec: ModelSpec) -> int:
    """The width in pixels of the smallest object that the cascade looks for."""
    return max(1, round(spec.window_hw[1] / spec.context / LONGEST_SCALE))


def _task(course: Course, stage: str, spec: ModelSpec, epochs: int) -> FitTask:
    return FitTask(
        folder=storage.join(course.folder, stage),
        data=course.data,
        labels=course.spec.labels,
        spec=spec,
        settings=course.training,
        epochs=epochs,
        seed=course.seed,
        elastic=course.crew.fewest > 0,
    )


def _fit(course: Course, stage: str, task: FitTask, on_epoch: OnEpoch) -> Fitted:
    """Fit one network, or read what was fitted before; either way each epoch is told of."""
    from workflows import trainer

    def tell(epoch: int, row: Row, ended: int) -> None:
        on_epoch(stage, epoch, row, ended)

    weights, history = (storage.join(task.folder, name) for name in (WEIGHTS, HISTORY))
    if storage.exists(weights):
        done = storage.read_json(history)
        trainer.tell_again(task.folder, done["epochs"], tell)
        learnt = trainer.read_weights(weights)
        return Fitted(learnt, tuple(done["epochs"]), tuple(done["notes"]))
    fitted = _fit_now(course, stage, task, tell)
    rows = [dict(row) for row in fitted.history]
    storage.put(history, storage.to_json({"epochs": rows, "notes": fitted.notes}))
    trainer.write_weights(weights, fitted.weights)
    return fitted


def _fit_now(course: Course, stage: str, task: FitTask, tell: Told) -> Fitted:
    """Fit one network, with a bar that counts only what is not done yet."""
    from workflows import trainer

    before = trainer.epochs_told(task.folder)
    with Progress(f"train {stage}", task.epochs, done=before, unit="epochs") as progress:

        def advance(epoch: int, row: Row, ended: int) -> None:
            tell(epoch, row, ended)
            if epoch >= before:
                progress.advance(1)

        return trainer.fit(task, course.crew, advance)
