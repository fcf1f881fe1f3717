"""Pictures in the rows of a Parquet file: a binary column, or Hugging Face's struct<bytes, path>.

Every row is a member; no bytes are looked at while planning. A row group can only be read from
its start, so it is a stretch of its own.
"""

from __future__ import annotations

import bisect
import io
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nnst import records
from nnst.archive import members
from nnst.archive.members import Place, Reader, Row, Stretch
from nnst.errors import ImageError, InputError

SUFFIXES = (".parquet",)
MAGIC = b"PAR1"

_PICTURES = ("bytes", "image", "jpg", "jpeg", "png", "webp", "img", "data", "content")
_NAMES = ("image", "path", "file_name", "filename", "key", "__key__", "url", "id")
_PAGE_BUFFER = 1 << 20  # pages are read one by one, not a row group's whole column at once
_ROWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns that matter, as dotted paths: `image.bytes`."""

    picture: str
    name: str | None
    status: str | None


def find(stream: IO[bytes], place: Place) -> list[Stretch]:
    """The rows of a Parquet file, a stretch for each row group. Raises InputError.

    A row's bytes are the average of its row group: its own are not known before it is read.
    """
    try:
        file = opened(stream)
        columns = _columns(file.schema_arrow)
        if columns is None:
            found = ", ".join(file.schema_arrow.names)
            raise InputError(
                f"{place.name} has no column of pictures (it has {found})",
                f"name the column of their bytes one of {', '.join(_PICTURES)}",
            )
        if file.metadata.num_rows > stream.seek(0, io.SEEK_END):
            raise InputError(f"{place.name} claims more rows than it has bytes", "write it again")
        return _find(file, columns, place, _stamp(stream))
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names not UTF-8
        raise InputError(
            f"cannot read the Parquet file {place.name}: {error}", "write or fetch it again"
        ) from None


def _find(file: pq.ParquetFile, columns: _Columns, place: Place, stamp: str) -> list[Stretch]:
    rows: list[Row] = []
    counts: list[int] = []
    for group in range(file.num_row_groups):
        # Not the column's own size: pyarrow ends the process on a chunk whose statistics are bad.
        metadata = file.metadata.row_group(group)
        size = metadata.total_byte_size // max(1, metadata.num_rows)
        before = len(rows)
        for name, reason in _labels(file, columns, group):
            shown = f"{place.prefix}{name}" if name else f"{place.name}#{len(rows)}"
            rows.append(Row(shown, place.container, len(rows), size, stamp, reason))
        counts.append(len(rows) - before)
    found = iter(members.numbered(rows, reason=None))  # two rows of one name are two pictures
    return [Stretch(list(itertools.islice(found, count)), sequential=True) for count in counts]


def opened(stream: IO[bytes]) -> pq.ParquetFile:
    """The file, its columns known. Raises pyarrow's errors and ValueError."""
    try:
        return pq.ParquetFile(stream, buffer_size=_PAGE_BUFFER, pre_buffer=False)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # Ray Data, where it is loaded, makes its types of what the file says, whatever that is.
        raise ValueError(f"the type of a column is broken ({error})") from None


def _columns(schema: pa.Schema) -> _Columns | None:
    """Where pictures, names and reasons are; None where no column can hold pictures."""
    pictures = {field.name: _bytes_path(field) for field in schema}
    structs = [name for name, path in pictures.items() if path and "." in path]
    first = next((name for name in (*_PICTURES, *structs) if pictures.get(name)), None)
    if first is None:
        return None
    names = [name for name in _NAMES if name in schema.names and _is_label(schema.field(name).type)]
    if first in structs:
        names.insert(0, f"{first}.path")
    status = "status" in schema.names and pa.types.is_string(schema.field("status").type)
    picture = pictures[first]
    assert picture is not None
    return _Columns(picture, names[0] if names else None, "status" if status else None)


