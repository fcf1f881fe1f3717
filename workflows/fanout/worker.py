"""In a worker process: one shard is done, with care."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from nnst.records import Receipt
from workflows.fanout import care as care_
from workflows.fanout import meters
from workflows.fanout.care import Care


def work_on(
    work: Callable[[int, pa.Table], Any], number: int, inputs: pa.Table, care: Care
) -> tuple[Any, float, str]:
    """The result, how many seconds it took, and on which host."""
    import cv2

    from nnst import images

    cv2.setNumThreads(1)  # one thread a worker; the workers are the parallelism
    if "torch" in sys.modules:  # else OMP_NUM_THREADS does it, when it is imported
        sys.modules["torch"].set_num_threads(1)
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(care_.taken(care))
        tally = stack.enter_context(meters.counted())
        stack.enter_context(images.ended_after(care.stall))
        if care.guarded:
            stack.enter_context(images.guarded(images.GuardSettings(seconds=care.decode)))
        result = work(number, inputs)
    if isinstance(result, Receipt):
        tally.add_receipt(result)
    meters.publish(tally)
    return result, time.monotonic() - started, socket.gethostname()
