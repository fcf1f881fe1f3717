"""The detections of a scan that count, as truth of any format or as CSV; the page's downloads are
the same, made in the browser.

The picture with the best score comes first, and of each picture the best detection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnst import records, storage
from nnst.formats import Mark, MarkedPicture, MarkedSet
from nnst.ledger import Ledger

_SIDES = ("x0", "y0", "x1", "y1")


def choose(ledger: Ledger, threshold: float) -> pa.Table:
    """The rows of `detections` whose score reaches the threshold, in the order of an export."""
    least = pa.scalar(np.float32(threshold), pa.float32())
    every = ledger.parts("detections")
    parts = [part.filter(pc.greater_equal(part["score"], least)) for part in every]
    rows = pa.concat_tables(parts) if parts else records.DETECTIONS.empty_table()
    rows = rows.combine_chunks()
    pictures = rows["image"].combine_chunks().dictionary_encode()
    codes, scores = pictures.indices.to_numpy(), rows["score"].to_numpy()
    best = np.zeros(len(pictures.dictionary), np.float32)
    np.maximum.at(best, codes, scores)
    return rows.take(pa.array(np.lexsort((-scores, codes, -best[codes]))))


def as_marked(ledger: Ledger, rows: pa.Table, threshold: float, out: str) -> MarkedSet:
    """The rows as marks on their pictures, in the digits that they have in the table.

    Pictures are named by their files, relative to the archive where it is a folder; what lies
    packed has its own name, as if it had been unpacked beside `out`.
    """
    names = rows["image"].to_pylist()
    sizes, files = _sizes(ledger, rows["image"]), files_of(ledger, rows["image"].unique())
    corners = [_digits(rows[side]) for side in _SIDES]
    columns = zip(*corners, _digits(rows["score"]), rows["label"].to_pylist(), strict=True)
    marks: dict[str, list[Mark]] = {}
    for name, (x0, y0, x1, y1, score, label) in zip(names, columns, strict=True):
        if x1 > x0 and y1 > y0:
            marks.setdefault(name, []).append(Mark(x0, y0, x1, y1, label, score=score))
    is_folder = not storage.is_remote(ledger.source) and os.path.isdir(ledger.source)
    model = ledger.plan["identity"]["model"]
    version = f"/{model['version']}" if model["version"] else ""
    return MarkedSet(
        pictures=tuple(
            MarkedPicture(files.get(n, n), tuple(m), *sizes[n]) for n, m in marks.items()
        ),
        path=Path(ledger.out),
        folder=Path(ledger.source) if is_folder else Path(out).absolute().parent,
        labels=tuple(model["labels"][1:]),
        name=f"Found by {model['name']}{version}",
        comment=f"scores of {threshold:g} or more",
    )


def files_of(ledger: Ledger, images: pa.Array) -> dict[str, str]:
    """The files of those of the pictures that are called otherwise in the archive than in its
    folder, as in a collection."""
    rows = ledger.inputs_of(images)
    alone = pc.and_(pc.less(rows["offset"], 0), pc.not_equal(rows["container"], ""))
    rows = rows.filter(pc.and_(alone, pc.not_equal(rows["container"], rows["image"])))
    columns = rows["image"].to_pylist(), rows["container"].to_pylist()
    return dict(zip(*columns, strict=True))


def _sizes(ledger: Ledger, images: pa.ChunkedArray) -> dict[str, tuple[int | None, int | None]]:
    """Width and height of these pictures as they are stored."""
    wanted = pc.unique(images)
    found: dict[str, Any] = {}
    for part in ledger.parts("images", ["image", "width", "height"]):
        part = part.filter(pc.is_in(part["image"], value_set=wanted))
        columns = (part[name].to_pylist() for name in ("image", "width", "height"))
        found |= {image: (width, height) for image, width, height in zip(*columns, strict=True)}
    return found


def _digits(column: pa.ChunkedArray) -> list[float]:
    """The values in the fewest digits that keep a float32: 30.05, and not 30.0499992."""
    return [float(str(value)) for value in column.to_numpy()]
