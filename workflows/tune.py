"""`nnst tune`: many trainings with different settings, and the settings of the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nnst import config, storage
from nnst.config import group, setting
from nnst.errors import JobFailed
from workflows import cropsets, family
from workflows.commands import Options, Outcome
from workflows.family import Shared
from workflows.tracking import TrackingSettings
from workflows.tuner import DEFAULT_SPACE, Point, Search, Trials, Tried, points, read_space

if TYPE_CHECKING:
    from workflows.tracking import Run

# torch and MLflow cost seconds to import: functions import what needs them.

PATIENCE_S = 600.0  # of a training for its CPUs, which other trials may have for a while
SHOWN = 5  # of the best trials


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """Settings of nnst tune."""

    crops: tuple[str, ...] = setting(help="output folders of nnst crop")
    name: str = setting("", "of the experiment; models are NAME-tune/1, ...; the logo's by default")
    trials: int = setting(16, "trainings, of which the first has the settings as they are")
    space: str = setting("", "a TOML file of settings to try, each with low and high, or a list")
    base: str = setting("", "a TOML file of settings of nnst train that all trials share")
    background: str = setting("", "an archive of pictures without the logo, for negatives")
    model: Literal["cascade", "lenet", "mlp"] | None = setting(
        None, "the model to train; none is that of --base, else cascade"
    )
    workers: int = setting(0, "workers that train together in a trial; 0 is 1")
    at_once: int = setting(0, "trials at once; 0: as many as have room for their workers")
    epochs: int = setting(0, "rounds of training of every trial; 0 is the model's own")
    seed: int = setting(0, "decides which values are tried, and the weights")
    scheduler: Literal["asha", "median", "none"] = setting(
        "asha", "by which rule of Ray Tune trials are stopped early"
    )
    grace: int = setting(4, "epochs that every trial gets")
    storage: str = setting("mlruns/training", "a folder that all workers reach, for checkpoints")
    tracking: TrackingSettings = group(TrackingSettings)

    def __post_init__(self) -> None:
        if not self.crops:
            raise ValueError("give at least one crop set")
        if min(self.trials, self.grace) < 1:
            raise ValueError("trials and grace must be 1 or more")
        if min(self.workers, self.at_once, self.epochs, self.seed) < 0:
            raise ValueError("workers, at_once, epochs and seed must be 0 or more")


def run(settings: TuneConfig, options: Options) -> Outcome:
    """Draw settings, have each tried that was not, say which were best."""
    shared = _shared(settings)
    drawn = _points(settings, shared)
    if options.dry_run:
        return _dry_run(drawn)
    more = {"space": [dict(point) for point in drawn], "rule": [settings.scheduler, settings.grace]}
    folder = family.folder_of(shared, settings.storage, "tune", more)
    if options.fresh:
        storage.remove(folder)
    parent = family.parent_run(folder, shared, "tune", config.to_dict(settings), settings.tracking)
    with parent as run:
        found = _search(settings, shared, drawn, folder, run)
        best = _best(found)
        path = storage.join(folder, "best.toml")
        text = config.to_toml(family.merged(shared.values, config.nested(best.point)))
        storage.put(path, text.encode())
        _record(run, found, best, text)
    storage.sweep(storage.join(folder, "training"))  # checkpoints of what was stopped early
    return _outcome(shared, found, best, path, run)


def _shared(settings: TuneConfig) -> Shared:
    names = ("background", "workers", "epochs", "seed", "model")
    given = {name: getattr(settings, name) for name in names}
    shared = family.shared_settings(settings.crops, settings.name, settings.base, given)
    defaults = {"trainer": {"start": PATIENCE_S}}
    values = family.merged(defaults, shared.values)
    values["workers"] = int(values.get("workers", 0)) or 1  # many small trainings go best at once
    return Shared(shared.crops, shared.name, values)


def _points(settings: TuneConfig, shared: Shared) -> list[Point]:
    """The settings of each trial. Raises ConfigError for one that nnst train would not take."""
    from workflows.__main__ import config_class

    space = read_space(settings.space) if settings.space else DEFAULT_SPACE
    drawn = points(space, settings.trials, settings.seed)
    needed = {"crops": shared.crops, "name": shared.name}
    for point in drawn:
        whole = family.merged(shared.values, config.nested(point))
        config.build(config_class("train"), {**whole, **needed}, settings.space)
    return drawn


def _search(
    settings: TuneConfig, shared: Shared, drawn: Sequence[Point], folder: str, run: Run
) -> list[Tried]:
    from workflows import tracking, tuner

    trials = Trials(folder, shared, tuple(drawn), run.run_id, tracking.tracking_uri())
    _cut_background(trials)
    how = Search(_at_once(settings, shared), settings.scheduler, settings.grace)
    try:
        found = tuner.search(trials, how)
    except BaseException:
        tracking.end_children(run)  # which had no time to say so themselves
        raise
    tracking.end_children(run, {"stopped_early": "true"})
    return found


def _cut_background(trials: Trials) -> None:
    """Cut it once, before many trials want it at once."""
    values = _training_settings(trials)
    wanted = cropsets.Wanted(
        crops=trials.shared.crops,
        background=values.background,
        background_crops=values.background_crops,
        storage=trials.values(0)["storage"],
        fanout=values.fanout,
    )
    cropsets.open_sets(wanted, dry_run=False)


def _training_settings(trials: Trials) -> Any:
    """The settings of the first trial, as nnst train has them."""
    from workflows.__main__ import config_class

    shared = trials.shared
    needed = {"crops": shared.crops, "name": shared.name}
    return config.build(config_class("train"), {**shared.values, **needed})


def _at_once(settings: TuneConfig, shared: Shared) -> int:
    """How many trials there is room for."""
    from workflows import trainer

    if settings.at_once:
        return settings.at_once
    gpus = shared.values.get("gpus_per_worker")
    gpus = trainer.default_gpus() if gpus is None else float(gpus)
    return trainer.crews_at_once(int(shared.values["workers"]), gpus)


def _best(found: Sequence[Tried]) -> Tried:
    """The trial with the best average precision; of equals that with the least loss."""
    judged = [each for each in found if each.average_precision is not None]
    if not judged:
        what = "no trial can be told from another: no held-out picture has a box"
        raise JobFailed(what, "draw boxes on more pictures, and crop again")
    return min(judged, key=_rank)


def _rank(each: Tried) -> tuple[float, float, int]:
    """Sorts trials from the best to the worst."""
    loss = each.rows[-1]["validation_loss"] if each.rows else float("inf")
    precision = each.average_precision
    return (1.0 if precision is None else -precision, loss, each.number)


def _record(run: Run, found: Sequence[Tried], best: Tried, text: str) -> None:
    """Into the parent's run: every trial as a table, and the settings of the best."""
    rows = [_row(each) for each in found]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    data = [[row.get(key) for key in columns] for row in rows]
    run.log_bytes("trials.json", json.dumps({"columns": columns, "data": data}).encode())
    run.log_tags({"mlflow.loggedArtifacts": [{"path": "trials.json", "type": "table"}]})
    run.log_bytes("best.toml", text.encode())
    run.log_metrics({"average_precision": best.average_precision})
    run.log_tags({"best_trial": best.number})


