"""An output folder: what was planned, what is done and what is not.

    OUT/plan.json, OUT/plan/inputs.parquet     the plan, written once
    OUT/<table>/part-00017-<sha12>.parquet     rows, named by their own content
    OUT/receipts/00017.json                    commit point of a shard, written by the driver alone
    OUT/_SUCCESS                               commit point of the job
    OUT/attempts/*.jsonl                       times and hosts; never authoritative

Readers go _SUCCESS -> receipts -> parts and never list a table's folder, so a part without a
receipt is invisible. A part's bytes depend on the shard's inputs and the fingerprint alone, so
a shard done twice is the same part under the same name.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nnst import config, records, storage
from nnst.errors import InputError, JobFailed, PlanChanged
from nnst.records import PartFile, Receipt

FORMAT = 1
SCHEMAS: Mapping[str, pa.Schema] = {
    "images": records.IMAGES,
    "detections": records.DETECTIONS,
    "crops": records.CROPS,
    "pictures": records.PICTURES,
}
_PLAN_KEYS = {"format", "fingerprint", "identity", "source", "notes"}
_PART = re.compile(r"part-\d{5,}-[0-9a-f]{12}\.parquet")
_ROW_GROUP = 16_384
_DERIVED = ("report", "evaluation", "look")  # made from the tables by later steps
_FLUSH_SECONDS = 5.0


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", self.inputs.cast(records.INPUTS))
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
            "inputs": {
                "rows": self.inputs.num_rows,
                "sha256": storage.sha256(_to_parquet(self.inputs)),
            },
        }


class Ledger:
    """One output folder. `create` to work on it, `open` to read what is there."""

    def __init__(self, out: str, plan: Mapping[str, Any]) -> None:
        self.out = out
        self.plan = plan
        self.fingerprint: str = plan["fingerprint"]
        self._attempts = storage.join(out, "attempts", f"{secrets.token_hex(8)}.jsonl")
        self._events: list[str] = []
        self._flushed = time.monotonic()

    @classmethod
    def begun(cls, out: str, job: Job) -> Ledger | None:
        """The ledger of this job if the folder holds it, None if the folder is free.

        Raises PlanChanged when it holds another job, InputError when it holds other things.
        """
        found = _read_plan(out)
        if found is None:
            _refuse_foreign(out)
            return None
        identity = job.identity()
        if found["fingerprint"] != storage.sha256(storage.to_json(identity)):
            changes = config.differences(found["identity"], identity)
            raise PlanChanged(
                f"{out} holds another job ({', '.join(changes[:4])})",
                "give --fresh to start it anew, or another --out",
            )
        return cls(out, found)

    @classmethod
    def create(cls, out: str, job: Job) -> Ledger:
        """The ledger of this job: a new one, or the one that the same job began.

        Raises as `begun` does.
        """
        if cls.begun(out, job) is None:
            identity = job.identity()
            plan = {
                "format": FORMAT,
                "fingerprint": storage.sha256(storage.to_json(identity)),
                "identity": identity,
                "source": job.source,
                "notes": dict(job.notes),
            }
            storage.put_new(storage.join(out, "plan.json"), storage.to_json(plan))
        begun = cls.begun(out, job)  # another driver may have been first
        assert begun is not None
        # After plan.json, so that a driver with another job cannot replace them.
        inputs = storage.join(out, "plan", "inputs.parquet")
        if not storage.exists(inputs):
            storage.put(inputs, _to_parquet(job.inputs))
        return begun

    @classmethod
    def open(cls, out: str, verb: str | None = None) -> Ledger:
        """The ledger in a folder, finished or not. Raises InputError when there is none."""
        plan = _read_plan(out)
        if plan is None:
            what = f"{verb} folder" if verb else "output folder of nnst"
            raise InputError(f"{out} is no {what}: it has no plan.json", "check the path")
        if verb and plan["identity"]["verb"] != verb:
            raise InputError(
                f"{out} was written by nnst {plan['identity']['verb']}, not by nnst {verb}",
                f"give the --out folder of nnst {verb}",
            )
        return cls(out, plan)

    @property
    def source(self) -> str:
        """Where the inputs were when the job was planned."""
        return str(self.plan["source"])

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the plan carries without being decided by it: the run's id, counts of skipped."""
        return dict(self.plan["notes"])

    def inputs(self) -> pa.Table:
        """The planned inputs (records.INPUTS), in their fixed order.

        Raises InputError when the plan was cut short before they were written.
        """
        try:
            data = storage.read(storage.join(self.out, "plan", "inputs.parquet"))
        except FileNotFoundError:
            what = f"{self.out} has a plan without its inputs"
            raise InputError(what, "run the same command again") from None
        return pq.read_table(pa.BufferReader(data))

    def shards(self) -> dict[int, pa.Table]:
        """The inputs of each shard, by its number."""
        inputs = self.inputs()
        found: dict[int, pa.Table] = {}
        start = 0
        for number, rows in _rows_by_shard(inputs).items():
            # Taken, not sliced: a slice sent to another process takes the whole table with it.
            found[number] = inputs.slice(start, rows).take(pa.array(range(rows)))
            start += rows
        return found

    def is_done(self) -> bool:
        """Whether the job is committed as a whole."""
        return storage.exists(storage.join(self.out, "_SUCCESS"))

    def receipts(self) -> dict[int, Receipt]:
        """The shards that are done, by number: a receipt of this plan whose parts are all there."""
        found: dict[int, Receipt] = {}
        present: dict[str, set[str]] = {}
        for name in storage.names(storage.join(self.out, "receipts")):
            if not name.endswith(".json"):
                continue
            receipt = _receipt_from(storage.read_json(storage.join(self.out, "receipts", name)))
            for table in {file.table for file in receipt.files} - present.keys():
                present[table] = set(storage.names(storage.join(self.out, table)))
            whole = all(file.name in present[file.table] for file in receipt.files)
            if whole and receipt.fingerprint == self.fingerprint:
                found[receipt.shard] = receipt
        return dict(sorted(found.items()))

    def commit(self, receipt: Receipt) -> None:
        """Make a shard's parts count. The first receipt of a shard stands.

        Raises JobFailed when a second one differs: the same inputs gave other rows.
        """
        if receipt.fingerprint != self.fingerprint:
            raise JobFailed(f"shard {receipt.shard} was done for another plan than {self.out}'s")
        path = storage.join(self.out, "receipts", f"{receipt.shard:05d}.json")
        document = storage.to_json(dataclasses.asdict(receipt))
        if not storage.put_new(path, document) and storage.read(path) != document:
            if receipt.shard in self.receipts():
                raise JobFailed(
                    f"shard {receipt.shard} of {self.out} came out differently a second time",
                    "the first result stands; scan on one kind of machine, or report this",
                )
            storage.put(path, document)  # the old one's parts were lost, or it was another plan's

    def succeed(self) -> dict[str, Any]:
        """Commit the job and return its totals. Raises JobFailed when rows are missing."""
        receipts = list(self.receipts().values())
        totals = _totals(receipts)
        planned = _rows_by_shard(self.inputs())
        if {receipt.shard: receipt.rows_in for receipt in receipts} != planned:
            raise JobFailed(
                f"{self.out} accounts for {totals['rows_in']} of {sum(planned.values())} inputs",
                "run the same command again",
            )
        documents = b"".join(storage.to_json(dataclasses.asdict(receipt)) for receipt in receipts)
        totals["receipts_sha256"] = storage.sha256(documents)
        storage.put(storage.join(self.out, "_SUCCESS"), storage.to_json(totals))
        return totals

    def totals(self) -> dict[str, Any]:
        """Rows in, ok and bad (by reason) and rows per table, of the shards that are done."""
        return _totals(list(self.receipts().values()))

    def parts(self, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The committed rows of a table, one part at a time, in the order of the plan.

        Raises InputError when the job is not finished.
        """
        if not self.is_done():
            raise InputError(
                f"{self.out} is not finished: {len(self.receipts())} of {self._shard_count()} "
                "shards are done",
                "run the same command again; it does only what is missing",
            )
        receipts = list(self.receipts().values())
        if _totals(receipts)["rows_in"] != self.plan["identity"]["inputs"]["rows"]:
            what = f"{self.out} was finished and has lost receipts or parts since"
            raise InputError(what, "start it anew with --fresh")
        for receipt in receipts:
            for file in receipt.files:
                if file.table == table:
                    data = storage.read(storage.join(self.out, table, file.name))
                    yield pq.read_table(pa.BufferReader(data), columns=columns)

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All committed rows of a table, in the order of the plan."""
        parts = list(self.parts(table, columns))
        if parts:
            return pa.concat_tables(parts)
        empty = SCHEMAS[table].empty_table()
        return empty if columns is None else empty.select(list(columns))

    def note(self, **event: Any) -> None:
        """Keep an event of this attempt (host, seconds, cause); lost when the driver is killed."""
        self._events.append(json.dumps({"time": time.time(), **event}))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush_notes()

    def flush_notes(self) -> None:
        """Write the events kept so far."""
        self._flushed = time.monotonic()
        if self._events:
            storage.put(self._attempts, ("\n".join(self._events) + "\n").encode())

    def _shard_count(self) -> int:
        return len(_rows_by_shard(self.inputs()))


def write_part(out: str, name: str, shard: int, rows: pa.Table) -> PartFile:
    """Write one table of a shard under its content's own name, and return what was written.

    Called by workers. Writing the same rows again changes nothing.
    """
    data = _to_parquet(rows.cast(SCHEMAS[name]))
    digest = storage.sha256(data)
    file = f"part-{shard:05d}-{digest[:12]}.parquet"
    storage.put(storage.join(out, name, file), data)
    return PartFile(name, file, len(data), digest, rows.num_rows)


def start_fresh(out: str) -> None:
    """Remove a ledger, and only a ledger, from the folder. plan.json goes last, so that a removal
    cut short is still known as a ledger."""
    if _read_plan(out) is None:
        _refuse_foreign(out)
        return
    for name in ("_SUCCESS", "receipts", *SCHEMAS, *_DERIVED, "attempts", "plan", "plan.json"):
        storage.remove(storage.join(out, name))


def _refuse_foreign(out: str) -> None:
    """Raise when the folder holds things that are not ours."""
    if storage.exists(out) and not storage.is_folder(out):
        raise InputError(f"{out} is a file", "give --out a folder")
    found = storage.names(out)
    foreign = [name for name in found if not _holds_only_parts(out, name)]
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
    return table in SCHEMAS and bool(found) and all(map(_PART.fullmatch, found))


def _read_plan(out: str) -> dict[str, Any] | None:
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


def _to_parquet(rows: pa.Table) -> bytes:
    """The rows as Parquet, byte for byte the same for the same rows and pyarrow."""
    sink = pa.BufferOutputStream()
    strings = [column.name for column in rows.schema if pa.types.is_string(column.type)]
    pq.write_table(
        rows.combine_chunks(),  # chunks would show in the pages
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=strings,
        row_group_size=_ROW_GROUP,
        version="2.6",
    )
    return sink.getvalue().to_pybytes()


def _receipt_from(document: dict[str, Any]) -> Receipt:
    files = tuple(PartFile(**file) for file in document.pop("files"))
    return Receipt(files=files, **document)


def _rows_by_shard(inputs: pa.Table) -> dict[int, int]:
    """How many inputs each shard has, in the order of the plan."""
    counts = pc.value_counts(inputs["shard"]).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


def _totals(receipts: Sequence[Receipt]) -> dict[str, Any]:
    bad: dict[str, int] = {}
    tables: dict[str, int] = {}
    for receipt in receipts:
        for reason, count in receipt.bad.items():
            bad[reason] = bad.get(reason, 0) + count
        for file in receipt.files:
            tables[file.table] = tables.get(file.table, 0) + file.rows
    return {
        "shards": len(receipts),
        "rows_in": sum(receipt.rows_in for receipt in receipts),
        "rows_ok": sum(receipt.rows_ok for receipt in receipts),
        "rows_bad": sum(receipt.rows_bad for receipt in receipts),
        "bad": bad,
        "tables": tables,
    }
