"""`nnst train`: crop sets -> a detector, registered as a version of NAME, and one MLflow run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from nnst import config, storage
from nnst.config import group, setting
from nnst.records import ModelSpec
from nnst.training.settings import TrainingSettings
from workflows import cropsets, curriculum, finishing, illustrating, judging, provenance
from workflows.clock import Clock
from workflows.commands import Options, Outcome
from workflows.cropsets import TrainingData
from workflows.curriculum import CascadeSettings, Course, Learnt, OnEpoch
from workflows.fanout import FanoutSettings
from workflows.finishing import Finished
from workflows.tracking import TrackingSettings
from workflows.trainer import Crew, TrainerSettings

if TYPE_CHECKING:
    from nnst.evaluation import Evaluation, JudgedPicture
    from workflows.tracking import ModelVersion, Run
    from workflows.trainer import Row

# torch and MLflow cost seconds to import: functions import what needs them.

WINDOW_CONTEXT = 1.15  # of a network by itself


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of nnst train."""

    crops: tuple[str, ...] = setting(help="output folders of nnst crop")
    name: str = setting(help="the model's name: the new version is NAME/1, NAME/2, ...")
    background: str = setting("", "an archive of pictures without the logo, for negatives")
    model: Literal["cascade", "lenet", "mlp"] = setting(
        "cascade", "cascade, or one network by itself: lenet or mlp"
    )
    workers: int = setting(0, "workers that train together; 0: one a GPU, or one a CPU up to 4")
    gpus_per_worker: float | None = setting(None, "GPUs of a worker; none takes 1 if there is one")
    fewest_workers: int = setting(
        0, "workers that it goes on with where others are lost, to other weights; 0: all of them"
    )
    epochs: int = setting(0, "rounds of training, each with a checkpoint; 0 is the model's own")
    rounds: int = setting(
        2, "times that a cascade's judge learns, with hard negatives mined before"
    )
    share: float = setting(1.0, "share of the annotated training pictures that is learnt from")
    seed: int = setting(0, "decides weights, windows and augmentation")
    context: float = setting(0.0, "side of the window over side of the logo; 0 is the model's own")
    levels_per_octave: int = setting(
        0, "pyramid levels for each halving to learn for; 0 is the model's own"
    )
    widths: tuple[int, ...] = setting((), "channels of the (scout's) layers; its own by default")
    background_crops: int = setting(12, "crops cut from each background picture")
    background_judged: int = setting(24, "held-out background pictures that set the threshold")
    storage: str = setting("mlruns/training", "a folder that all workers reach, for checkpoints")
    experiment: str = setting("", "MLflow experiment of the run; the model's name by default")
    parent: str = setting("", "id of the MLflow run that this one is part of")
    training: TrainingSettings = group(TrainingSettings)
    cascade: CascadeSettings = group(CascadeSettings)
    trainer: TrainerSettings = group(TrainerSettings)
    tracking: TrackingSettings = group(TrackingSettings)
    fanout: FanoutSettings = group(FanoutSettings)

    def __post_init__(self) -> None:
        if min(self.epochs, self.seed) < 0 or self.rounds < 1:
            raise ValueError("epochs and seed must be 0 or more, rounds 1 or more")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")
        if not 0 <= self.levels_per_octave <= 16:
            raise ValueError(f"levels_per_octave must be 0 to 16, got {self.levels_per_octave}")
        if self.workers < 0 or (self.gpus_per_worker or 0) < 0:
            raise ValueError("workers and gpus_per_worker must be 0 or more")
        if self.fewest_workers < 0 or 0 < self.workers < self.fewest_workers:
            raise ValueError("fewest_workers must be 0 or more, and not more than workers")
        if not self.crops:
            raise ValueError("give at least one crop set")


