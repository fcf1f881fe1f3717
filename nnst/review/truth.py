"""Verdicts -> truth to learn from: what was confirmed, what was refused, what nobody looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nnst.imglab import Box
from nnst.review.order import boxes_of

NEGATIVE = "not_logo"  # the label of refused boxes, for `nnst crop --negative-label`
DOUBTFUL = 0.1  # the score from which what nobody looked at may be a logo, and is no background


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A picture with a verdict, and its boxes in pixels as stored."""

    image: str
    image_id: str
    boxes: tuple[Box, ...]


def reviewed(detections: pa.Table, verdicts: Mapping[int, str]) -> list[Reviewed]:
    """The pictures in which at least one detection was judged, in the order of the scan.

    A confirmed box keeps its label; a refused one is labelled NEGATIVE; one that is in the wrong
    place, was skipped or was not looked at is an ignore box: neither a logo nor background.
    """
    judged = {row for row, verdict in verdicts.items() if verdict != "skip"}
    names = detections["image"].to_pylist()
    wanted = {names[row] for row in judged}
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name in wanted:
            rows.setdefault(name, []).append(row)
    contents = detections["image_id"]
    return [
        Reviewed(name, contents[mine[0]].as_py(), tuple(_boxes(detections, mine, verdicts)))
        for name, mine in rows.items()
    ]


def _boxes(detections: pa.Table, rows: Sequence[int], verdicts: Mapping[int, str]) -> list[Box]:
    mine = detections.take(pa.array(rows, pa.int64()))
    corners = np.rint(boxes_of(mine).astype(np.float64)).astype(int).tolist()
    found = []
    columns = corners, mine["score"].to_pylist(), mine["label"].to_pylist()
    for row, (x0, y0, x1, y1), score, label in zip(rows, *columns, strict=True):
        verdict = verdicts.get(row, "")
        if not verdict and score < DOUBTFUL:
            continue
        known = verdict in ("yes", "no")
        found.append(
            Box(
                x0,
                y0,
                max(1, x1 - x0),
                max(1, y1 - y0),
                NEGATIVE if verdict == "no" else label,
                ignore=not known,
                detection_score=round(float(score), 4),
            )
        )
    return found
