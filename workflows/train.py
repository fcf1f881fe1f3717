"""`nnst train`: crop sets -> a detector, registered as a version of NAME, and one MLflow run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from nnst import config, crops, storage
from nnst.config import group, setting
from nnst.errors import InputError, PlanChanged
from nnst.ledger import Ledger
from nnst.records import Annotation, ModelSpec
from nnst.training.settings import TrainingSettings
from workflows import judging, provenance
from workflows.commands import Options, Outcome
from workflows.fanout import FanoutSettings
from workflows.progress import Progress

if TYPE_CHECKING:
    from nnst.evaluation import Evaluation
    from nnst.training.batches import CropStore
    from workflows.tracking import ModelVersion, Run
    from workflows.trainer import Fitted

# torch and MLflow cost seconds to import: functions import what needs them.


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of nnst train."""

    crops: tuple[str, ...] = setting(help="output folders of nnst crop")
    name: str = setting(help="the model's name: the new version is NAME/1, NAME/2, ...")
    background: str = setting("", "an archive of pictures without the logo, for negatives")
    model: Literal["lenet", "mlp"] = setting("lenet", "the network: lenet or mlp")
    workers: int = setting(0, "workers that train together; 0: one a GPU, or one a CPU up to 4")
    gpus_per_worker: float | None = setting(None, "GPUs of a worker; none takes 1 if there is one")
    epochs: int = setting(14, "rounds of training, each with a checkpoint")
    seed: int = setting(0, "decides weights, windows and augmentation")
    context: float = setting(1.15, "side of the window over side of the logo in it")
    widths: tuple[int, ...] = setting((), "channels of the layers; the network's own by default")
    background_crops: int = setting(24, "crops cut from each background picture")
    background_judged: int = setting(24, "held-out background pictures that set the threshold")
    storage: str = setting("mlruns/training", "a folder that all workers reach, for checkpoints")
    training: TrainingSettings = group(TrainingSettings)
    fanout: FanoutSettings = group(FanoutSettings)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.seed < 0:
            raise ValueError("epochs must be 1 or more, and seed 0 or more")
        if self.workers < 0 or (self.gpus_per_worker or 0) < 0:
            raise ValueError("workers and gpus_per_worker must be 0 or more")
        if not self.crops:
            raise ValueError("give at least one crop set")


@dataclass(frozen=True, slots=True)
class _Data:
    """The crop sets, opened."""

    sets: tuple[Ledger, ...]
    background: tuple[Ledger, ...]
    labels: tuple[str, ...]  # background first
    window_hw: tuple[int, int]

    @property
    def digest(self) -> str:
        """Of all that is trained and validated on."""
        prints = [book.fingerprint for book in (*self.sets, *self.background)]
        return storage.sha256("".join(prints).encode())


def run(settings: TrainConfig, options: Options) -> Outcome:
    """Cut background, train, set the threshold on held-out pictures, register."""
    from nnst.training import stores
    from workflows import tracking

    tracking.check_model_name(settings.name)
    data = _open(settings, options)
    spec = _spec(settings, data)
    if options.dry_run:
        return _dry_run(settings, data, spec)
    stores.check_split(data.sets)
    crops_held_out = stores.read_stores(data.sets, data.background, data.labels).validation
    settings = _with_workers(settings)
    folder = _folder(settings, data, spec)
    if options.fresh:
        storage.remove(folder)
    with _run_of(folder, settings, data) as run:
        fitted = _fit(folder, settings, data, spec, run)
        model, found = _finish_model(folder, settings, data, (spec, fitted), run)
        version = tracking.register(
            settings.name,
            run,
            storage.join(folder, "model"),
            model.spec,
            model.digest,
            {"data": data.digest[:12], "architecture": settings.model} | _ap_tag(found),
        )
        run.log_tags({"model_version": str(version)})
        _log_plots(run, crops_held_out, model, fitted, found)
    storage.remove(folder)  # what it held is in the run now
    return _outcome(settings, data, version, found, run)


def _open(settings: TrainConfig, options: Options) -> _Data:
    """The crop sets, and the one of the background, which is cut now if it is not there."""
    sets = tuple(Ledger.open(storage.absolute(path), "crop") for path in settings.crops)
    for book in sets:
        if not book.is_done():
            raise InputError(f"{book.out} is not finished", "run its nnst crop again")
    found = [annotation for book in sets for _, annotation in crops.read_truth(book)]
    labels = _labels(sets, found)
    if len(labels) == 1:
        names = ", ".join(settings.crops)
        raise InputError(f"no box with a logo in {names}", "draw boxes with imglab, and crop again")
    window_hw = tuple(sets[0].plan["identity"]["settings"]["window_hw"])
    background: tuple[Ledger, ...] = ()
    if settings.background and not options.dry_run:
        background = (_cut_background(settings, (window_hw[0], window_hw[1])),)
    return _Data(sets, background, labels, (window_hw[0], window_hw[1]))


