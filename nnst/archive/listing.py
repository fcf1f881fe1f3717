"""Pictures that a Parquet file lists: files beside it, by name and size, as an inventory has them.

A store of a million pictures takes a thousand requests to list, and its inventory one to read. The
plan is made of columns, without an object for each picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnst import records, storage
from nnst.archive import members, parquet
from nnst.errors import InputError
from nnst.images.headers import SUFFIXES

BESIDE = "../"  # how a container begins that lies beside the source, and not in it

_ROWS_AT_ONCE = 1 << 16
_NAMES = ("path", "key", "file_name", "filename", "name", "image")
_SIZES = ("bytes", "size", "length")
_STAMPS = ("etag", "e_tag", "stamp", "mtime", "last_modified", "last_modified_date")
_UNSAFE = r"(^|/)\.\.(/|$)|^/|\\|::|^[A-Za-z]:|[\x00-\x1f\x7f]"
_HIDDEN = r"(^|/)\."
_PICTURE = "(?i)(" + "|".join(suffix.replace(".", r"\.") for suffix in sorted(SUFFIXES)) + ")$"


def plan(source: str, shard_images: int) -> tuple[pa.Table, dict[str, int]] | None:
    """The plan of a listing (records.INPUTS), and how much is skipped; None for what is no listing.

    Raises InputError for a listing that cannot be used.
    """
    if not str(source).lower().endswith(parquet.SUFFIXES) or storage.is_folder(source):
        return None
    with storage.open_stream(source) as stream:
        try:
            file = parquet.opened(stream)
        except (pa.ArrowException, OSError, ValueError):
            return None  # the reader of Parquet archives says what is wrong
        schema = file.schema_arrow
        if parquet.holds_pictures(schema):
            return None
        name, size = _first(schema, _NAMES), _first(schema, _SIZES)
        if name is None or size is None or not _fits(schema, name, size):
            return None
        stamp = _first(schema, _STAMPS)
        columns = [each for each in (name, size, stamp) if each]
        skipped: Counter[str] = Counter()
        try:
            tables = [
                _some(source, batch.select(columns), bool(stamp), skipped)
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False)
            ]
        except pa.ArrowException as error:
            raise InputError(
                f"cannot read the listing {source}: {error}", "write it again"
            ) from None
    table = pa.concat_tables([*tables, records.INPUTS.empty_table()])
    shards = pa.array(np.arange(table.num_rows, dtype=np.int32) // np.int32(shard_images))
    table = table.set_column(table.num_columns - 1, records.INPUTS.field("shard"), shards)
    table = _with_own_names(table)
    pa.default_memory_pool().release_unused()  # what reading took
    return table, dict(sorted((+skipped).items()))


def _first(schema: pa.Schema, names: Sequence[str]) -> str | None:
    """The first of these columns that there is."""
    return next((name for name in names if name in schema.names), None)


def _fits(schema: pa.Schema, name: str, size: str) -> bool:
    """Whether the columns hold text and whole numbers."""
    text = schema.field(name).type
    whole = pa.types.is_integer(schema.field(size).type)
    return whole and (pa.types.is_string(text) or pa.types.is_large_string(text))


def _some(source: str, batch: pa.RecordBatch, stamped: bool, skipped: Counter[str]) -> pa.Table:
    """The pictures of some rows of the listing, not numbered yet; what else is there is counted."""
    if any(column.null_count for column in batch.columns[:2]):
        raise InputError(f"{source} lists files without a name or size", "write it again")
    names, sizes = batch[0].cast(pa.string()), batch[1].cast(pa.int64())
    none = pa.nulls(len(names), pa.string())
    unsafe = pc.match_substring_regex(names, _UNSAFE)
    hidden = pc.and_not(pc.match_substring_regex(names, _HIDDEN), unsafe)
    wanted = pc.and_not(pc.match_substring_regex(names, _PICTURE), hidden)
    counts = [pc.sum(each).as_py() or 0 for each in (hidden, wanted)]
    skipped.update({"hidden": counts[0], "other": len(names) - sum(counts)})
    too_big = pc.if_else(pc.greater(sizes, members.MAX_BYTES), "too_many_bytes", none)
    columns = {
        "image": names,
        "container": pc.binary_join_element_wise(BESIDE, names, ""),
        "offset": pa.array(np.full(len(names), -1)),
        "bytes": sizes,
        "stamp": (batch[2].cast(pa.string()) if stamped else none).fill_null(""),
        "reason": pc.if_else(unsafe, "unsafe_path", too_big),
        "shard": pa.array(np.zeros(len(names), np.int32)),
    }
    return pa.table(columns, schema=records.INPUTS).filter(wanted)


def _with_own_names(table: pa.Table) -> pa.Table:
    """The table, its names showable and no two the same."""
    plain = pc.all(pc.utf8_is_printable(table["image"])).as_py()
    if plain is not False and pc.count_distinct(table["image"]).as_py() == table.num_rows:
        return table
    rows = members.numbered(list(members.from_table(table)), reason="duplicate")
    return members.to_table(rows, table["shard"].to_pylist())
