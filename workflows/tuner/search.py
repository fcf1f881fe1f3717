"""All trials of a search: as many at once as there is room for, the worst stopped early.

A trial of Ray Tune holds no CPU, and only passes on what it hears: its training is done by a
process beside it. In one that Tune has given a placement, all that the training starts would have
to fit into that placement, where there is nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from nnst.errors import JobFailed
from workflows import fanout, trainer
from workflows.progress import Progress
from workflows.tuner import trial
from workflows.tuner.trial import Trials, Tried

if TYPE_CHECKING:
    from ray.tune import Callback

# Tune wants something to be reserved for each trial: a byte of memory, of which there is plenty.
_NEXT_TO_NOTHING = {"CPU": 0.0, "memory": 1.0}
_SWITCHES = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one writes tables on stdout, which is for results
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # what is recorded, MLflow has
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
_LITTLE = 1e-3  # what the loss counts beside average precision: of equals it decides, no more
_FOREVER = 1_000_000  # epochs; a training knows its own end
_REDUCTION = 3  # of this many trials that get so far, the best goes on


@dataclass(frozen=True, slots=True)
class Search:
    """How trials are spread and stopped."""

    at_once: int  # trials
    scheduler: Literal["asha", "median", "none"] = "asha"
    grace: int = 4  # epochs that every trial gets


def search(trials: Trials, how: Search) -> list[Tried]:
    """What every trial came to; those that are done already are not done again.

    Raises JobFailed when none was done to its end.
    """
    fanout.start()
    failures: dict[int, str] = {}
    stopped: dict[int, int] = {}  # after how many epochs
    with Progress("tune", len(trials.points), unit="trials") as progress, _switches():
        trainer.interruptible(lambda: _fit(trials, how, _teller(progress, failures, stopped)))
    for number, epochs in stopped.items():
        trial.stop(trials, number, epochs)  # its process may not be dead yet, and go on
    numbers = range(len(trials.points))
    found = [replace(trial.tried(trials, n), failed=failures.get(n, "")) for n in numbers]
    if failures and not any(each.document for each in found):
        number, why = min(failures.items())
        remedy = "put that right and run the same command again"
        raise JobFailed(
            f"{len(failures)} of {len(found)} trials failed; trial {number}: {why}", remedy
        )
    return found


def _fit(trials: Trials, how: Search, callback: Callback) -> None:
    from ray import tune

    with tempfile.TemporaryDirectory(prefix="nnst-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(_relay(trials), _NEXT_TO_NOTHING),
            param_space={"trial": tune.grid_search(list(range(len(trials.points))))},
            tune_config=tune.TuneConfig(
                scheduler=_scheduler(how), max_concurrent_trials=how.at_once
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=scratch, verbose=0, callbacks=[callback]
            ),
        ).fit()


def _relay(trials: Trials) -> Callable[[dict[str, Any]], None]:
    """What a trial of Tune does: have it studied elsewhere, and report what it hears."""

    def relay(chosen: dict[str, Any]) -> None:
        import ray
        from ray import tune
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        free: Any = PlacementGroupSchedulingStrategy(placement_group=None)  # type: ignore[arg-type]
        # Ray Train's watchman, who gives a stopped training's CPUs back, looks for a Ray on this
        # machine, and dies where there are two.
        here = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        remote = ray.remote(
            num_cpus=0, max_retries=0, scheduling_strategy=free, runtime_env={"env_vars": here}
        )(trial.study)
        rows: Any = remote.remote(trials, chosen["trial"])  # references, as they come
        try:
            for reference in rows:
                tune.report(_told(ray.get(reference)))
        except ray.exceptions.RayError as error:
            tune.report({"failed": f"its process died ({type(error).__name__})"})
        except SystemExit:  # by which Tune stops a trial
            # At once: else it sees its workers die first, and says that it failed.
            ray.cancel(rows, force=True, recursive=False)
            raise

    return relay


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """What Tune hears of an epoch: how good it is, and how far training is.

    A few held-out crops are soon all found; then the loss tells trials apart.
    """
    if "failed" in row:
        return row
    precision, loss = (row[f"validation_{name}"] for name in ("window_ap", "loss"))
    score = precision - _LITTLE * loss
    return {"epoch": row["epoch"], "score": score if math.isfinite(score) else 0.0}


def _scheduler(how: Search) -> Any:
    """Trials are compared when they have had as many epochs; then all are at the same stage."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

    common: dict[str, Any] = {"time_attr": "epoch", "metric": "score", "mode": "max"}
    if how.scheduler == "asha":
        return ASHAScheduler(
            **common, max_t=_FOREVER, grace_period=how.grace, reduction_factor=_REDUCTION
        )
    if how.scheduler == "median":
        return MedianStoppingRule(**common, grace_period=how.grace, min_samples_required=3)
    return FIFOScheduler()


def _teller(progress: Progress, failures: dict[int, str], stopped: dict[int, int]) -> Callback:
    """Counts trials, and keeps why some failed and where others were stopped."""
    from ray import tune

    class Teller(tune.Callback):
        def on_trial_result(
            self, iteration: int, trials: Sequence[Any], trial: Any, result: Any, **_: Any
        ) -> None:
            if "failed" in result:
                failures[trial.config["trial"]] = result["failed"]
            elif result["done"]:  # the scheduler says so; a trial that ends by itself tells nothing
                stopped[trial.config["trial"]] = result["epoch"]
            progress.tick()

        def on_trial_complete(
            self, iteration: int, trials: Sequence[Any], trial: Any, **_: Any
        ) -> None:
            progress.advance(1)

    return Teller()


@contextlib.contextmanager
def _switches() -> Iterator[None]:
    """Tune's settings, and its silence, while it is at work."""
    added = {name: value for name, value in _SWITCHES.items() if name not in os.environ}
    os.environ.update(added)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name in added:
            del os.environ[name]
