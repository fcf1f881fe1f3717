"""Detections -> the order in which a person is asked about them, the most telling first.

Detections are put into strata by score, and those that two models disagree about, or whose size is
unusual, into strata of their own. Within a stratum the order is drawn by lot, so that what was
looked at of it stands for the rest, at any time; `estimates` rests on that. The strata take turns:
one near the threshold comes more often, one that is odd three times as often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nnst import boxes as boxes_

EDGES = (0.03, 0.1, 0.3, 0.6, 0.9)  # of score, beside the threshold
SAME = 0.5  # IoU of what two scans found
ODD = 3.0  # how much more often an odd stratum takes its turn
FAR = 3.5  # robust standard deviations that make a size unusual (Iglewicz and Hoaglin, 1993)
FEWEST = 12  # detections that say what is usual

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Order:
    """In which order to ask. Arrays are one entry a detection, in the order of the scan's table."""

    rows: Ints  # (N,) the detections, the first to ask about first
    stratum: Ints  # (N,) numbered from 0
    above: Mask  # (N,) whether the score reaches the threshold
    disputed: Mask  # (N,)
    unusual: Mask  # (N,)


def order(
    detections: pa.Table, threshold: float, disputed: Mask | None = None, seed: int = 0
) -> Order:
    """The order for a scan's detections (records.DETECTIONS); the same for the same scan."""
    scores = detections["score"].to_numpy().astype(np.float32)
    above = scores >= np.float32(threshold)
    if disputed is None:
        disputed = np.zeros(len(scores), dtype=bool)
    unusual = _unusual(detections, above)
    edges = [edge for edge in EDGES if abs(edge - threshold) > 0.01]
    bins = np.digitize(scores, np.sort(np.array([*edges, np.float32(threshold)], np.float32)))
    keys = bins * 2 + (disputed | unusual)
    _, stratum = np.unique(keys, return_inverse=True)
    rows = _turns(scores, threshold, stratum, disputed | unusual, seed)
    return Order(rows, stratum.astype(np.int64), above, disputed, unusual)


def _turns(
    scores: NDArray[np.float32], threshold: float, stratum: Ints, odd: Mask, seed: int
) -> Ints:
    """The detections in the order in which their strata take turns."""
    lot = np.random.default_rng(seed).permutation(len(scores))
    due = np.zeros(len(scores))
    for number in range(int(stratum.max(initial=-1)) + 1):
        members = lot[stratum[lot] == number]
        away = abs(_odds(float(scores[members].mean())) - _odds(threshold))
        weight = np.exp(-away / 2) * (ODD if odd[members[0]] else 1.0)
        due[members] = np.arange(1, len(members) + 1) / weight
    return np.lexsort((lot.argsort(), due)).astype(np.int64)


def _odds(score: float) -> float:
    inside = min(max(score, 1e-3), 1 - 1e-3)
    return float(np.log(inside / (1 - inside)))


def _unusual(detections: pa.Table, above: Mask) -> Mask:
    """(N,) which detections above the threshold are large, small or long as few others are."""
    found = np.zeros(len(above), dtype=bool)
    if above.sum() < FEWEST:
        return found
    sides = np.maximum(boxes_.size_hw(boxes_of(detections)[above]), 1).astype(np.float64)
    for value in (np.log(sides.prod(axis=1)), np.log(sides[:, 1] / sides[:, 0])):
        apart = np.abs(value - np.median(value))
        spread = max(float(np.median(apart)) * 1.4826, 0.05)
        found[above] |= apart > FAR * spread
    return found


def disagreeing(mine: pa.Table, threshold: float, other: pa.Table, other_threshold: float) -> Mask:
    """(N,) which detections of a scan count in it and not in another of the same pictures, or the
    other way round."""
    theirs = _by_content(other)
    boxes, scores = boxes_of(mine), mine["score"].to_numpy()
    labels, other_labels = (np.array(t["label"].to_pylist(), np.str_) for t in (mine, other))
    other_boxes, other_scores = boxes_of(other), other["score"].to_numpy()
    counts = np.zeros(len(boxes), dtype=bool)
    for content, rows in _by_content(mine).items():
        near = theirs.get(content, np.zeros(0, np.int64))
        near = near[other_scores[near] >= np.float32(other_threshold)]
        iou = boxes_.pairwise_iou(boxes[rows], other_boxes[near])
        same = labels[rows][:, None] == other_labels[near][None]
        counts[rows] = ((iou >= SAME) & same).any(axis=1)
    return counts != (scores >= np.float32(threshold))


def _by_content(detections: pa.Table) -> Mapping[str, Ints]:
    found: dict[str, list[int]] = {}
    for row, content in enumerate(detections["image_id"].to_pylist()):
        found.setdefault(content, []).append(row)
    return {content: np.array(rows, np.int64) for content, rows in found.items()}


def boxes_of(detections: pa.Table) -> boxes_.Boxes:
    """(N, 4) the boxes of a table of detections, in pixels as stored."""
    columns: list[NDArray[Any]] = [detections[name].to_numpy() for name in ("x0", "y0", "x1", "y1")]
    return np.stack(columns, axis=1).astype(np.float32)
