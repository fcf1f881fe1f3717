"""The ledger: one output folder, to work on or to read."""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nnst import storage
from nnst.errors import InputError, JobFailed
from nnst.ledger.dealing import Shards
from nnst.ledger.parts import SCHEMAS, to_parquet
from nnst.ledger.plans import FORMAT, Job, check_same, read_plan, refuse_foreign
from nnst.ledger.receipts import check_conserved, receipt_from, rows_by_shard, totals_of
from nnst.records import PartFile, Receipt

_FLUSH_SECONDS = 5.0
_BATCH = 16_384  # rows of a plan at a time


class Ledger:
    """One output folder. `create` to work on it, `open` to read what is there."""

    def __init__(self, out: str, plan: Mapping[str, Any]) -> None:
        self.out = out
        self.plan = plan
        self.fingerprint: str = plan["fingerprint"]
        self._planned: dict[int, int] = {}  # rows by shard, read when first needed
        self._known: dict[tuple[str, int], Receipt] = {}  # by name and bytes: each is read once
        self._attempts = storage.join(out, "attempts", f"{secrets.token_hex(8)}.jsonl")
        self._events: list[str] = []
        self._flushed = time.monotonic()

    @classmethod
    def begun(cls, out: str, job: Job) -> Ledger | None:
        """The ledger of this job if the folder holds it, None if the folder is free.

        Raises PlanChanged when it holds another job, InputError when it holds other things.
        """
        found = read_plan(out)
        if found is None:
            refuse_foreign(out)
            return None
        check_same(out, found, job)
        return cls(out, found)

    @classmethod
    def create(cls, out: str, job: Job) -> Ledger:
        """The ledger of this job: a new one, or the one that the same job began.

        Raises as `begun` does.
        """
        if cls.begun(out, job) is None:
            plan = {
                "format": FORMAT,
                "fingerprint": job.fingerprint(),
                "identity": job.identity(),
                "source": job.source,
                "notes": dict(job.notes),
            }
            storage.put_new(storage.join(out, "plan.json"), storage.to_json(plan))
        begun = cls.begun(out, job)  # another driver may have been first
        assert begun is not None
        # After plan.json, so that a driver with another job cannot replace them.
        inputs = storage.join(out, "plan", "inputs.parquet")
        if not storage.exists(inputs):
            storage.put(inputs, to_parquet(job.inputs))
        return begun

    @classmethod
    def open(cls, out: str, verb: str | None = None) -> Ledger:
        """The ledger in a folder, finished or not. Raises InputError when there is none."""
        plan = read_plan(out)
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
        return pq.read_table(pa.BufferReader(self._inputs()))

    def inputs_of(self, images: Sequence[str] | pa.Array) -> pa.Table:
        """The planned inputs of these pictures alone: a plan of millions is not held for a few."""
        wanted = images if isinstance(images, pa.Array) else pa.array(images, pa.string())
        table = pq.ParquetFile(pa.BufferReader(self._inputs()))
        found = [
            batch.filter(pc.is_in(batch["image"], value_set=wanted))
            for batch in table.iter_batches(_BATCH)
        ]
        return pa.Table.from_batches(found, schema=table.schema_arrow)

    def _inputs(self) -> bytes:
        try:
            return storage.read(storage.join(self.out, "plan", "inputs.parquet"))
        except FileNotFoundError:
            what = f"{self.out} has a plan without its inputs"
            raise InputError(what, "run the same command again") from None

    def shards(self) -> Shards:
        """The inputs of each shard, by its number."""
        inputs = self.inputs()
        return Shards(inputs, rows_by_shard(inputs))

    def is_done(self) -> bool:
        """Whether the job is committed as a whole."""
        return storage.exists(storage.join(self.out, "_SUCCESS"))

    def receipts(self) -> dict[int, Receipt]:
        """The shards that are done, by number: a receipt of this plan whose parts are all there."""
        found: dict[int, Receipt] = {}
        present: dict[str, dict[str, int]] = {}  # name -> bytes
        for receipt in self._receipts():
            for table in {file.table for file in receipt.files} - present.keys():
                present[table] = storage.sizes(storage.join(self.out, table))
            whole = all(present[file.table].get(file.name) == file.bytes for file in receipt.files)
            if whole and receipt.fingerprint == self.fingerprint:
                found[receipt.shard] = receipt
        return dict(sorted(found.items()))

    def _receipts(self) -> list[Receipt]:
        """What is in the folder of receipts, also of another plan, or of parts that are gone."""
        folder = storage.join(self.out, "receipts")
        sizes = storage.sizes(folder)
        names = [(name, sizes[name]) for name in sizes if name.endswith(".json")]
        new = [key for key in names if key not in self._known]
        documents = storage.read_jsons([storage.join(folder, name) for name, _ in new])
        self._known |= zip(new, map(receipt_from, documents), strict=True)
        return [self._known[key] for key in names]

    def commit(self, receipt: Receipt) -> None:
        """Make a shard's parts count. The first receipt of a shard stands.

        Raises JobFailed when it does not account for every input of the shard, and when a second
        one differs: the same inputs gave other rows.
        """
        if receipt.fingerprint != self.fingerprint:
            raise JobFailed(f"shard {receipt.shard} was done for another plan than {self.out}'s")
        check_conserved(receipt, self._rows_planned())
        path = storage.join(self.out, "receipts", f"{receipt.shard:05d}.json")
        document = storage.to_json(dataclasses.asdict(receipt))
        if not storage.put_new(path, document) and storage.read(path) != document:
            if receipt.shard in self.receipts():
                raise JobFailed(
                    f"shard {receipt.shard} of {self.out} came out differently a second time",
                    "the first result stands; scan on one kind of machine, or report this",
                )
            storage.put(path, document)  # the old one's parts were lost, or it was another plan's
        self._known[f"{receipt.shard:05d}.json", len(document)] = receipt

    def reopen(self, shards: Sequence[int] = ()) -> None:
        """Take back the commit of these shards, and of the job: they are to be done again.

        For work whose outcome may change, as fetching does. Without shards, a reopening that was
        cut short is completed.
        """
        note = storage.join(self.out, "reopened.json")
        if shards:
            storage.put(note, storage.to_json({"shards": sorted(shards)}))
        if storage.exists(note):
            storage.remove(storage.join(self.out, "_SUCCESS"))
            self._known.clear()
            for shard in storage.read_json(note)["shards"]:
                storage.remove(storage.join(self.out, "receipts", f"{shard:05d}.json"))
            storage.remove(note)

    def succeed(self) -> dict[str, Any]:
        """Commit the job and return its totals. Raises JobFailed when rows are missing."""
        receipts = list(self.receipts().values())
        totals = totals_of(receipts)
        planned = self._rows_planned()
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
        return totals_of(list(self.receipts().values()))

    def parts(self, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The committed rows of a table, one part at a time, in the order of the plan.

        Raises InputError when the job is not finished.
        """
        if not self.is_done():
            raise InputError(
                f"{self.out} is not finished: "
                f"{len(self.receipts())} of {len(self._rows_planned())} shards are done",
                "run the same command again; it does only what is missing",
            )
        receipts = list(self.receipts().values())
        if totals_of(receipts)["rows_in"] != self.plan["identity"]["inputs"]["rows"]:
            what = f"{self.out} was finished and has lost receipts or parts since"
            raise InputError(what, "start it anew with --fresh")
        for receipt in receipts:
            for file in receipt.files:
                if file.table == table:
                    yield pq.read_table(pa.BufferReader(self._part(file)), columns=columns)

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
        """Write the events kept so far. That this fails, on a full disk say, stops no job."""
        self._flushed = time.monotonic()
        if self._events:
            with suppress(OSError):
                storage.put(self._attempts, ("\n".join(self._events) + "\n").encode())

    def events(self) -> list[dict[str, Any]]:
        """What drivers have noted, in the order of time; what cannot be read is left out."""
        folder = storage.join(self.out, "attempts")
        texts = [storage.read(storage.join(folder, name)) for name in storage.names(folder)]
        found: list[dict[str, Any]] = []
        for line in b"".join(texts).splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return sorted(found, key=lambda event: float(event["time"]))

    def planned(self) -> Mapping[int, int]:
        """How many inputs each shard has."""
        return dict(self._rows_planned())

    def _part(self, file: PartFile) -> bytes:
        """The bytes of a part, which are those that were committed."""
        path = storage.join(self.out, file.table, file.name)
        data = storage.read(path)
        if storage.sha256(data) != file.sha256:
            what = f"{path} is not what was written: the disk or somebody has changed it"
            raise InputError(
                what, "remove it and _SUCCESS beside it, and run the same command again"
            )
        return data

    def _rows_planned(self) -> dict[int, int]:
        """How many inputs each shard has."""
        if not self._planned:
            self._planned = rows_by_shard(self.inputs())
        return self._planned