def run(settings: TrainConfig, options: Options) -> Outcome:
    """Cut background, train, set the threshold on held-out pictures, register."""
    from nnst.training import stores
    from workflows import tracking

    tracking.check_model_name(settings.name)
    data = cropsets.open_sets(_wanted(settings), options.dry_run)
    spec = _spec(settings, data)
    if options.dry_run:
        return _dry_run(settings, data, spec)
    stores.check_split(data.sets)
    stores.read_stores(data.crop_data(settings.share), data.labels)  # before anything is begun
    settings = _with_workers(settings)
    folder = _folder(settings, data, spec)
    if options.fresh:
        storage.remove(folder)
    with _run_of(folder, settings, data) as run:
        clock = Clock(folder)
        tell = _teller(run, settings, clock)
        learnt = curriculum.learn(_course(folder, settings, data, spec), tell)
        seconds = clock.keep()
        run.log_metrics({"training_seconds": seconds})
        finished = _finished(folder, settings, data, learnt, run)
        run.log_metrics(finished.metrics())
        model, found = finished.model, finished.found
        version = tracking.register(
            settings.name,
            run,
            storage.join(folder, "model"),
            model.spec,
            model.digest,
            {"data": data.digest[:12], "architecture": settings.model} | _ap_tag(found),
        )
        run.log_tags({"model_version": str(version)})
        illustrating.log(run, learnt, finished, data, settings.training)
    storage.remove(folder)  # what it held is in the run now
    done = _outcome(settings, data, version, found, [*learnt.notes, *run.problems], run)
    costs = {"training_seconds": seconds, **finishing.costs(model.spec)}
    return replace(done, document={**done.document, **costs})


def _wanted(settings: TrainConfig) -> cropsets.Wanted:
    return cropsets.Wanted(
        crops=settings.crops,
        background=settings.background,
        background_crops=settings.background_crops,
        storage=settings.storage,
        fanout=settings.fanout,
    )


def _with_workers(settings: TrainConfig) -> TrainConfig:
    """The settings with the workers and their GPUs as the cluster has them, not as a wish."""
    from workflows import trainer

    gpus = settings.gpus_per_worker
    gpus = trainer.default_gpus() if gpus is None else gpus
    workers = trainer.world_size(settings.workers, gpus, settings.fewest_workers)
    fewest = min(workers, settings.fewest_workers)
    return replace(settings, workers=workers, gpus_per_worker=gpus, fewest_workers=fewest)


def _spec(settings: TrainConfig, data: TrainingData) -> ModelSpec:
    """What is to be trained, before calibration and threshold are known."""
    from nnst.models import layout

    if settings.model != "cascade":
        return layout.network_spec(
            settings.model,
            data.labels,
            data.window_hw,
            context=settings.context or WINDOW_CONTEXT,
            widths=settings.widths,
            levels_per_octave=settings.levels_per_octave,
        )
    wanted = layout.CascadeLayout(
        scout_area=settings.cascade.scout_area,
        scout_context=settings.context or 1.0,
        scout_widths=settings.widths,
        judge_area=settings.cascade.judge_area,
        judge_context=settings.cascade.judge_context,
        levels_per_octave=settings.levels_per_octave,
    )
    return layout.cascade_spec(data.labels, data.window_hw[1] / data.window_hw[0], wanted)


def _folder(settings: TrainConfig, data: TrainingData, spec: ModelSpec) -> str:
    """Where this very training keeps its checkpoints: the same command finds them again."""
    identity = {
        "data": data.digest,
        "share": settings.share,
        "rounds": settings.rounds,
        "cascade": config.to_dict(settings.cascade),
        "spec": repr(spec),
        "training": config.to_dict(settings.training),
        "seed": settings.seed,
        "epochs": settings.epochs,
        "workers": settings.workers,
        "fewest_workers": settings.fewest_workers,
        "versions": provenance.versions(),
    }
    mark = storage.sha256(storage.to_json(identity))[:12]
    return storage.join(storage.absolute(settings.storage), f"{settings.name}-{mark}")


def _run_of(folder: str, settings: TrainConfig, data: TrainingData) -> Run:
    """The MLflow run that this training began before, or a new one."""
    from workflows import tracking

    path = storage.join(folder, "run.json")
    begun = storage.read_json(path) if storage.exists(path) else {"mark": tracking.new_mark()}
    storage.put(path, storage.to_json(begun))  # before there is a run: none can be left alone
    if begun.get("run_id"):
        return tracking.resume(begun["run_id"], patience=settings.tracking)
    run = tracking.start(
        settings.experiment or settings.name,
        f"train {settings.model}",
        params=config.to_dict(settings),
        tags={"verb": "train", "data_digest": data.digest},
        parent=settings.parent or None,
        mark=begun["mark"],
        patience=settings.tracking,
    )
    storage.put(path, storage.to_json(begun | {"run_id": run.run_id}))
    for book in (*data.sets, *data.background):
        counts = {**book.totals()["tables"], "pictures_ok": book.totals()["rows_ok"]}
        kind = book.plan["identity"]["settings"]["kind"]
        run.log_dataset(f"crops-{kind}", book.fingerprint, book.out, counts, "training")
    return run


