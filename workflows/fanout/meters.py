"""What workers count while they do shards, for Prometheus: Ray's exporter serves it on every node.

A shard that is done twice counts twice, as it is work twice: what counts once is in the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nnst.records import Receipt
from nnst.stopwatch import Stopwatch

METRICS: Mapping[str, tuple[str, str]] = {  # Ray puts `ray_` before the name: help, and its tag
    "nnst_pictures": ("Inputs that have their row.", ""),
    "nnst_bad_pictures": ("Inputs that could not be used, by reason.", "reason"),
    "nnst_megapixels": ("Millions of pixels, as decoded.", ""),
    "nnst_stage_seconds": ("Seconds of workers, by what they did.", "stage"),
}


class Tally:
    """What one shard came to: amounts by name and tag, and seconds by stage."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.stopwatch = Stopwatch()

    def add(self, name: str, amount: float, tag: str = "") -> None:
        """Count so much more under a name of METRICS."""
        self.counts[name, tag] += amount  # type: ignore[assignment]  # a Counter takes any number

    def add_receipt(self, receipt: Receipt) -> None:
        """Count a shard's rows, and those that are bad by reason."""
        self.add("nnst_pictures", receipt.rows_in)
        for reason, count in receipt.bad.items():
            self.add("nnst_bad_pictures", count, reason)


_taken = Tally()
_meters: dict[str, Any] = {}


def current() -> Tally:
    """The tally of the shard that this process does now."""
    return _taken


@contextmanager
def counted() -> Iterator[Tally]:
    """Inside, what the process counts goes into a new tally."""
    global _taken
    before, _taken = _taken, Tally()
    try:
        yield _taken
    finally:
        _taken = before


def publish(tally: Tally) -> None:
    """Add a tally to what this process has counted for Ray's exporter."""
    from ray.util import metrics

    for stage, seconds in tally.stopwatch.seconds.items():
        tally.add("nnst_stage_seconds", seconds, stage)
    for (name, tag), amount in tally.counts.items():
        text, key = METRICS[name]
        if name not in _meters:
            _meters[name] = metrics.Counter(name, text, tag_keys=(key,) if key else ())
        if amount > 0:
            _meters[name].inc(amount, tags={key: tag} if key else None)
