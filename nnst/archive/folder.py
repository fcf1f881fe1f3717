"""Pictures that are files of their own, below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from nnst import storage
from nnst.archive import members
from nnst.archive.listing import BESIDE
from nnst.archive.members import Row, Stretch
from nnst.errors import ImageError
from nnst.storage import Entry

_HEADS_AT_ONCE = 16  # each is a request to a store far away
_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")
_REASONS = {"file": None, "link": "link", "special": "special_file"}


def find(entries: Sequence[Entry]) -> Stretch:
    """The pictures among the files of a folder. A file with a picture's suffix is not opened."""
    stretch = Stretch()
    heads = _heads(entries)
    for entry in entries:
        reason = "unsafe_path" if _is_chain(entry) else _REASONS[entry.kind]
        name = _portable(entry.name)
        head = partial(heads.__getitem__, entry.name) if entry.name in heads else None
        stretch.add(Row(name, name, -1, entry.bytes, entry.stamp, reason), head)
    return stretch


def _is_chain(entry: Entry) -> bool:
    """Whether fsspec would take the name for a chain of addresses, and open another one."""
    return "::" in entry.name and storage.is_remote(entry.path)


def _heads(entries: Sequence[Entry]) -> dict[str, bytes]:
    """The first bytes of each file whose name does not tell what it is."""
    files = [entry for entry in entries if entry.kind == "file" and not _is_chain(entry)]
    unsure = [entry for entry in files if not members.named_like_picture(entry.name)]
    if unsure and storage.is_remote(unsure[0].path):
        with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
            found = list(pool.map(_head, unsure))
    else:
        found = [_head(entry) for entry in unsure]
    return {entry.name: head for entry, head in zip(unsure, found, strict=True)}


def _head(entry: Entry) -> bytes:
    try:
        return storage.read(entry.path, members.HEAD_BYTES)
    except (FileNotFoundError, PermissionError):
        return b""  # without a picture's name it is no picture, as far as anybody can tell


def _portable(name: str) -> str:
    """The name as text, with `\\xNN` for each byte that is not UTF-8; `_native` undoes it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _native(name: str) -> str:
    return _ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), name)


def read(source: str, row: Row) -> bytes:
    """The bytes of a whole file. Raises ImageError, OSError."""
    try:
        data = _read(source, row.container, row.bytes + 1)
    except FileNotFoundError:
        if _native(row.container) == row.container:
            raise
        data = _read(source, _native(row.container), row.bytes + 1)
    if len(data) > row.bytes:
        raise ImageError("unreadable", f"has grown since it was planned with {row.bytes} bytes")
    if len(data) < row.bytes:
        raise ImageError("truncated", f"{len(data)} of the {row.bytes} bytes that were planned")
    return data


def _read(source: str, container: str, limit: int) -> bytes:
    if container.startswith(BESIDE):
        source, container = source.rpartition("/")[0] or ".", container.removeprefix(BESIDE)
    return storage.read(storage.join(source, container) if container else source, limit)