def _course(folder: str, settings: TrainConfig, data: TrainingData, spec: ModelSpec) -> Course:
    return Course(
        folder=folder,
        spec=spec,
        data=data.crop_data(settings.share),
        background=data.background[0].source if data.background else "",
        training=settings.training,
        cascade=settings.cascade,
        epochs=settings.epochs,
        rounds=settings.rounds,
        seed=settings.seed,
        crew=_crew(settings),
        fanout=settings.fanout,
    )


def _crew(settings: TrainConfig) -> Crew:
    gpus = settings.gpus_per_worker or 0.0
    return Crew(settings.workers, gpus, settings.trainer, settings.fewest_workers)


def _teller(run: Run, settings: TrainConfig, clock: Clock) -> OnEpoch:
    """Records each epoch's metrics as it ends; of a cascade with the stage before their names."""

    def tell(stage: str, epoch: int, row: Row, ended: int) -> None:
        prefix = f"{stage}_" if settings.model == "cascade" else ""
        values = {f"{prefix}{name}": value for name, value in row.items()}
        run.log_metrics(values, step=epoch, at=ended)
        clock.keep()

    return tell


def _finished(
    folder: str, settings: TrainConfig, data: TrainingData, learnt: Learnt, run: Run
) -> Finished:
    """What was learnt as a model, with its threshold, figures and where it comes from."""
    facts = {
        "trained_on": sorted(data.trained_on(settings.share)),
        "data_digest": data.digest,
        "crops": data.sources(),
        "run_id": run.run_id,
        "code_commit": provenance.code_commit(),
        "versions": provenance.versions(),
    }

    def judge(model_folder: str) -> Sequence[JudgedPicture]:
        return judging.judge_held_out(
            data.sets, data.background, model_folder, settings.background_judged, settings.fanout
        )

    return finishing.finish(folder, learnt, facts, judge)


def _ap_tag(found: Evaluation | None) -> dict[str, str]:
    return {"validation_map50": f"{found.map50.value:.4f}"} if found else {}


def _dry_run(settings: TrainConfig, data: TrainingData, spec: ModelSpec) -> Outcome:
    from nnst import models

    parameters = models.count_parameters(spec)
    rows = sum(book.totals()["tables"].get("crops", 0) for book in data.sets)
    window = f"{spec.window_hw[1]}x{spec.window_hw[0]}"
    document = {
        "name": settings.name,
        "labels": list(data.labels[1:]),
        "crops": rows,
        "parameters": parameters,
        "window": window,
        "epochs": settings.epochs,
    }
    text = (
        f"would train {settings.model} ({parameters:,} parameters, window {window}) to find "
        f"{', '.join(data.labels[1:])} from {rows:,} crops"
    )
    return Outcome(document, text)


def _outcome(
    settings: TrainConfig,
    data: TrainingData,
    version: ModelVersion,
    found: Evaluation | None,
    problems: list[str],
    run: Run,
) -> Outcome:
    boxes = data.boxes(settings.share)
    document = {
        "model": str(version),
        "run_id": run.run_id,
        "labels": list(data.labels[1:]),
        "boxes": boxes,
        "validation": found.to_dict() if found else None,
        "problems": problems,
    }
    lines = [f"model: {version}, finds {', '.join(data.labels[1:])}"]
    if found:
        lines += [
            f"  {item.label}: average precision {item.ap50.value:.3f} at IoU 0.5, "
            f"{item.ap30.value:.3f} at 0.3, on {found.pictures} held-out pictures "
            f"({item.truth_boxes} boxes)"
            for item in found.labels
        ]
    lines += [f"note: {problem}" for problem in problems]
    lines += [
        f"run:   {run.url}",
        f"next:  nnst scan ARCHIVE --model {settings.name} --out work/scan",
    ]
    return Outcome(document, "\n".join(lines))
