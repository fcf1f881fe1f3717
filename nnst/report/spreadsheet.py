"""The detections of a scan as CSV (RFC 4180, UTF-8) that a spreadsheet opens without harm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import IO

import numpy as np
import pyarrow as pa

from nnst import records

# What spreadsheets take for the start of a formula, the wide forms of East Asian ones included.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Sheet:
    """Every detection of a scan, a row each, with whether its score reaches the threshold.

    Written part by part into a stream. The columns are those of the table. Text that could be a
    formula gets an apostrophe in front.
    """

    def __init__(self, stream: IO[bytes], threshold: float) -> None:
        self._stream = stream
        self._threshold = np.float32(threshold)
        self._names = records.DETECTIONS.names
        self._write([[*self._names, "above_threshold"]])

    def add(self, part: pa.Table) -> None:
        """Write rows of `detections`."""
        above = part["score"].to_numpy() >= self._threshold
        words = np.where(above, "true", "false").tolist()
        self._write(zip(*(_cells(part[name]) for name in self._names), words, strict=True))

    def _write(self, rows: Iterable[Iterable[str]]) -> None:
        self._stream.write(_encoded(rows))


def _encoded(rows: Iterable[Iterable[str]]) -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()


def encode_rows(rows: pa.Table) -> bytes:
    """These rows of `detections`, in the table's columns; text as in `Sheet`."""
    cells = zip(*(_cells(column) for column in rows.columns), strict=True)
    return _encoded([rows.column_names, *cells])


def _cells(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_string(column.type):
        return ["'" + text if text.startswith(_FORMULA) else text for text in column.to_pylist()]
    return [str(value) for value in column.to_numpy()]  # the fewest digits that keep a float32
