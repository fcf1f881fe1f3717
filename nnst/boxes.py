"""(N, 4) boxes: xyxy, float32, half-open, in pixels, origin at the top left corner.

Every function returns new arrays; none changes its argument. N may be 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float32]


def as_boxes(values: ArrayLike) -> Boxes:
    """(N, 4) float32 boxes, a copy; an empty input of any shape becomes (0, 4).

    Raises ValueError for another shape, for values that are not finite, and for x1 < x0 or y1 < y0.
    """
    boxes = np.array(values, dtype=np.float32)
    if boxes.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {boxes.shape}")
    if not np.isfinite(boxes).all():
        raise ValueError("boxes must be finite")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError("boxes must have x0 <= x1 and y0 <= y1")
    return boxes


def size_hw(boxes: Boxes) -> Boxes:
    """(N, 2) heights and widths."""
    return np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)


def area(boxes: Boxes) -> NDArray[np.float32]:
    """(N,) areas in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def center(boxes: Boxes) -> Boxes:
    """(N, 2) centres as x, y."""
    return ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(np.float32)


def from_center(center_xy: ArrayLike, box_hw: ArrayLike) -> Boxes:
    """(N, 4) boxes around (N, 2) centres x, y with (N, 2) or (2,) sizes height, width."""
    middle = np.asarray(center_xy, dtype=np.float32).reshape(-1, 2)
    half = np.asarray(box_hw, dtype=np.float32).reshape(-1, 2)[:, ::-1] / 2  # (N, 2) as x, y
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)


def grow(boxes: Boxes, factor: float) -> Boxes:
    """(N, 4) boxes with their centres and their sides times a factor."""
    return from_center(center(boxes), size_hw(boxes) * factor)


def clip(boxes: Boxes, hw: tuple[int, int]) -> Boxes:
    """Boxes cut to a picture of size (height, width); one that lies outside gets area 0."""
    height, width = hw
    limit = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(boxes, 0, limit).astype(np.float32)


def shift(boxes: Boxes, dx: float, dy: float) -> Boxes:
    """Boxes moved by dx to the right and dy down."""
    return (boxes + np.array([dx, dy, dx, dy])).astype(np.float32)


def scale(boxes: Boxes, scale_x: float, scale_y: float) -> Boxes:
    """Boxes of a picture whose width was multiplied by `scale_x` and height by `scale_y`."""
    return (boxes * np.array([scale_x, scale_y, scale_x, scale_y])).astype(np.float32)


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> NDArray[np.float32]:
    """(N, M) areas shared by each pair."""
    corner0 = np.maximum(boxes1[:, None, :2], boxes2[None, :, :2])  # (N, M, 2)
    corner1 = np.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])  # (N, M, 2)
    side = np.clip(corner1 - corner0, 0, None)  # (N, M, 2)
    return side[..., 0] * side[..., 1]  # (N, M)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> NDArray[np.float32]:
    """(N, M) intersection over union in [0, 1]; 0 where both boxes are empty."""
    shared = pairwise_intersection(boxes1, boxes2)  # (N, M)
    union = area(boxes1)[:, None] + area(boxes2)[None, :] - shared  # (N, M)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def deltas(boxes: Boxes, targets: Boxes) -> Boxes:
    """(N, 4) what moves each box onto its target: dx, dy in sides of the box, log of dw, of dh.

    The parametrisation of R-CNN (Girshick et al., CVPR 2014). Boxes must not be empty.
    """
    size, wanted = size_hw(boxes)[:, ::-1], size_hw(targets)[:, ::-1]
    shift_xy = (center(targets) - center(boxes)) / size
    return np.concatenate([shift_xy, np.log(wanted / size)], axis=1).astype(np.float32)


def move(boxes: Boxes, by: Boxes) -> Boxes:
    """(N, 4) the boxes moved by (N, 4) deltas: `move(b, deltas(b, t))` is t."""
    size = size_hw(boxes)[:, ::-1]
    wanted = (size * np.exp(by[:, 2:]))[:, ::-1]
    return from_center(center(boxes) + by[:, :2] * size, wanted)