def holds_pictures(schema: pa.Schema) -> bool:
    """Whether a file with these columns holds the bytes of pictures."""
    return _columns(schema) is not None


def _bytes_path(field: pa.Field) -> str | None:
    """The path of the binary values in a column: its own, or that of a struct<bytes, path>."""
    if pa.types.is_struct(field.type):
        leaves = {leaf.name: leaf.type for leaf in field.type.fields}
        fits = "path" in leaves and _is_binary(leaves.get("bytes"))
        return f"{field.name}.bytes" if fits else None
    return field.name if _is_binary(field.type) else None


def _is_binary(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return text or pa.types.is_integer(kind)


def _labels(
    file: pq.ParquetFile, columns: _Columns, group: int
) -> Iterator[tuple[str | None, str | None]]:
    """Name and reason of each row of a row group, where it has them."""
    paths = [path for path in (columns.name, columns.status) if path]
    if not paths:
        yield from [(None, None)] * file.metadata.row_group(group).num_rows
        return
    for batch in file.iter_batches(row_groups=[group], columns=paths, use_threads=False):
        for values in batch.to_pylist():
            name = None if columns.name is None else _leaf(values, columns.name)
            status = None if columns.status is None else values[columns.status]
            reason = status if status in records.REASONS else None
            yield (None if name is None else str(name)), reason


def _leaf(values: Any, path: str) -> Any:
    """The value at a dotted path of nested dicts; None where one of them is null."""
    for part in path.split("."):
        values = None if values is None else values[part]
    return values


def _stamp(stream: IO[bytes]) -> str:
    """What tells this file from another one: its footer covers sizes and places of all pages."""
    stream.seek(-8, io.SEEK_END)
    length = int.from_bytes(stream.read(4), "little")
    stream.seek(-8 - length, io.SEEK_END)
    return f"{zlib.crc32(stream.read(length)):08x}"


class _Cursor:
    """Goes forward through the row groups of an open file, a few rows in memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stamp = _stamp(stream)
        self._file = opened(stream)
        columns = _columns(self._file.schema_arrow)
        self._path = columns.picture if columns else ""
        counts = [
            self._file.metadata.row_group(group).num_rows
            for group in range(self._file.num_row_groups)
        ]
        self._starts = [0, *itertools.accumulate(counts)]  # first row of each group, and the end
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._first = 0  # number of the batch's first row
        self._batch: pa.RecordBatch | None = None

    def read(self, row: Row) -> bytes:
        """The bytes in a row. Going back within a row group begins it anew."""
        if row.stamp != self._stamp or not self._path:
            raise ImageError("unreadable", "the Parquet file has changed since it was planned")
        value = _leaf(self._values(row.offset), self._path)
        if value is None:
            raise ImageError("missing", "the row holds no bytes")
        if len(value) > members.MAX_BYTES:
            raise ImageError("too_many_bytes", f"{len(value)} bytes")
        return bytes(value)

    def _values(self, number: int) -> dict[str, Any]:
        """The row of this number, as a dict."""
        group = bisect.bisect_right(self._starts, number) - 1
        if self._batch is None or not self._starts[group] <= self._first <= number:
            self._first, self._batch = self._starts[group], None
            self._batches = self._file.iter_batches(
                _ROWS_AT_ONCE, row_groups=[group], columns=[self._path], use_threads=False
            )
        while self._batch is None or number >= self._first + self._batch.num_rows:
            self._first += 0 if self._batch is None else self._batch.num_rows
            self._batch = None  # if the next one cannot be read, the group begins anew
            self._batch = next(self._batches, None)
            if self._batch is None:
                raise ImageError("corrupt", "fewer rows than the Parquet file's footer says")
        return dict(self._batch.slice(number - self._first, 1).to_pylist()[0])


def reader(stream: IO[bytes]) -> Reader:
    """Reads rows of an open Parquet file; forward where their numbers grow."""
    return _Cursor(stream).read
