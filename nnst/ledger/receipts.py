"""Receipts: what a shard's work came to, and what all of it adds up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nnst.errors import JobFailed
from nnst.records import PartFile, Receipt

ROW_EACH = ("images", "pictures")  # the tables with one row for each input


def receipt_from(document: dict[str, Any]) -> Receipt:
    """The receipt in a JSON document."""
    files = tuple(PartFile(**file) for file in document.pop("files"))
    return Receipt(files=files, **document)


def check_conserved(receipt: Receipt, planned: Mapping[int, int]) -> None:
    """Raise JobFailed unless the receipt accounts for each planned input by one row."""
    wanted = planned.get(receipt.shard)
    rows = {file.table: file.rows for file in receipt.files if file.table in ROW_EACH}
    if wanted is None or {receipt.rows_in, *rows.values()} != {wanted}:
        found = ", ".join(f"{count} rows of {table}" for table, count in rows.items()) or "no rows"
        raise JobFailed(
            f"shard {receipt.shard} accounts for {receipt.rows_in} of {wanted or 0} inputs "
            f"({found})",
            "report this: no input may be lost, or told of twice",
        )


def rows_by_shard(inputs: pa.Table) -> dict[int, int]:
    """How many inputs each shard has, in the order of the plan."""
    counts = pc.value_counts(inputs["shard"]).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


def totals_of(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Rows in, ok and bad (by reason) and rows by table, added up over the shards."""
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
