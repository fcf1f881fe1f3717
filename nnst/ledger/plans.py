"""What was planned: a job, its fingerprint, and the plan in an output folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from nnst import config, records, storage
from nnst.errors import InputError, PlanChanged
from nnst.ledger import lease
from nnst.ledger.parts import PART_NAME, SCHEMAS, to_parquet

FORMAT = 1
_PLAN_KEYS = {"format", "fingerprint", "identity", "source", "notes"}
# Made from the tables by later steps, or what the rows of a collection point to.
_DERIVED = (
    "report",
    "evaluation",
    "explain",
    "compare",
    "drift.json",
    "look",
    "stored.parquet",
    "blobs",
    "tars",
    "journal",
)
_ASIDE = ("attempts", "reopened.json", lease.NAME)  # never authoritative
_KEPT = ("review",)  # what people said outlives the tables
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass(frozen=True, slots=True)
class Job:
    """What a verb is about to do. All but `source` and `notes` decides the bytes of its tables."""

    verb: str
    inputs: pa.Table  # records.INPUTS, in the order that fixes the order of all rows
    settings: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)  # name, version, digest
    versions: Mapping[str, str] = field(default_factory=dict)  # of libraries and nnst
    source: str = ""  # where the inputs lie now
    notes: Mapping[str, Any] = field(default_factory=dict)  # run id, counts of skipped members
    inputs_sha256: str = field(init=False)  # computed once: a million inputs take a second

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", self.inputs.cast(records.INPUTS))
        object.__setattr__(self, "inputs_sha256", storage.sha256(to_parquet(self.inputs)))
        numbers = self.inputs["shard"].to_numpy()
        if (numbers[1:] < numbers[:-1]).any():
            raise ValueError("the inputs of a job must be in the order of their shards")

    def identity(self) -> dict[str, Any]:
        """The part of the plan that the fingerprint covers."""
        return {
            "verb": self.verb,
            "settings": dict(self.settings),
            "model": dict(self.model),
            "versions": dict(self.versions),
            "inputs": {"rows": self.inputs.num_rows, "sha256": self.inputs_sha256},
        }

    def fingerprint(self) -> str:
        """The sha256 of the identity: equal for jobs that give the same rows."""
        return storage.sha256(storage.to_json(self.identity()))


def check_same(out: str, plan: Mapping[str, Any], job: Job) -> None:
    """Raise PlanChanged, naming the differences, when the plan in the folder is of another job."""
    if plan["fingerprint"] == job.fingerprint():
        return
    changes = ", ".join(config.differences(plan["identity"], job.identity())[:4])
    shown = _DIGEST.sub(r"\1", changes)  # twelve digits tell digests apart
    raise PlanChanged(
        f"{out} holds another job ({shown})",
        "give --fresh to start it anew, or another --out",
    )


def read_plan(out: str) -> dict[str, Any] | None:
    """The plan, None when there is none."""
    try:
        plan = storage.read_json(storage.join(out, "plan.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    known = isinstance(plan, dict) and plan.keys() >= _PLAN_KEYS and plan["format"] == FORMAT
    if not known:
        raise InputError(
            f"{out}/plan.json is not a plan of this version of nnst", "give another --out"
        )
    return plan


def start_fresh(out: str) -> None:
    """Remove a ledger, and only a ledger, from the folder. plan.json goes last, so that a removal
    cut short is still known as a ledger. Raises JobBusy where a driver is at work on it."""
    lease.check_free(out)
    if read_plan(out) is None:
        refuse_foreign(out)
        return
    for name in ("_SUCCESS", "receipts", *SCHEMAS, *_DERIVED, *_ASIDE, "plan", "plan.json"):
        storage.remove(storage.join(out, name))


def refuse_foreign(out: str) -> None:
    """Raise when the folder holds things that are not ours."""
    if storage.exists(out) and not storage.is_folder(out):
        raise InputError(f"{out} is a file", "give --out a folder")
    found = storage.names(out)
    foreign = [name for name in found if name not in _KEPT and not _holds_only_parts(out, name)]
    if foreign and "plan.json" not in found:  # else another driver has begun just now
        raise InputError(
            f"{out} is not empty and is no output folder of nnst (it holds {foreign[0]})",
            "give --out a new folder",
        )


def _holds_only_parts(out: str, table: str) -> bool:
    """Whether this is the folder of a table into which a worker wrote after --fresh removed it.

    A person's own folder named `images` is not: a later --fresh would remove it.
    """
    found = storage.names(storage.join(out, table))
    return table in SCHEMAS and bool(found) and all(map(PART_NAME.fullmatch, found))
