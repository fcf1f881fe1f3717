"""Shards fan out over a Ray cluster and receipts come back: the only module that knows Ray tasks.

Ray's own retries are off, because its counters mix causes. The driver counts them by cause, and
commits each receipt to the ledger itself.

`settings` says how shards are spread, `cluster` joins or starts a Ray, `retries` counts causes,
`care` is how carefully a shard is done, `meters` counts what it comes to, `stragglers` tells which
one has a twin, `worker` does a shard, `pool` has those in flight, `fanning` does all of a ledger.
"""

from __future__ import annotations

from workflows.fanout.care import Care
from workflows.fanout.cluster import start
from workflows.fanout.fanning import ShardWork, fan_out, run_tasks, too_many_bad
from workflows.fanout.settings import FanoutSettings
from workflows.fanout.worker import Staged

__all__ = [
    "Care",
    "FanoutSettings",
    "ShardWork",
    "Staged",
    "fan_out",
    "run_tasks",
    "start",
    "too_many_bad",
]
