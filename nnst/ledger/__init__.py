"""An output folder: what was planned, what is done and what is not.

    OUT/plan.json, OUT/plan/inputs.parquet     the plan, written once
    OUT/<table>/part-00017-<sha12>.parquet     rows, named by their own content
    OUT/receipts/00017.json                    commit point of a shard, written by the driver alone
    OUT/_SUCCESS                               commit point of the job
    OUT/lease.json                             which driver is at work; never authoritative
    OUT/attempts/*.jsonl                       times and hosts; never authoritative

Readers go _SUCCESS -> receipts -> parts and never list a table's folder, so a part without a
receipt is invisible. A part's bytes depend on the shard's inputs and the fingerprint alone, so
a shard done twice is the same part under the same name.

`plans` says what was planned, `dealing` gives a shard its inputs, `parts` writes rows, `receipts`
counts them, `lease` keeps two drivers apart, `folder` is the ledger, `standing` is how far.
"""

from __future__ import annotations

from nnst.ledger.dealing import Shards
from nnst.ledger.folder import Ledger
from nnst.ledger.lease import LeaseSettings, check_free, held
from nnst.ledger.parts import SCHEMAS, write_part, write_parts
from nnst.ledger.plans import FORMAT, Job, start_fresh
from nnst.ledger.standing import Standing, standing

__all__ = [
    "FORMAT",
    "SCHEMAS",
    "Job",
    "LeaseSettings",
    "Ledger",
    "Shards",
    "Standing",
    "check_free",
    "held",
    "standing",
    "start_fresh",
    "write_part",
    "write_parts",
]
