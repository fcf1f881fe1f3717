"""The detections of a scan as CSV (RFC 4180, UTF-8) that a spreadsheet opens without harm."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa

from nnst import records
from nnst.ledger import Ledger

# What spreadsheets take for the start of a formula, the wide forms of East Asian ones included.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def encode(ledger: Ledger, threshold: float) -> bytes:
    """Every detection of the scan, a row each, with whether its score reaches the threshold.

    The columns are those of the table. Text that could be a formula gets an apostrophe in front.
    """
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    names = records.DETECTIONS.names
    writer.writerow([*names, "above_threshold"])
    for part in ledger.parts("detections"):
        above = part["score"].to_numpy() >= np.float32(threshold)
        words = np.where(above, "true", "false").tolist()
        writer.writerows(zip(*(_cells(part[name]) for name in names), words, strict=True))
    return sink.getvalue().encode()


def encode_rows(rows: pa.Table) -> bytes:
    """These rows of `detections`, in the table's columns; text as in `encode`."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    writer.writerow(rows.column_names)
    writer.writerows(zip(*(_cells(column) for column in rows.columns), strict=True))
    return sink.getvalue().encode()


def _cells(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_string(column.type):
        return ["'" + text if text.startswith(_FORMULA) else text for text in column.to_pylist()]
    return [str(value) for value in column.to_numpy()]  # the fewest digits that keep a float32
