"""Rows that compare models, as text, as the table of MLflow's pages, and as a figure."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

# A column: its key in a row, its head in the text, and how large numbers are written.
_COLUMNS = (
    ("model", "model"),
    ("parameters", "parameters"),
    ("first_layer_weights", "first layer"),
    ("multiply_adds_per_window", "mult-adds/window"),
    ("multiply_adds_per_megapixel", "mult-adds/MP"),
    ("training_seconds", "trained in"),
    ("average_precision", "AP"),
    ("megapixels_per_s", "MP/s"),
)
_PANELS = (
    ("average_precision", "average precision at IoU 0.5", "linear"),
    ("multiply_adds_per_megapixel", "multiply-adds per megapixel", "log"),
    ("parameters", "parameters", "log"),
    ("training_seconds", "training, seconds", "linear"),
    ("megapixels_per_s", "scan, megapixels per second", "log"),
)


def as_text(rows: Sequence[Row]) -> list[str]:
    """Lines of a table for people."""
    table = [[head for _, head in _COLUMNS]]
    table += [[_cell(key, row.get(key)) for key, _ in _COLUMNS] for row in rows]
    widths = [max(len(line[index]) for line in table) for index in range(len(_COLUMNS))]
    return [
        "  ".join(
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def as_table(rows: Sequence[Row]) -> bytes:
    """The JSON by which MLflow's pages show a table."""
    first = [key for key, _ in _COLUMNS]
    columns = [*first, *sorted({key for row in rows for key in row} - {*first})]
    data = [[row.get(key) for key in columns] for row in rows]
    return json.dumps({"columns": columns, "data": data}).encode()


def as_figure(rows: Sequence[Row]) -> bytes:
    """PNG: a panel for each figure, a bar for each model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(_PANELS), 2.6), dpi=110, layout="constrained")
    for axes, (key, title, scale) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        known = [row for row in rows if row.get(key) is not None]
        for index, row in enumerate(known):
            axes.bar(row["model"], row[key], color=f"C{index}")
        if scale == "log" and known:
            axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key == "average_precision":
        return f"{value:.3f}"
    if key == "training_seconds":
        return f"{value:,.0f} s"
    if key == "megapixels_per_s":
        return f"{value:.3g}"
    if key.startswith("multiply_adds"):
        return _large(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _large(value: float) -> str:
    """A count in thousands, millions, billions: 4.95 M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"
