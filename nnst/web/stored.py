"""The archive of a collection: every distinct picture once, whichever addresses gave it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nnst import records, storage
from nnst.archive import tar
from nnst.archive.members import Place
from nnst.archive.sources import STORED_FILE, STORED_KEY
from nnst.crops import near_duplicate_groups
from nnst.ledger import Ledger
from nnst.web import blobs

Row = dict[str, Any]
Places = Mapping[str, tuple[str, int, str]]
"""Where pictures lie in tars, by name: the tar, the offset and the stamp."""


def distinct(book: Ledger) -> list[Row]:
    """The first row of each distinct picture, in the order of the plan, with `urls`, the number
    of addresses that gave it."""
    found: dict[str, Row] = {}
    for part in book.parts("pictures"):
        for row in part.to_pylist():
            if row["status"] == records.OK:
                known = found.setdefault(row["image_id"], row | {"urls": 0})
                known["urls"] += 1
    return list(found.values())


def places(out: str) -> dict[str, tuple[str, int, str]]:
    """Where the pictures lie that are packed already; as the tars say if the archive is lost."""
    if not storage.exists(storage.join(out, STORED_FILE)):
        return {name: place for each in _tars(out) for name, place in _places_in(out, each)}
    rows = read(out, ["image", "container", "offset", "stamp"]).to_pylist()
    return {
        row["image"]: (row["container"], row["offset"], row["stamp"])
        for row in rows
        if row["offset"] >= 0
    }


def _tars(out: str) -> list[str]:
    names = storage.names(storage.join(out, blobs.TARS))
    return [f"{blobs.TARS}/{name}" for name in names]


def _places_in(out: str, name: str) -> Iterator[tuple[str, tuple[str, int, str]]]:
    with storage.open_stream(storage.join(out, *name.split("/"))) as stream:
        for row in tar.find(stream, Place(name, name)).rows:
            yield row.image, (name, row.offset, row.stamp)


def read(out: str, columns: Sequence[str]) -> pa.Table:
    """Columns of the archive's table."""
    data = storage.read(storage.join(out, STORED_FILE))
    return pq.read_table(pa.BufferReader(data), columns=list(columns))


def is_current(book: Ledger) -> bool:
    """Whether the archive tells of the collection as it is committed now."""
    path = storage.join(book.out, STORED_FILE)
    if not storage.exists(path):
        return False
    schema = pq.read_schema(pa.BufferReader(storage.read(path)))
    return (schema.metadata or {}).get(STORED_KEY) == commit_of(book)


def commit_of(book: Ledger) -> bytes:
    """What tells this state of a collection from an earlier one."""
    success = storage.read_json(storage.join(book.out, "_SUCCESS"))
    return str(success["receipts_sha256"]).encode()


def write(book: Ledger, rows: Sequence[Row], packed: Places) -> None:
    """Write the archive: the rows of `distinct`, packed or as files, near duplicates in groups."""
    hashed = [row for row in rows if row["perceptual_hash"]]
    hashes = [int(row["perceptual_hash"], 16) for row in hashed]
    ids = [row["image_id"] for row in hashed]
    groups = dict(zip(ids, near_duplicate_groups(ids, hashes), strict=True))
    table = pa.Table.from_pylist(
        [
            {name: row[name] for name in records.STORED.names if name in row}
            | dict(zip(("container", "offset", "stamp"), _place(row, packed), strict=True))
            | {"group": groups.get(row["image_id"], row["image_id"])}
            for row in rows
        ],
        schema=records.STORED.with_metadata({STORED_KEY: commit_of(book)}),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    storage.put(storage.join(book.out, STORED_FILE), sink.getvalue().to_pybytes())


def _place(row: Row, packed: Places) -> tuple[str, int, str]:
    return packed.get(row["image"], (blobs.path_of(row["image"]), -1, row["image_id"]))
