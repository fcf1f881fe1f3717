"""Shards fan out over a Ray cluster and receipts come back: the only module that knows Ray tasks.

Ray's own retries are off, because its counters mix causes. The driver counts them by cause, and
commits each receipt to the ledger itself.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from nnst.config import setting
from nnst.errors import InputError, JobFailed, TooManyBad
from nnst.ledger import LeaseSettings, Ledger, held
from nnst.records import Receipt
from workflows.progress import Progress

# ray costs a second to import: functions import it, so that help need not.

Result = TypeVar("Result")
ShardWork = Callable[[int, pa.Table], Receipt]

_RETRIES = {
    "NodeDiedError": 10,
    "ObjectLostError": 10,
    "OwnerDiedError": 10,
    "WorkerCrashedError": 3,
    "OutOfMemoryError": 2,
}
_FIRST_MEMORY = 2 * 2**30  # for a shard whose worker was ended for want of memory
_FAILED_SHARDS_STOP = 3  # so many shards that raise are a fault of the job, not of a shard
_UNSAFE = (
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
    "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
    "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
    "RAY_DATA_ARROW_EXTENSION_SERIALIZATION_CLOUDPICKLE",
)
_WORKER_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),  # read once, when cv2 is imported
    "OPENCV_IO_MAX_IMAGE_WIDTH": "65500",
    "OPENCV_IO_MAX_IMAGE_HEIGHT": "65500",
    "OPENCV_LOG_LEVEL": "ERROR",
    "PYTHONFAULTHANDLER": "1",
}


@dataclass(frozen=True, slots=True)
class FanoutSettings:
    """How shards are spread. None of it changes a row."""

    cpus: float = setting(1.0, "CPUs that one shard's work takes")
    gpus: float | None = setting(None, "GPUs that it takes; none takes one where there is one")
    in_flight: int = setting(2, "shards sent ahead for each that runs")
    max_bad: float = setting(0.05, "share of bad pictures above which the exit code is 3")
    memory: float = setting(0.0, "GiB of memory that one shard's work takes; 0 reserves none")
    take_over: bool = setting(False, "whether to work on although another driver is at it")
    stall: float = setting(600.0, "seconds without a new picture after which a worker is given up")
    decode: float = setting(30.0, "seconds that decoding may take where a worker died before")

    def __post_init__(self) -> None:
        if self.cpus < 0 or (self.gpus or 0) < 0:
            raise ValueError(f"cpus and gpus must be 0 or more, got {self.cpus}, {self.gpus}")
        if self.memory < 0 or min(self.stall, self.decode) <= 0:
            raise ValueError("memory must be 0 or more, stall and decode above 0")
        if self.in_flight < 1:
            raise ValueError(f"in_flight must be 1 or more, got {self.in_flight}")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"max_bad must be in [0, 1], got {self.max_bad}")


@dataclass(frozen=True, slots=True)
class Care:
    """How carefully a shard is done. None of it changes a row but that of a fatal picture."""

    stall: float  # seconds without a new picture after which the worker ends itself
    decode: float  # seconds for one picture behind a guard
    guarded: bool = False  # whether pictures are decoded in a child process
    memory: int = 0  # bytes that the scheduler keeps for it

    def after(self, cause: str) -> Care:
        """How the shard is done again when this was its end."""
        if cause == "OutOfMemoryError":
            return replace(self, memory=max(_FIRST_MEMORY, 2 * self.memory))
        return replace(self, guarded=self.guarded or cause == "WorkerCrashedError")


def start() -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine. Once a process."""
    import ray

    doors = [name for name in _UNSAFE if os.environ.get(name)]
    if doors:
        raise InputError(f"{doors[0]} lets data files run code", f"unset {doors[0]}")
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": _WORKER_ENVIRONMENT},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"cannot join the Ray cluster at {address}: {error}",
            "check RAY_ADDRESS, or unset it to work on this machine alone",
        ) from None
    # Ray prints on stdout, which is for results, that a worker died; the ledger's notes have it.
    ray._private.worker._worker_logs_enabled = False
    _close_token_file()


def fan_out(ledger: Ledger, work: ShardWork, settings: FanoutSettings, title: str) -> None:
    """Do every shard of the ledger that is not done, and commit the job.

    `work(shard, inputs)` runs in a worker process and returns the shard's receipt; its parts are
    written by then. Raises JobFailed when a shard cannot be done, after the others are done, and
    JobBusy where another driver is at work on the folder.
    """
    shards = ledger.shards()
    done = ledger.receipts()
    missing = {number: rows for number, rows in shards.items() if number not in done}
    total = sum(rows.num_rows for rows in shards.values())
    before = sum(receipt.rows_in for receipt in done.values())
    lease = LeaseSettings(take_over=settings.take_over)
    try:
        with held(ledger.out, lease), Progress(title, total, done=before) as progress:
            for _, receipt in run_tasks(work, missing, settings, progress, ledger.note):
                ledger.commit(receipt)
                progress.advance(receipt.rows_in, receipt.bad)
    finally:
        ledger.flush_notes()  # what failed is told there in full
    ledger.succeed()


