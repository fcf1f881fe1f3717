"""From a level to its score map, and from the score map to candidates in picture pixels.

Cell (row, column) of a score map is the window whose top left corner is the level pixel
(column * stride, row * stride). K classes (background first), h w cells, H W level pixels, N boxes.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.models.networks import Network
from nnst.models.scoring import Scorer
from nnst.records import Detections, ModelSpec, PyramidLevel

ScoreMap = NDArray[np.float32]  # (K, h, w) logits
Cells = NDArray[np.int64]  # (N, 2) rows and columns

# Measured on `lenet`: what lies between the layers of such a tile stays in a core's own cache,
# and scoring takes half the time that one pass over two megapixels takes.
TILE_HW = (256, 1024)  # level pixels


def grid_hw(level_hw: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """Rows and columns of windows that lie in a level of this size; (0, 0) if none does."""
    spare = [side - window for side, window in zip(level_hw, spec.window_hw, strict=True)]
    if min(spare) < 0:
        return 0, 0
    return spare[0] // spec.stride + 1, spare[1] // spec.stride + 1


def score_map(
    network: Network | Scorer, level_pixels: NDArray[np.uint8], tile_hw: tuple[int, int] = TILE_HW
) -> ScoreMap:
    """(K, h, w) logits of every window of (H, W, 3) pixels, in one pass over tiles of the level.

    Memory is bounded by the tile, not by the level; the tile's size does not change the scores.
    """
    spec = network.spec
    logits = np.empty((len(spec.labels), *grid_hw(level_pixels.shape[:2], spec)), np.float32)
    for rows, columns in tiles(logits.shape[1:], tile_hw, spec):
        tile = level_pixels[span(rows, spec, 0), span(columns, spec, 1)]
        logits[:, rows, columns] = score_batch(network, tile[None])[0]
    return logits


def score_windows_one_by_one(
    network: Network | Scorer, level_pixels: NDArray[np.uint8], batch: int = 256
) -> ScoreMap:
    """The same as `score_map`, each window cut out and scored by itself: slow, and plain to see."""
    spec = network.spec
    height, width = grid_hw(level_pixels.shape[:2], spec)
    if not height:
        return np.empty((len(spec.labels), 0, 0), np.float32)
    every = np.lib.stride_tricks.sliding_window_view(level_pixels, spec.window_hw, axis=(0, 1))
    windows = every[:: spec.stride, :: spec.stride]  # (h, w, 3, wh, ww), a view
    parts = []
    for start in range(0, height * width, batch):
        index = np.arange(start, min(start + batch, height * width))
        cut = windows[index // width, index % width]  # (B, 3, wh, ww)
        parts.append(score_batch(network, cut.transpose(0, 2, 3, 1))[:, :, 0, 0])  # (B, K)
    return np.concatenate(parts).T.reshape(-1, height, width)


def window_boxes(cells: Cells, level: PyramidLevel, spec: ModelSpec) -> boxes_.Boxes:
    """(N, 4) boxes, in picture pixels, of the objects that the windows of these cells would show.

    An object is the window's middle, smaller than the window by `spec.context`. Not clipped.
    """
    corner_xy = cells[:, ::-1] * spec.stride - np.array(level.pad_xy)  # (N, 2)
    center_xy = corner_xy + np.array(spec.window_hw[::-1]) / 2
    object_hw = np.array(spec.window_hw) / spec.context
    scale_xy = np.array(level.scale_xy)
    return boxes_.from_center(center_xy / scale_xy, object_hw / scale_xy[::-1])


def nearest_cells(boxes: boxes_.Boxes, level: PyramidLevel, spec: ModelSpec) -> Cells:
    """(N, 2) cells of the windows whose centres are nearest to those of boxes in the picture.

    A cell's centre is at most half a stride away, per axis and in level pixels, unless the box
    lies beyond the last window of the level.
    """
    center_xy = boxes_.center(boxes).astype(np.float64) * level.scale_xy + level.pad_xy  # (N, 2)
    corner_hw = center_xy[:, ::-1] - np.array(spec.window_hw) / 2
    last = np.array(grid_hw(level.pixels.shape[:2], spec)) - 1
    if last.min() < 0:
        raise ValueError(f"no window of {spec.window_hw} fits a level {level.pixels.shape[:2]}")
    return np.clip(np.rint(corner_hw / spec.stride), 0, last).astype(np.int64)


def candidates(
    logits: ScoreMap,
    level: PyramidLevel,
    spec: ModelSpec,
    min_score: float,
    *,
    peaks_only: bool = True,
) -> Detections:
    """The windows of a score map that score at least `min_score`, in no promised order.

    With `peaks_only` a window must also score no less than its up to eight neighbours of the same
    class: the others overlap it so much that non-maximum suppression would drop them.
    """
    scores = probabilities(logits, spec)  # (K - 1, h, w)
    kept = scores >= min_score
    if peaks_only:
        kept &= np.stack([score >= _neighbourhood_max(score) for score in scores])
    labels, rows, columns = np.nonzero(kept)  # (N,) each
    cells = np.stack([rows, columns], axis=1)
    return Detections(window_boxes(cells, level, spec), scores[kept], labels + 1)


def peaks(odds: NDArray[np.float32], least: float) -> Cells:
    """(N, 2) rows and columns of the cells of an (h, w) map that no neighbour exceeds."""
    if not odds.size:
        return np.zeros((0, 2), np.int64)
    return np.argwhere((odds >= least) & (odds >= _neighbourhood_max(odds)))


def probabilities(logits: ScoreMap, spec: ModelSpec) -> ScoreMap:
    """(K - 1, h, w) calibrated probability of each class but background: it against the rest.

    The log-odds of class k under softmax are its logit less the log-sum-exp of all others'.
    """
    values = logits.astype(np.float64)  # (K, h, w)
    nothing = np.full((1, *values.shape[1:]), -np.inf)
    below = np.logaddexp.accumulate(values, axis=0)[:-1]  # [k - 1]: of the classes before k
    above = np.logaddexp.accumulate(values[:1:-1], axis=0)[::-1]  # [k - 1]: of those after k
    log_odds = values[1:] - np.logaddexp(below, np.concatenate([above, nothing]))
    slope, offset = spec.calibration
    # As tanh, the sigmoid cannot overflow.
    return (0.5 + 0.5 * np.tanh((slope * log_odds + offset) / 2)).astype(np.float32)


def _neighbourhood_max(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) greatest value among a cell and its neighbours."""
    return np.asarray(cv2.dilate(values, np.ones((3, 3), np.uint8))) if values.size else values


def tiles(
    cells_hw: tuple[int, ...], tile_hw: tuple[int, int], spec: ModelSpec
) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the cells of each tile, together all of them."""
    steps = [
        max(1, (tile - window) // spec.stride + 1)
        for tile, window in zip(tile_hw, spec.window_hw, strict=True)
    ]
    for row in range(0, cells_hw[0], steps[0]):
        for column in range(0, cells_hw[1], steps[1]):
            yield (
                slice(row, min(row + steps[0], cells_hw[0])),
                slice(column, min(column + steps[1], cells_hw[1])),
            )


def span(cells: slice, spec: ModelSpec, axis: int) -> slice:
    """The level pixels that the windows of these cells cover along an axis."""
    start, stop = cells.start * spec.stride, (cells.stop - 1) * spec.stride
    return slice(start, stop + spec.window_hw[axis])


def score_batch(network: Network | Scorer, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, K, h, w) outputs for (B, H, W, 3) pixels; computed where the network is."""
    device = network.device if isinstance(network, Scorer) else network.mean.device
    values = torch.tensor(pixels, device=device)  # a copy
    with torch.inference_mode():
        logits = network(values.permute(0, 3, 1, 2))  # channels stay last in memory
    return np.asarray(logits.float().cpu().numpy())