def _with_workers(settings: TrainConfig) -> TrainConfig:
    """The settings with the workers and their GPUs as the cluster has them, not as a wish."""
    from workflows import trainer

    gpus = settings.gpus_per_worker
    gpus = trainer.default_gpus() if gpus is None else gpus
    workers = trainer.world_size(settings.workers, gpus)
    return replace(settings, workers=workers, gpus_per_worker=gpus)


def _labels(sets: Sequence[Ledger], found: Sequence[Annotation]) -> tuple[str, ...]:
    """The classes: background, then every label of a box that counts, in alphabetical order."""
    negative = {
        label
        for book in sets
        for label in book.plan["identity"]["settings"]["crop"]["negative_label"]
    }
    labels = {
        label
        for annotation in found
        for label, ignored in zip(annotation.labels, annotation.ignore, strict=True)
        if not ignored
    }
    return ("background", *sorted(labels - negative))


def _cut_background(settings: TrainConfig, window_hw: tuple[int, int]) -> Ledger:
    """The crop set of the background archive, cut for this window."""
    from workflows.__main__ import dispatch

    window = f"{window_hw[1]}x{window_hw[0]}"
    source = storage.absolute(settings.background)
    mark = storage.sha256(f"{source} {window} {settings.background_crops}".encode())[:12]
    out = storage.join(storage.absolute(settings.storage), f"background-{mark}")
    values = {
        "out": out,
        "background": source,
        "window": window,
        "crop": {"negatives": settings.background_crops},
        "fanout": config.to_dict(settings.fanout),
    }
    try:
        dispatch("crop", values)
    except PlanChanged:  # pictures came or went since it was cut
        dispatch("crop", values, Options(fresh=True))
    return Ledger.open(out, "crop")


def _spec(settings: TrainConfig, data: _Data) -> ModelSpec:
    """What is to be trained, before calibration and threshold are known."""
    from nnst import models

    spec = ModelSpec(
        architecture=settings.model,
        labels=data.labels,
        window_hw=data.window_hw,
        stride=models.ARCHITECTURES[settings.model].stride,
        widths=settings.widths,
        context=settings.context,
    )
    models.count_parameters(spec)  # raises where there can be no such network
    return spec


def _folder(settings: TrainConfig, data: _Data, spec: ModelSpec) -> str:
    """Where this very training keeps its checkpoints: the same command finds them again."""
    identity = {
        "data": data.digest,
        "spec": repr(spec),
        "training": config.to_dict(settings.training),
        "seed": settings.seed,
        "epochs": settings.epochs,
        "workers": settings.workers,
        "versions": provenance.versions(),
    }
    mark = storage.sha256(storage.to_json(identity))[:12]
    return storage.join(storage.absolute(settings.storage), f"{settings.name}-{mark}")


def _run_of(folder: str, settings: TrainConfig, data: _Data) -> Run:
    """The MLflow run that this training began before, or a new one."""
    from workflows import tracking

    path = storage.join(folder, "run.json")
    if storage.exists(path):
        return tracking.resume(storage.read_json(path)["run_id"])
    run = tracking.start(
        settings.name,
        f"train {settings.model}",
        params=config.to_dict(settings),
        tags={"verb": "train", "data_digest": data.digest},
    )
    storage.put(path, storage.to_json({"run_id": run.run_id}))
    for book in (*data.sets, *data.background):
        counts = {**book.totals()["tables"], "pictures_ok": book.totals()["rows_ok"]}
        kind = book.plan["identity"]["settings"]["kind"]
        run.log_dataset(f"crops-{kind}", book.fingerprint, book.out, counts, "training")
    return run


