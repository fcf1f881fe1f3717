"""Who trains together, how long it is waited for, and what is said when it comes to nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnst import storage
from nnst.config import setting
from nnst.errors import InputError, JobFailed, NnstError
from workflows import fanout

if TYPE_CHECKING:
    from ray.train import RunConfig, ScalingConfig, UserCallback
    from ray.train.torch import TorchConfig

_STARTS = 4  # times that workers are tried to be started
_PREEMPTIONS = 20  # of a cluster's nodes; each costs at most an epoch
# Ray's controller asks its workers how they are, every two seconds by default. Until it asks, the
# end of training goes unnoticed.
_HEALTH_CHECK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# It tells workers that their node will be taken away; one node alone has nobody to go on with.
_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
_GOODBYE = ("TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S", "5")
# What no second attempt would change. Else a RuntimeError may be a peer that is gone, or a GPU.
_FAULTS_OF_CODE = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError),
    *(NotImplementedError, TypeError, ValueError, NnstError),
)

_FATES = {
    "WorkerHealthCheckFailedError": "died (killed, crashed or out of memory)",
    "WorkerHealthCheckTimeoutError": "gave no sign of life",
}


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """How long training waits for workers, and how often it goes on. None of it changes a weight.

    A RAY_TRAIN_* variable that is set goes before these.
    """

    start: float = setting(60.0, "seconds in which workers must get their CPUs and GPUs")
    stall: float = setting(120.0, "seconds without a word after which a worker is given up")
    failures: int = setting(3, "times that training goes on after workers died")

    def __post_init__(self) -> None:
        if self.start <= 0 or self.stall < 1 or self.failures < 0:
            raise ValueError("start must be above 0, stall 1 or more, failures 0 or more")


@dataclass(frozen=True, slots=True)
class Crew:
    """Who trains together."""

    workers: int
    gpus_per_worker: float
    settings: TrainerSettings = TrainerSettings()
    fewest: int = 0  # workers that it goes on with where others are lost; 0: none fewer

    @property
    def size(self) -> int | tuple[int, int]:
        """How many workers, as Ray has it: a number, or from how many to how many."""
        return (self.fewest, self.workers) if self.fewest else self.workers


def world_size(workers: int, gpus_per_worker: float, fewest: int = 0) -> int:
    """How many workers there will be; 0 asks for one a GPU, or one a CPU up to four.

    Raises InputError, at once, when the cluster could never run them, or not the fewest: then it
    may grow until there is room for all.
    """
    workers = workers or _default_workers(gpus_per_worker)
    _check_room(min(fewest, workers) or workers, gpus_per_worker)
    return workers


def crews_at_once(workers: int, gpus_per_worker: float) -> int:
    """How many crews of this kind the cluster has room for, one at least."""
    import ray

    fanout.start()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max(1, sum(_room(node, gpus_per_worker) for node in nodes) // workers)


def _default_workers(gpus_per_worker: float) -> int:
    import ray

    fanout.start()
    cluster = ray.cluster_resources()
    if gpus_per_worker:
        return max(1, int(cluster.get("GPU", 0) / gpus_per_worker))
    return max(1, min(4, int(cluster.get("CPU", 0))))


def _check_room(workers: int, gpus_per_worker: float) -> None:
    """Raise InputError when the cluster could never run so many."""
    import ray

    fanout.start()
    cluster = ray.cluster_resources()
    for name, wanted in (("CPU", workers), ("GPU", workers * gpus_per_worker)):
        if wanted > cluster.get(name, 0):
            raise InputError(
                f"{_workers(workers)} {'wants' if workers == 1 else 'want'} {wanted:g} {name}s, "
                f"the cluster has {cluster.get(name, 0):g}",
                "lower --workers or --gpus-per-worker",
            )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room(node, gpus_per_worker) for node in nodes)
    if workers > room:
        each = f"1 CPU and {gpus_per_worker:g} GPUs"
        raise InputError(
            f"{_workers(workers)} with {each} each do not fit: the cluster's {len(nodes)} nodes "
            f"have room for {room}",
            "lower --workers or --gpus-per-worker",
        )


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _room(node: Mapping[str, float], gpus_per_worker: float) -> int:
    """How many workers a node can hold; a worker is not spread over nodes."""
    room = int(node.get("CPU", 0))
    return min(room, int(node.get("GPU", 0) / gpus_per_worker)) if gpus_per_worker else room


def default_gpus() -> float:
    """GPUs that a worker takes when nothing is said: one, if the cluster has any."""
    import ray

    fanout.start()
    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


def scaling_config(crew: Crew) -> ScalingConfig:
    """How many workers there are, and what each of them takes."""
    from ray.train import ScalingConfig

    gpus = crew.gpus_per_worker
    return ScalingConfig(
        num_workers=crew.size,  # type: ignore[arg-type]  # the checker sees an older Train
        use_gpu=gpus > 0,
        resources_per_worker={"CPU": 1.0} | ({"GPU": gpus} if gpus else {}),
    )


def torch_config(crew: Crew) -> TorchConfig:
    """How ranks talk, and how long one waits for another."""
    from ray.train.torch import TorchConfig

    backend = "nccl" if crew.gpus_per_worker else "gloo"
    return TorchConfig(backend=backend, timeout_s=max(1, int(crew.settings.stall)))


def run_config(attempts: str, settings: TrainerSettings) -> RunConfig:
    """Finite limits; a name of its own, as Ray goes on with an old run of the same name.

    Ray has its own idea of stores; it is given ours, so that it takes every one that nnst takes.
    """
    from ray.train import FailureConfig, RunConfig

    # The checker sees the classes of Ray's older Train.
    limits = FailureConfig(  # type: ignore[call-arg]
        max_failures=settings.failures,
        controller_failure_limit=_STARTS - 1,
        max_preemption_failures=_PREEMPTIONS,
    )
    where: dict[str, Any] = {"storage_path": attempts}
    if storage.is_remote(attempts):
        filesystem, path = storage.arrow_filesystem(attempts)
        where = {"storage_path": path, "storage_filesystem": filesystem}
    return RunConfig(
        name=secrets.token_hex(8),
        **where,
        failure_config=limits,
        callbacks=[_stop_at_faults()],  # type: ignore[list-item]
    )


def _stop_at_faults() -> UserCallback:
    """Ends training at an exception that another attempt would meet again."""
    from ray.train import UserCallback

    class StopAtFaults(UserCallback):
        def after_exception(
            self, run_context: Any, worker_exceptions: dict[int, Exception]
        ) -> None:
            # In the controller, which now ends the others: one that stands still never says bye.
            os.environ.setdefault(*_GOODBYE)
            for error in worker_exceptions.values():
                if isinstance(error, _FAULTS_OF_CODE):
                    raise error  # what a callback raises, Ray does not try again

    return StopAtFaults()


@contextlib.contextmanager
def variables(settings: TrainerSettings, nodes: int = 1) -> Iterator[None]:
    """The settings as Ray's controller and workers read them, unless the person set others.

    On a cluster of so many nodes.
    """
    wanted = {
        _HEALTH_CHECK[0]: _HEALTH_CHECK[1],
        _WATCHER: "1" if nodes > 1 else "0",  # a process more, which takes seconds to start
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": f"{settings.stall:g}",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": f"{settings.start / _STARTS:g}",
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": f"{settings.stall:g}",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def failure(error: Exception, crew: Crew) -> NnstError:
    """What a person is told when training failed."""
    cause = getattr(error, "controller_failure", None)
    again = "run the same command again to go on"
    if isinstance(cause, NnstError):
        return cause
    if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
        remedy = f"when others have ended, {again}, or wait longer with --set trainer.start"
        return JobFailed(_not_started(crew), remedy)
    if isinstance(cause, _FAULTS_OF_CODE):
        again = "it was not tried again, as it would fail again"
        return JobFailed(f"training failed: {_cause(error)}", again)
    failures = getattr(error, "worker_failures", {})
    times = f"training failed {crew.settings.failures + 1} times, the last"
    for number, each in failures.items():
        if fate := _FATES.get(type(each).__name__):
            return JobFailed(f"{times} as worker {number} {fate}", again)
    return JobFailed(f"{times if failures else 'training failed'}: {_cause(error)}", again)


def _not_started(crew: Crew) -> str:
    """What was wanted, what is there, and what of that is free."""
    import ray

    there, free = ray.cluster_resources(), ray.available_resources()
    wanted = {"CPU": crew.workers, "GPU": crew.workers * crew.gpus_per_worker}
    parts = [
        f"{count:g} {name}s wanted, {there.get(name, 0):g} there, {free.get(name, 0):g} free"
        for name, count in wanted.items()
        if count
    ]
    what = f"{_workers(crew.workers)} could not start within {crew.settings.start:g} s"
    return f"{what} ({'; '.join(parts)})"


def _cause(error: BaseException) -> str:
    """The last line of what a worker raised, not of Ray's wrapping."""
    failures = getattr(error, "worker_failures", None)
    cause = getattr(error, "controller_failure", None) or error.__cause__ or error
    cause = next(iter(failures.values())) if failures else cause
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    name = type(cause).__name__
    return f"{name}: {lines[-1]}" if lines else name
