"""From levels to score maps, and from score maps to candidates in picture pixels.

`maps` scores one level and reads its map, `canvases` scores many levels of any size in passes of
one shape.
"""

from __future__ import annotations

from nnst.windows.canvases import CANVAS, GPU_CANVAS, Canvas, score_maps
from nnst.windows.maps import (
    TILE_HW,
    Cells,
    ScoreMap,
    candidates,
    grid_hw,
    nearest_cells,
    peaks,
    probabilities,
    score_batch,
    score_map,
    score_windows_one_by_one,
    window_boxes,
)

__all__ = [
    "CANVAS",
    "GPU_CANVAS",
    "TILE_HW",
    "Canvas",
    "Cells",
    "ScoreMap",
    "candidates",
    "grid_hw",
    "nearest_cells",
    "peaks",
    "probabilities",
    "score_batch",
    "score_map",
    "score_maps",
    "score_windows_one_by_one",
    "window_boxes",
]