def run_tasks(
    work: Callable[[int, pa.Table], Result],
    tasks: Mapping[int, pa.Table],
    settings: FanoutSettings,
    progress: Progress,
    note: Callable[..., None] = lambda **event: None,
) -> Iterator[tuple[int, Result]]:
    """(number, result) of every task, as they finish, at most a bounded number in flight.

    Raises JobFailed, after the tasks that can be done are done, when one raised or its retries
    are spent.
    """
    if not tasks:
        return
    start()
    pool = _Pool(work, tasks, settings, note)
    # An interrupt leaves what is in flight to end with this process: Ray 2.60 now and then aborts
    # in ray.cancel ("Tried to complete task that was not pending").
    while pool.in_flight or pool.waiting:
        pool.fill()
        yield from pool.collect()
        progress.tick()
    if pool.failures:
        number, cause = next(iter(sorted(pool.failures.items())))
        raise JobFailed(
            f"{len(pool.failures)} of {len(tasks)} shards failed; shard {number}: {cause}",
            "run the same command again; it does only what is missing",
        )


class _Pool:
    """Tasks waiting, in flight and failed."""

    def __init__(
        self,
        work: Callable[[int, pa.Table], Any],
        tasks: Mapping[int, pa.Table],
        settings: FanoutSettings,
        note: Callable[..., None],
    ) -> None:
        import ray

        cluster = ray.cluster_resources()
        gpus = settings.gpus
        if gpus is None:
            gpus = 1.0 if cluster.get("GPU", 0) >= 1 else 0.0
        _check_resources(cluster, settings.cpus, gpus)
        slots = int(cluster.get("CPU", 1) / settings.cpus) if settings.cpus else len(tasks)
        if gpus:
            slots = min(slots, int(cluster["GPU"] / gpus))
        self._limit = max(1, slots) * settings.in_flight
        # max_calls=0 keeps a GPU task's process, and the model in it, for the next shard.
        remote = ray.remote(num_cpus=settings.cpus, num_gpus=gpus, max_retries=0, max_calls=0)
        self._remote = remote(_do)
        self._memory = int(settings.memory * 2**30)
        self._most_memory = int(cluster.get("memory", 0))
        self._care = Care(settings.stall, settings.decode)
        self._next: dict[int, Care] = {}  # of shards whose worker died
        self._work = ray.put(work)
        self._tasks = tasks
        self._note = note
        self._retried: dict[tuple[int, str], int] = {}
        self.waiting = sorted(tasks, reverse=True)  # the next one is the last
        self.in_flight: dict[Any, int] = {}
        self.failures: dict[int, str] = {}

    def fill(self) -> None:
        """Send tasks until the limit of those in flight is reached."""
        while self.waiting and len(self.in_flight) < self._limit:
            number = self.waiting.pop()
            care = self._next.get(number, self._care)
            memory = min(max(self._memory, care.memory), self._most_memory)
            remote = self._remote.options(memory=memory) if memory else self._remote
            task = self._work, number, self._tasks[number], care
            self.in_flight[remote.remote(*task)] = number

    def collect(self) -> Iterator[tuple[int, Any]]:
        """The results that are there now, waiting up to a second for the first."""
        import ray

        ready, _ = ray.wait(list(self.in_flight), num_returns=1, timeout=1.0)
        for reference in ready:
            number = self.in_flight.pop(reference)
            try:
                result, seconds, host = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._fail(number, error)
            else:
                self._note(shard=number, seconds=seconds, host=host)
                yield number, result

    def _fail(self, number: int, error: Exception) -> None:
        cause = type(error).__name__
        for kind in type(error).__mro__:
            if kind.__name__ in _RETRIES:
                cause = kind.__name__
                break
        self._note(shard=number, cause=cause, error=str(error))
        spent = self._retried.get((number, cause), 0)
        if spent < _RETRIES.get(cause, 0):
            self._retried[number, cause] = spent + 1
            self._next[number] = self._next.get(number, self._care).after(cause)
            self.waiting.append(number)
            return
        self.failures[number] = _first_line(error)
        if len(self.failures) >= _FAILED_SHARDS_STOP:
            self.waiting.clear()


def _do(work: ShardWork, number: int, inputs: pa.Table, care: Care) -> tuple[Any, float, str]:
    """In the worker: the result, how long it took and where."""
    import socket
    import time
    from contextlib import ExitStack

    import cv2

    from nnst import images

    cv2.setNumThreads(1)  # one thread a worker; the workers are the parallelism
    if "torch" in sys.modules:  # else OMP_NUM_THREADS does it, when it is imported
        sys.modules["torch"].set_num_threads(1)
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(images.ended_after(care.stall))
        if care.guarded:
            stack.enter_context(images.guarded(images.GuardSettings(seconds=care.decode)))
        result = work(number, inputs)
    return result, time.monotonic() - started, socket.gethostname()


def _first_line(error: Exception) -> str:
    """What a task raised, in one line: the cause, not Ray's wrapping."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"


def _check_resources(cluster: Mapping[str, float], cpus: float, gpus: float) -> None:
    """Raise when no task could ever run."""
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > cluster.get(name, 0):
            raise InputError(
                f"a shard wants {wanted:g} {name}s, and the cluster has {cluster.get(name, 0):g}",
                f"lower --set fanout.{name.lower()}s",
            )


def _close_token_file() -> None:
    """Let only the owner read the token that a local Ray writes with the default umask."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if token.is_file() and token.stat().st_uid == os.getuid():
        token.chmod(stat.S_IRUSR | stat.S_IWUSR)


def too_many_bad(totals: Mapping[str, Any], settings: FanoutSettings) -> TooManyBad | None:
    """The error that a committed job ends with when more pictures were bad than allowed."""
    if totals["rows_bad"] <= settings.max_bad * totals["rows_in"]:
        return None
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(totals["bad"].items()))
    return TooManyBad(
        f"{totals['rows_bad']} of {totals['rows_in']} pictures could not be used ({reasons}), "
        f"more than {settings.max_bad:.0%}; all else is done and written",
        "look at them, or allow more with --set fanout.max_bad=1",
    )
