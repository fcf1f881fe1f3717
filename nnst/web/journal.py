"""What is finished of a shard that is not: a row for each address, kept as soon as there is one.

A shard that was killed goes on behind its last row, so no finished address is asked for again. Only
one process works on a shard's journal: a second one waits until the first has ended.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import IO, Any

from nnst import images, storage
from nnst.records import OK
from nnst.web import blobs

Row = dict[str, Any]
"""A row of records.COLLECTED."""

_DONE, _KEPT, _BEFORE = "done", "kept", "before"
FOLDER = "journal"


class Journal:
    """The journal of one shard; a context manager.

    `rows` has the finished ones by address; `before` those of an earlier pass that are to be
    fetched again.
    """

    def __init__(self, out: str, shard: int) -> None:
        self._out = out
        self._path = storage.join(out, FOLDER, f"{shard:05d}")
        self._stream: IO[bytes] | None = None
        self._numbers = itertools.count(1)
        self.rows: dict[str, Row] = {}
        self.before: dict[str, Row] = {}

    def __enter__(self) -> Journal:
        lines = self._open_remote() if storage.is_remote(self._path) else self._open_local()
        for line in lines:
            self._take(line)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.close()  # and gives the lock back

    def add(self, row: Row) -> None:
        """Keep a finished row: from here on it outlives this process. Threads may call it."""
        self.rows[row["url"]] = row
        line = _line(_DONE, row)
        if self._stream is not None:
            self._stream.write(line)  # unbuffered: one write of the system, whole or not
        else:
            storage.put(storage.join(self._path, f"{next(self._numbers):09d}.json"), line)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return  # cut short as its process was killed
        for kind, row in entry.items():
            if kind == _BEFORE:
                self.before[row["url"]] = row
            elif kind == _KEPT or row["status"] != OK or blobs.is_there(self._out, row):
                self.rows[row["url"]] = row

    def _open_local(self) -> list[bytes]:
        path = f"{self._path}.jsonl"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._stream = open(path, "ab+", buffering=0)  # noqa: SIM115  closed in __exit__
        while not _locked(self._stream):
            images.still_at_work()
            time.sleep(0.2)
        self._stream.seek(0)
        data = self._stream.read()
        if data and not data.endswith(b"\n"):
            self._stream.write(b"\n")
        return data.splitlines()

    def _open_remote(self) -> list[bytes]:
        names = storage.names(self._path)
        last = max((int(name.partition(".")[0]) for name in names), default=0)
        self._numbers = itertools.count(last + 1)
        found = [storage.read(storage.join(self._path, name)) for name in names]
        return [line for data in found for line in data.splitlines()]


def _locked(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _line(kind: str, row: Row) -> bytes:
    return json.dumps({kind: row}, ensure_ascii=False).encode() + b"\n"


def seed(out: str, shard: int, rows: Iterable[Row], again: Mapping[str, bool]) -> None:
    """Begin a shard's journal anew with the rows of an earlier pass; those whose address is in
    `again` will be fetched again."""
    lines = (_line(_BEFORE if again.get(row["url"]) else _KEPT, row) for row in rows)
    path = storage.join(out, FOLDER, f"{shard:05d}")
    storage.remove(path)
    path = storage.join(path, "0.json") if storage.is_remote(path) else f"{path}.jsonl"
    storage.put(path, b"".join(lines))
