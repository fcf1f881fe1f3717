"""Shards that wait, are in flight, are done or have failed: who is sent next, and who once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from workflows.fanout import cluster
from workflows.fanout.care import Care
from workflows.fanout.retries import Cause, Retries, cause_of
from workflows.fanout.settings import FanoutSettings
from workflows.fanout.stragglers import Stragglers
from workflows.fanout.worker import Staged, begin_on, end_on, work_on

_RAISED_STOP = 3  # so many shards that raise are a fault of the job, not of a shard
_LOOK_SECONDS = 5.0  # between looks at the cluster, of which nodes come and go


@dataclass(slots=True)
class _Attempt:
    """A shard that was sent."""

    number: int
    began: float | None = None  # when it was its turn, by the driver's clock


class Pool:
    """The attempts at all shards of one fan-out."""

    def __init__(
        self,
        work: Callable[[int, pa.Table], Any],
        tasks: Mapping[int, pa.Table],
        settings: FanoutSettings,
        note: Callable[..., None],
    ) -> None:
        import ray

        self._settings = settings
        self._gpus = cluster.gpus_for(settings)
        # max_calls=0 keeps a GPU task's process, and the model in it, for the next shard.
        remote = ray.remote(num_cpus=settings.cpus, num_gpus=self._gpus, max_retries=0, max_calls=0)
        apart = settings.apart if isinstance(work, Staged) else 0.0
        self._remote = remote(end_on if apart else work_on)
        first = ray.remote(num_cpus=apart, num_gpus=0, max_retries=0)
        self._first: Any = first(begin_on) if apart else None
        self._work: Any = ray.put(work)
        self._tasks = tasks
        self._note = note
        self._first_care = Care(
            settings.stall,
            settings.decode,
            memory=int(settings.memory * 2**30),
            decoders=settings.decoders
            or max(1, int(apart or (settings.cpus if self._gpus else 1))),
        )
        self._care: dict[int, Care] = {}  # of shards that are not sent for the first time
        self._retries = Retries()
        self._stragglers = Stragglers(len(tasks), settings.twin)
        self._twins: set[int] = set()
        self._raised = 0
        self._looked = -_LOOK_SECONDS
        self._slots = 1
        self._waiting = sorted(tasks, reverse=True)  # the next one is the last
        self.in_flight: dict[Any, _Attempt] = {}  # by Ray's reference, in the order of sending
        self.unsettled = set(tasks)  # neither done nor failed
        self.failures: dict[int, str] = {}

    @property
    def at_work(self) -> bool:
        """Whether a result may still come. What a twin was faster than is not waited for."""
        return bool(self._waiting) or any(
            attempt.number in self.unsettled for attempt in self.in_flight.values()
        )

    def fill(self) -> None:
        """Send shards until the limit of those in flight is reached, and twins of stragglers."""
        self._look()
        while self._waiting and len(self.in_flight) < self._slots * self._settings.in_flight:
            self._send(self._waiting.pop())
        for number in self._straggling():
            self._twins.add(number)
            self._note(shard=number, twin=True)
            self._send(number)

    def collect(self) -> Iterator[tuple[int, Any]]:
        """The results that are there now, waiting up to a second for the first.

        A shard that has a twin may come twice.
        """
        import ray

        ready, _ = ray.wait(list(self.in_flight), num_returns=1, timeout=1.0)
        for reference in ready:
            number = self.in_flight.pop(reference).number
            try:
                result, seconds, host = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._fail(number, error)
            else:
                self._note(shard=number, seconds=seconds, host=host)
                self._stragglers.finished(seconds)
                self.unsettled.discard(number)
                yield number, result

    def _look(self) -> None:
        """Take note of the cluster's size, now and then."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        cpus, most = self._settings.cpus, len(self._tasks)
        self._slots = cluster.slots(cluster.nodes(), cpus, self._gpus, most)

    def _send(self, number: int) -> None:
        care = self._care.get(number, self._first_care)
        # Spread: a twin on the node of a straggler would be as slow.
        options: dict[str, Any] = {"scheduling_strategy": "SPREAD"} if number in self._twins else {}
        if care.memory:
            options["memory"] = min(care.memory, cluster.largest_memory())
        given: Any = self._tasks[number]
        if self._first is not None:
            given = self._first.options(**options).remote(self._work, number, given, care)
        remote = self._remote.options(**options) if options else self._remote
        reference = remote.remote(self._work, number, given, care)
        self.in_flight[reference] = _Attempt(number)

    def _straggling(self) -> list[int]:
        """Shards that have run for too long and have no twin yet.

        Only the first in flight run, those behind them wait for a slot.
        """
        now, limit = time.monotonic(), self._stragglers.limit()
        found = []
        for attempt in list(self.in_flight.values())[: self._slots]:
            attempt.began = attempt.began or now
            if now - attempt.began > limit and attempt.number in self.unsettled - self._twins:
                found.append(attempt.number)
        return found

    def _fail(self, number: int, error: Exception) -> None:
        """Try the shard again, or count it as failed; a twin's end is no matter."""
        cause = cause_of(error)
        self._note(shard=number, cause=cause, kind=type(error).__name__, error=str(error))
        others = {attempt.number for attempt in self.in_flight.values()}
        if number not in self.unsettled or number in others:
            return
        if self._retries.grant(number, cause):
            self._care[number] = self._care.get(number, self._first_care).after(cause)
            self._waiting.append(number)
            return
        self.unsettled.discard(number)
        self.failures[number] = _first_line(error)
        self._raised += cause == Cause.RAISED
        if self._raised >= _RAISED_STOP:
            self._waiting.clear()


def _first_line(error: Exception) -> str:
    """What a task raised, in one line: the cause, not Ray's wrapping."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"