def _fit(folder: str, settings: TrainConfig, data: _Data, spec: ModelSpec, run: Run) -> Fitted:
    """Train, with each epoch's metrics in the run as it ends."""
    from workflows import trainer

    task = trainer.FitTask(
        folder=folder,
        crop_sets=tuple(book.out for book in data.sets),
        background=tuple(book.out for book in data.background),
        spec=spec,
        settings=settings.training,
        epochs=settings.epochs,
        seed=settings.seed,
    )
    told = trainer.epochs_told(folder)
    with Progress("train", settings.epochs, done=told, unit="epochs") as progress:

        def on_epoch(epoch: int, row: Mapping[str, float]) -> None:
            run.log_metrics(row, step=epoch)
            progress.advance(1)

        return trainer.fit(task, settings.workers, settings.gpus_per_worker or 0.0, on_epoch)


def _finish_model(
    folder: str,
    settings: TrainConfig,
    data: _Data,
    trained: tuple[ModelSpec, Fitted],
    run: Run,
) -> tuple[Any, Evaluation | None]:
    """The saved model with calibration and threshold, and its figures on held-out pictures."""
    from nnst import evaluation, models
    from nnst.training.operating import fit_operating_point

    spec, fitted = trained
    truth = [item for book in data.sets for item in crops.read_truth(book)]
    facts = {
        "trained_on": sorted(item.image_id for split, item in truth if split == "train"),
        "data_digest": data.digest,
        "run_id": run.run_id,
        "code_commit": provenance.code_commit(),
        "versions": provenance.versions(),
    }
    raw = storage.join(folder, "raw")
    models.save(raw, spec, fitted.weights, facts)
    pictures = judging.judge_held_out(
        data.sets, data.background, raw, settings.background_judged, settings.fanout
    )
    point = fit_operating_point(pictures, spec.labels[1:])
    spec = replace(spec, calibration=point.calibration, threshold=point.threshold)
    final = storage.join(folder, "model")
    models.save(final, spec, fitted.weights, facts)
    run.log_metrics({"threshold": point.threshold, "parameters": models.count_parameters(spec)})
    run.log_metrics({"multiply_adds_per_window": models.multiply_adds(spec)})
    found = None
    if any(picture.truth is not None and len(picture.truth) for picture in pictures):
        found = evaluation.evaluate(pictures, spec.labels[1:], 0.0)
        run.log_metrics(_validation_metrics(found))
    return models.load(final), found


def _validation_metrics(found: Evaluation) -> dict[str, float]:
    metrics = {"validation_map50": found.map50.value}
    for item in found.labels:
        label = storage.safe_name(item.label)
        metrics[f"validation_ap50_{label}"] = item.ap50.value
        metrics[f"validation_ap30_{label}"] = item.ap30.value
    return metrics


def _ap_tag(found: Evaluation | None) -> dict[str, str]:
    return {"validation_map50": f"{found.map50.value:.4f}"} if found else {}


def _log_plots(
    run: Run, held_out: CropStore, model: Any, fitted: Fitted, found: Evaluation | None
) -> None:
    from nnst.training.epochs import score_crops
    from workflows import plots

    run.log_bytes("plots/curves.png", plots.curves(fitted.history))
    first = next(iter(fitted.weights.values())).numpy()
    run.log_bytes("plots/kernels.png", plots.kernels(first))
    if found is not None:
        run.log_bytes("plots/precision_recall.png", plots.precision_recall(found))
    shown = (*held_out.logos, *held_out.background)
    if shown:
        scores, classes = score_crops(model.network, shown, held_out.labels)
        run.log_bytes("plots/mistakes.png", plots.mistakes(shown, scores, classes))


def _dry_run(settings: TrainConfig, data: _Data, spec: ModelSpec) -> Outcome:
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
        f"{', '.join(data.labels[1:])} from {rows:,} crops in {settings.epochs} epochs"
    )
    return Outcome(document, text)


def _outcome(
    settings: TrainConfig, data: _Data, version: ModelVersion, found: Evaluation | None, run: Run
) -> Outcome:
    document = {
        "model": str(version),
        "run_id": run.run_id,
        "labels": list(data.labels[1:]),
        "validation": found.to_dict() if found else None,
        "problems": run.problems,
    }
    lines = [f"model: {version}, finds {', '.join(data.labels[1:])}"]
    if found:
        lines += [
            f"  {item.label}: average precision {item.ap50.value:.3f} at IoU 0.5, "
            f"{item.ap30.value:.3f} at 0.3, on {found.pictures} held-out pictures "
            f"({item.truth_boxes} boxes)"
            for item in found.labels
        ]
    lines += [f"note: {problem}" for problem in run.problems]
    lines += [
        f"run:   {run.url}",
        f"next:  nnst scan ARCHIVE --model {settings.name} --out work/scan",
    ]
    return Outcome(document, "\n".join(lines))