def _row(each: Tried) -> dict[str, Any]:
    done = each.document or {}
    return {
        "trial": each.number,
        "average_precision": each.average_precision,
        "epochs": len(each.rows),
        "stopped_early": each.document is None and not each.failed,
        "failed": each.failed or None,
        "model": done.get("model"),
        "run_id": done.get("run_id"),
        **each.point,
    }


def _dry_run(drawn: Sequence[Point]) -> Outcome:
    lines = [f"would train {len(drawn)} times, first with the settings as they are"]
    lines += [f"  {number}: {_words(point)}" for number, point in enumerate(drawn) if point]
    return Outcome({"trials": [dict(point) for point in drawn]}, "\n".join(lines))


def _words(point: Point) -> str:
    """The settings as words of a command."""
    return " ".join(f"--set {name}={_text(value)}" for name, value in point.items())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _outcome(shared: Shared, found: Sequence[Tried], best: Tried, path: str, run: Run) -> Outcome:
    document = {
        "run_id": run.run_id,
        "trials": [_row(each) for each in found],
        "best": _row(best),
        "settings": _words(best.point),
        "config": path,
    }
    failed = [each for each in found if each.failed]
    stopped = sum(each.document is None for each in found) - len(failed)
    lines = [f"{len(found)} trials, {stopped} of them stopped early, {len(failed)} failed"]
    done = sorted((each for each in found if each.average_precision is not None), key=_rank)
    lines += [
        f"  trial {each.number:>3}  AP {each.average_precision:.3f}  "
        f"{_words(each.point).replace('--set ', '') or 'the settings as they are'}"
        for each in done[:SHOWN]
    ]
    lines += [
        f"best:  trial {best.number}, {(best.document or {})['model']}",
        f"       {_words(best.point) or 'the settings as they are'}",
        "note:  the held-out pictures have chosen it, so its figure flatters: measure it on others",
        *(f"note:  trial {each.number} failed: {each.failed}" for each in failed),
        *(f"note:  {problem}" for problem in run.problems),
        f"run:   {run.url}",
        f"next:  nnst train {' '.join(shared.crops)} --name {shared.name} --config {path}",
    ]
    return Outcome(document, "\n".join(lines))
