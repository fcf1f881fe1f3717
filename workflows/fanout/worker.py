"""In a worker process: one shard is done, or one step of it, with care."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nnst.records import Receipt
from workflows.fanout import care as care_
from workflows.fanout import meters
from workflows.fanout.care import Care

Told = tuple[Any, float, str]
"""The result, how many seconds it took, and on which host."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A shard's work that can be split into two steps, of which only the second wants a GPU."""

    whole: Callable[[int, pa.Table], Any]
    first: Callable[[int, pa.Table], Iterable[Any]]
    second: Callable[[int, Iterable[Any]], Any]

    def __call__(self, number: int, inputs: pa.Table) -> Any:
        """Do it in one."""
        return self.whole(number, inputs)


def work_on(
    work: Callable[[int, pa.Table], Any], number: int, inputs: pa.Table, care: Care
) -> Told:
    """Do a shard."""
    started = time.monotonic()
    with _careful(care) as tally:
        result = work(number, inputs)
        if isinstance(result, Receipt):
            tally.add_receipt(result)
    return result, time.monotonic() - started, socket.gethostname()


def begin_on(work: Staged, number: int, inputs: pa.Table, care: Care) -> list[Any]:
    """Do the first step: what it gives lies in Ray's object store until the second begins."""
    with _careful(care):
        return list(work.first(number, inputs))


def end_on(work: Staged, number: int, begun: list[Any], care: Care) -> Told:
    """Do the second step."""
    return work_on(work.second, number, begun, care)


@contextmanager
def _careful(care: Care) -> Iterator[meters.Tally]:
    """Inside, the process works with care, and counts."""
    import cv2

    from nnst import images

    cv2.setNumThreads(1)  # one thread a worker; the workers are the parallelism
    if "torch" in sys.modules:  # else OMP_NUM_THREADS does it, when it is imported
        sys.modules["torch"].set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(care_.taken(care))
        tally = stack.enter_context(meters.counted())
        stack.enter_context(images.ended_after(care.stall))
        if care.guarded:
            stack.enter_context(images.guarded(images.GuardSettings(seconds=care.decode)))
        yield tally
    meters.publish(tally)
