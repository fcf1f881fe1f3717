"""What people said of detections: rows appended to a file, each on the disk before it is answered.

A line of JSON a verdict: what it is about, who said it, when, and of which model version. Nothing
is ever changed: the last word on a detection counts, and `open` takes a word back. A line that a
kill cut short is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

VERDICTS = ("yes", "no", "wrong_box", "skip")
OPEN = "open"  # no verdict: an earlier one is taken back
FIELDS = ("image", "image_id", "x0", "y0", "x1", "y1", "score", "label", "model")
_KEY = ("image_id", "x0", "y0", "x1", "y1", "label")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VerdictLog:
    """The file of a scan's verdicts; it need not be there yet."""

    path: str

    def append(self, detection: Row, verdict: str, who: str, when: str) -> None:
        """Keep a verdict on a row of records.DETECTIONS. Returns when it is on the disk."""
        if verdict not in (*VERDICTS, OPEN):
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict[:40]!r}")
        row = {name: detection[name] for name in FIELDS}
        line = json.dumps({**row, "verdict": verdict, "who": who, "when": when}) + "\n"
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(handle).st_size
            whole = not size or os.pread(handle, 1, size - 1) == b"\n"
            os.write(handle, (line if whole else f"\n{line}").encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def rows(self) -> list[dict[str, Any]]:
        """Everything that was said, in its order."""
        try:
            with open(self.path, encoding="utf-8", errors="replace") as lines:
                return [row for line in lines if (row := _parsed(line))]
        except FileNotFoundError:
            return []

    def on(self, detections: pa.Table) -> dict[int, str]:
        """The verdict on each detection that has one, by its row in the scan's table, in the order
        of the last words.

        They meet by content: a scan that was done again and found the same keeps its verdicts, and
        what was found in two copies of a picture shares one.
        """
        last: dict[tuple[Any, ...], str] = {}
        for said in self.rows():
            last.pop(_key(said), None)
            last[_key(said)] = said["verdict"]
        contents = pa.array({key[0] for key in last}, pa.string())
        known = pc.indices_nonzero(pc.is_in(detections["image_id"], value_set=contents))
        places: dict[tuple[Any, ...], list[int]] = {}
        for row, found in zip(known.to_pylist(), detections.take(known).to_pylist(), strict=True):
            places.setdefault(_key(found), []).append(row)
        return {
            row: verdict
            for key, verdict in last.items()
            if verdict != OPEN
            for row in places.get(key, ())
        }


def _parsed(line: str) -> dict[str, Any] | None:
    """The row of a whole line; None for what is none."""
    try:
        row = json.loads(line)
        whole = all(name in row for name in (*FIELDS, "verdict"))
        known = whole and row["verdict"] in (*VERDICTS, OPEN)
    except (ValueError, TypeError):
        return None
    return dict(row) if known else None


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(round(row[name], 2) if name[0] in "xy" else row[name] for name in _KEY)
