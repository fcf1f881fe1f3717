"""Tables in parts: Parquet bytes that depend on the rows alone, under names that say their hash."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from nnst import records, storage
from nnst.errors import JobFailed
from nnst.records import PartFile

SCHEMAS: Mapping[str, pa.Schema] = {
    "images": records.IMAGES,
    "detections": records.DETECTIONS,
    "crops": records.CROPS,
    "pictures": records.PICTURES,
}
PART_NAME = re.compile(r"part-\d{5,}-[0-9a-f]{12}\.parquet")
_ROW_GROUP = 16_384


def write_part(
    out: str, name: str, shard: int, rows: pa.Table, schema: pa.Schema | None = None
) -> PartFile:
    """Write one table of a shard under its content's own name, and return what was written.

    Called by workers. Writing the same rows again changes nothing. `schema` is for a verb whose
    table of this name has other columns than SCHEMAS says.
    """
    data = to_parquet(rows.cast(schema or SCHEMAS[name]))
    if pq.read_metadata(pa.BufferReader(data)).num_rows != rows.num_rows:  # before it is put
        raise JobFailed(f"a part of {rows.num_rows} rows was encoded with another number of them")
    digest = storage.sha256(data)
    file = f"part-{shard:05d}-{digest[:12]}.parquet"
    storage.put(storage.join(out, name, file), data)
    return PartFile(name, file, len(data), digest, rows.num_rows)


def write_parts(out: str, shard: int, tables: Mapping[str, pa.Table]) -> tuple[PartFile, ...]:
    """Write the tables of a shard, by name, as `write_part` does, and return what was written.

    Side by side: what a disk or a store takes is nearly all waiting.
    """
    with ThreadPoolExecutor(max(1, len(tables))) as pool:
        return tuple(pool.map(lambda name: write_part(out, name, shard, tables[name]), tables))


def to_parquet(rows: pa.Table) -> bytes:
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
