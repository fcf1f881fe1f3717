"""URL lists: files with an address a line, or tables with a column of them."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nnst import storage
from nnst.errors import InputError
from nnst.web.links import Link

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
MAX_BYTES = 4 << 30

_FACTS: Mapping[str, tuple[str, ...]] = {  # what columns are called that say more of a picture
    "page": ("page", "page_url", "foreign_landing_url"),
    "licence": ("licence", "license"),
    "licence_url": ("licence_url", "license_url"),
    "creator": ("creator", "author", "artist"),
    "attribution": ("attribution", "credit"),
    "title": ("title", "caption", "alt"),
}


def read(path: str, column: str, carry: Sequence[str]) -> Iterator[Link]:
    """The links of a list, in its order. Lines without an address give none.

    `column` holds the addresses; `carry` names the columns that are kept, none for all. Raises
    InputError.
    """
    data = _bytes(path)
    if path.lower().endswith(".txt"):
        for line in _text(data, path).splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield Link(line.strip(), source=path)
        return
    checked = False
    for row in _rows(path, data):
        if not checked:
            _check_columns(path, row, (column, *carry))
            checked = True
        address = row.get(column)
        if isinstance(address, str) and address.strip():
            yield _link(path, row, column, carry)


def _bytes(path: str) -> bytes:
    try:
        data = storage.read(path, MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", "check the path") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}", "check the path") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes", "split it")
    return data


def _text(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"{path} is not UTF-8 (byte {error.start})"
        raise InputError(what, "save it as UTF-8") from None


def _rows(path: str, data: bytes) -> Iterator[Mapping[str, Any]]:
    """The rows of a table, each by the names of its columns."""
    suffix = path.lower().rpartition(".")[2]
    if suffix == "parquet":
        yield from _parquet_rows(path, data)
    elif suffix == "jsonl":
        yield from _json_rows(path, data)
    else:
        text = io.StringIO(_text(data, path), newline="")
        reader = csv.DictReader(text, delimiter="\t" if suffix == "tsv" else ",", restkey="")
        try:
            yield from reader
        except csv.Error as error:
            what = f"{path}, line {reader.line_num}: {error}"
            raise InputError(what, "correct that line") from None


def _json_rows(path: str, data: bytes) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_text(data, path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: {error}", "correct that line") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is no JSON object", "write one object a line")
        yield row


def _parquet_rows(path: str, data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        plain = [field.name for field in file.schema_arrow if not _is_large(field.type)]
        for batch in file.iter_batches(8192, columns=plain):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"cannot read the Parquet file {path}: {error}"
        raise InputError(what, "write or fetch it again") from None


def _is_large(kind: pa.DataType) -> bool:
    """Whether values of the type are no fact of a picture but bytes, or many numbers."""
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_nested(kind)
    )


def _check_columns(path: str, row: Mapping[str, Any], wanted: Sequence[str]) -> None:
    names = [str(name) for name in row if name]
    for name in wanted:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            flag = "--set source.url" if name == wanted[0] else "--set source.carry"
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(
                f"{path} has no column {name!r} (it has {', '.join(names)})",
                f"{hint}name it with {flag}=COLUMN",
            )


def _link(path: str, row: Mapping[str, Any], column: str, carry: Sequence[str]) -> Link:
    kept = {
        name: value
        for name, value in row.items()
        if name and name != column and value not in (None, "") and (not carry or name in carry)
    }
    facts: dict[str, str] = {}
    for field, names in _FACTS.items():
        found = next((name for name in names if isinstance(kept.get(name), str)), None)
        if found:
            facts[field] = kept.pop(found).strip()
    carried = json.dumps(kept, sort_keys=True, ensure_ascii=False, default=str) if kept else None
    return Link(row[column].strip(), source=path, carried=carried, **facts)
