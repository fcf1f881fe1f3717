"""Non-maximum suppression: of boxes that mean the same object, the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.records import Detections

BLOCK = 512  # boxes compared with as many others at once: a few megabytes, however many there are


def ranking(detections: Detections) -> NDArray[np.int64]:
    """(N,) indices from best to worst: by score, then label, then box (x0, y0, x1, y1).

    Rows that differ in nothing are the only ties left, so the order in which rows came is
    forgotten.
    """
    x0, y0, x1, y1 = detections.boxes.T
    keys = (y1, x1, y0, x0, detections.labels, -detections.scores)  # the last is the first key
    return np.lexsort(keys)


def non_max_suppression(
    detections: Detections, iou_threshold: float, nested_threshold: float = 1.0
) -> Detections:
    """The detections, best first, that no better one of the same label suppresses.

    Greedy: from best to worst, each that is kept suppresses those after it whose IoU with it is
    above `iou_threshold`, or of which (or of it, if it is the smaller) more than
    `nested_threshold` is shared; 1 turns either rule off. Memory does not grow with pairs.
    """
    if not (0 <= iou_threshold <= 1 and 0 <= nested_threshold <= 1):
        raise ValueError(f"thresholds lie in [0, 1], got {iou_threshold}, {nested_threshold}")
    ordered = detections[ranking(detections)]
    kept = np.zeros(len(ordered), dtype=bool)
    for label in np.unique(ordered.labels):
        rows = np.flatnonzero(ordered.labels == label)
        kept[rows[_survivors(ordered.boxes[rows], (iou_threshold, nested_threshold))]] = True
    return ordered[kept]


def survivors(
    boxes: boxes_.Boxes, labels: NDArray[np.int64], iou_threshold: float
) -> NDArray[np.int64]:
    """Indices, rising, of boxes ordered from best to worst that no better of their label covers."""
    kept = [
        rows[_survivors(boxes[rows], (iou_threshold, 1.0))]
        for rows in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)


def _survivors(boxes: boxes_.Boxes, thresholds: tuple[float, float]) -> NDArray[np.int64]:
    """Indices of the boxes, ordered from best to worst, that no earlier survivor suppresses."""
    survivors: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for start in range(0, len(boxes), BLOCK):
        index = np.arange(start, min(start + BLOCK, len(boxes)))
        for earlier in survivors:
            lost = _suppresses(boxes[earlier], boxes[index], thresholds).any(axis=0)
            index = index[~lost]
        block = boxes[index]
        survivors.append(index[_greedy(_suppresses(block, block, thresholds))])
    return np.concatenate(survivors)


def _greedy(suppresses: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) whether each is kept, of an (N, N) table in which row i says what i would suppress."""
    kept = np.ones(len(suppresses), dtype=bool)
    for row in range(len(suppresses)):
        if kept[row]:
            kept[row + 1 :] &= ~suppresses[row, row + 1 :]
    return kept


def _suppresses(
    better: boxes_.Boxes, worse: boxes_.Boxes, thresholds: tuple[float, float]
) -> NDArray[np.bool_]:
    """(N, M) whether a box of the first would suppress one of the second."""
    iou_threshold, nested_threshold = thresholds
    by_iou = boxes_.pairwise_iou(better, worse) > iou_threshold  # (N, M)
    if nested_threshold == 1:
        return by_iou
    shared = boxes_.pairwise_intersection(better, worse)  # (N, M)
    smaller = np.minimum(boxes_.area(better)[:, None], boxes_.area(worse)[None, :])  # (N, M)
    return by_iou | (shared > nested_threshold * smaller)
