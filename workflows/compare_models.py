"""`nnst compare-models`: the talk's argument as a table. The same crops teach several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nnst import config, storage
from nnst.config import group, setting
from workflows import comparison, family
from workflows.commands import Options, Outcome
from workflows.family import Shared
from workflows.tracking import TrackingSettings

if TYPE_CHECKING:
    from workflows.tracking import Run

# torch and MLflow cost seconds to import: functions import what needs them.

TALK_WINDOW, TALK_HW = "75x22", (22, 75)
COSTS = (
    *("parameters", "first_layer_weights", "multiply_adds_per_window"),
    *("multiply_adds_per_megapixel", "training_seconds"),
)


@dataclass(frozen=True, slots=True)
class CompareModelsConfig:
    """Settings of nnst compare-models."""

    crops: tuple[str, ...] = setting(help="output folders of nnst crop")
    name: str = setting("", "of the experiment; models are NAME-mlp, ...; the logo's by default")
    models: tuple[Literal["mlp", "lenet", "cascade"], ...] = setting(
        ("mlp", "lenet", "cascade"), "a model to train; say it again for each"
    )
    background: str = setting("", "an archive of pictures without the logo, for negatives")
    base: str = setting("", "a TOML file of settings of nnst train that all models share")
    workers: int = setting(0, "workers that train together, as in nnst train")
    epochs: int = setting(0, "rounds of training of every model; 0 is each model's own")
    seed: int = setting(0, "decides weights, windows and augmentation")
    archive: str = setting("", "pictures that are scanned for the speed; those of the crops")
    pictures: int = setting(4, "at most so many of them")
    threads: int = setting(1, "threads of the process that scans them")
    storage: str = setting("mlruns/training", "a folder that all workers reach, for checkpoints")
    tracking: TrackingSettings = group(TrackingSettings)

    def __post_init__(self) -> None:
        if not self.crops or not self.models:
            raise ValueError("give at least one crop set and one model")
        if len(set(self.models)) < len(self.models):
            raise ValueError("a model can be named only once")
        if min(self.pictures, self.threads) < 1:
            raise ValueError("pictures and threads must be 1 or more")


def run(settings: CompareModelsConfig, options: Options) -> Outcome:
    """Train each model that is not trained yet, measure it, print and record the table."""
    shared = _shared(settings)
    if options.dry_run:
        return _dry_run(settings, shared)
    folder = family.folder_of(shared, settings.storage, "compare-models", {})
    if options.fresh:
        storage.remove(folder)
    parent = family.parent_run(
        folder, shared, "compare-models", config.to_dict(settings), settings.tracking
    )
    with parent as run:
        rows = [_row(folder, settings, shared, model, run, options) for model in settings.models]
        _record(run, rows)
    return _outcome(rows, run)


def _shared(settings: CompareModelsConfig) -> Shared:
    names = ("background", "workers", "epochs", "seed", "storage")
    given = {name: getattr(settings, name) for name in names}
    return family.shared_settings(settings.crops, settings.name, settings.base, given)


def _row(
    folder: str,
    settings: CompareModelsConfig,
    shared: Shared,
    model: str,
    parent: Run,
    options: Options,
) -> dict[str, Any]:
    """The figures of one model: of this command's last time, or of a training now."""
    path = storage.join(folder, f"{model}.json")
    if storage.exists(path):
        return dict(storage.read_json(path))
    own = {"model": model, "parent": parent.run_id}
    done = family.trained(shared, f"{shared.name}-{model}", own, Options(fresh=options.fresh))
    row = {
        "model": model,
        "version": done["model"],
        "run_id": done["run_id"],
        "boxes": done["boxes"],
        "average_precision": None,
        **{name: done[name] for name in COSTS},
        **_speed(settings, done["model"]),
    }
    if done["validation"]:
        judged = done["validation"]
        row |= {"average_precision": judged["map50"]["value"], "judged": judged["pictures"]}
    _tell_child(row, settings)
    storage.put(path, storage.to_json(row))
    return row


def _speed(settings: CompareModelsConfig, model: str) -> dict[str, float]:
    from workflows.__main__ import dispatch

    values = {
        "archive": settings.archive or settings.crops[0],
        "model": model,
        "pictures": settings.pictures,
        "threads": settings.threads,
        "repeats": 1,
    }
    found = dispatch("bench", values).document
    return {"megapixels_per_s": found["megapixels_per_s"]}


def _tell_child(row: Mapping[str, Any], settings: CompareModelsConfig) -> None:
    """Record in a model's own run what was measured here, under the names that all have."""
    from workflows import tracking

    with tracking.resume(row["run_id"], patience=settings.tracking) as child:
        child.log_metrics({name: row[name] for name in ("average_precision", "megapixels_per_s")})
        child.log_tags({"architecture": row["model"], "compared_as": row["model"]})


def _record(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    run.log_bytes("comparison.json", comparison.as_table(rows))
    run.log_tags({"mlflow.loggedArtifacts": [{"path": "comparison.json", "type": "table"}]})
    run.log_bytes("comparison.txt", "\n".join(comparison.as_text(rows)).encode())
    run.log_bytes("plots/comparison.png", comparison.as_figure(rows))


def _dry_run(settings: CompareModelsConfig, shared: Shared) -> Outcome:
    found = []
    for model in settings.models:
        name = f"{shared.name}-{model}"
        found.append(family.trained(shared, name, {"model": model}, Options(dry_run=True)))
    lines = [f"would train {len(found)} models on the same split"]
    lines += [
        f"  {model}: {each['parameters']:,} parameters, window {each['window']}"
        for model, each in zip(settings.models, found, strict=True)
    ]
    return Outcome({"models": dict(zip(settings.models, found, strict=True))}, "\n".join(lines))


def _outcome(rows: Sequence[Mapping[str, Any]], run: Run) -> Outcome:
    document = {"run_id": run.run_id, "models": [dict(row) for row in rows]}
    lines = [*comparison.as_text(rows), *_notes(rows)]
    lines += [f"note: {problem}" for problem in run.problems]
    lines += [f"run:   {run.url}", f"next:  nnst scan ARCHIVE --model {_best(rows)['version']}"]
    return Outcome(document, "\n".join(lines))


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = ["first layer: its weights; mult-adds/MP: of a megapixel of one level, every window"]
    dense = next((row for row in rows if row["model"] == "mlp"), None)
    weights = talk_weights()
    if dense is not None and dense["first_layer_weights"] != weights:
        notes.append(f"with nnst crop --window {TALK_WINDOW} mlp's first layer has {weights:,}")
    if any(row["average_precision"] is None for row in rows):
        notes.append("no average precision: no held-out picture has a box")
    return notes


def talk_weights() -> int:
    """Weights of the first layer of the talk's dense network."""
    from nnst import models
    from nnst.models import layout

    spec = layout.network_spec("mlp", ("background", "logo"), TALK_HW, context=1.0)
    return models.first_layer_weights(spec)


def _best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row with the best average precision; of equals the fastest."""
    return max(rows, key=lambda row: (row["average_precision"] or 0.0, row["megapixels_per_s"]))
