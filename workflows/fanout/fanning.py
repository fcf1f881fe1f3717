"""All shards of a ledger, done and committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa

from nnst.errors import JobFailed, TooManyBad
from nnst.ledger import LeaseSettings, Ledger, held
from nnst.records import Receipt
from workflows.fanout import cluster
from workflows.fanout.pool import Pool
from workflows.fanout.settings import FanoutSettings
from workflows.progress import Progress

Result = TypeVar("Result")
ShardWork = Callable[[int, pa.Table], Receipt]


def fan_out(ledger: Ledger, work: ShardWork, settings: FanoutSettings, title: str) -> None:
    """Do every shard of the ledger that is not done, and commit the job.

    `work(shard, inputs)` runs in a worker process and returns the shard's receipt; its parts are
    written by then. Raises JobFailed when a shard cannot be done, after the others are done, and
    JobBusy where another driver is at work on the folder.
    """
    shards = ledger.shards()
    done = ledger.receipts()
    missing = shards.without(done)
    total = sum(ledger.planned().values())
    before = sum(receipt.rows_in for receipt in done.values())
    lease = LeaseSettings(take_over=settings.take_over)
    try:
        with held(ledger.out, lease), Progress(title, total, done=before) as progress:
            for _, receipt, is_first in _results(work, missing, settings, progress, ledger.note):
                ledger.commit(receipt)  # a second one too, which has to be the same
                if is_first:
                    progress.advance(receipt.rows_in, receipt.bad)
    finally:
        ledger.flush_notes()  # what failed is told there in full
    ledger.succeed()


def run_tasks(
    work: Callable[[int, pa.Table], Result],
    tasks: Mapping[int, pa.Table],
    settings: FanoutSettings,
    progress: Progress,
) -> Iterator[tuple[int, Result]]:
    """(number, result) of every task, once, as they finish, a bounded number in flight.

    Raises JobFailed, after the tasks that can be done are done, when one raised or its retries
    are spent.
    """
    for number, result, is_first in _results(work, tasks, settings, progress, _forget):
        if is_first:
            yield number, result


def _forget(**event: Any) -> None:
    """Keep no event: there is no ledger."""


def _results(
    work: Callable[[int, pa.Table], Result],
    tasks: Mapping[int, pa.Table],
    settings: FanoutSettings,
    progress: Progress,
    note: Callable[..., None],
) -> Iterator[tuple[int, Result, bool]]:
    """(number, result, whether it is the first of that number) as they come. Raises JobFailed."""
    if not tasks:
        return
    cluster.start()
    pool, seen = Pool(work, tasks, settings, note), set[int]()
    # An interrupt leaves what is in flight to end with this process, as does a twin that was
    # faster: Ray 2.60 now and then aborts in ray.cancel ("Tried to complete task that was not
    # pending").
    while pool.at_work:
        pool.fill()
        for number, result in pool.collect():
            yield number, result, number not in seen
            seen.add(number)
        progress.tick()
    if pool.failures:
        number, cause = next(iter(sorted(pool.failures.items())))
        raise JobFailed(
            f"{len(pool.failures)} of {len(tasks)} shards failed; shard {number}: {cause}",
            "run the same command again; it does only what is missing",
        )


def too_many_bad(totals: Mapping[str, Any], settings: FanoutSettings) -> TooManyBad | None:
    """The error that a committed job ends with when more pictures were bad than allowed."""
    if totals["rows_bad"] <= settings.max_bad * totals["rows_in"]:
        return None
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(totals["bad"].items()))
    return TooManyBad(
        f"{totals['rows_bad']} of {totals['rows_in']} pictures could not be used ({reasons}), "
        f"more than {settings.max_bad:.0%}; all else is done and written",
        "look at them, or allow more with --max-bad 1",
    )
