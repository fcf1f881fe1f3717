"""From levels to score maps, and from score maps to candidates in picture pixels.

`maps` scores one level and reads its map, `canvases` scores many levels of any size in passes of
one shape.
"""

from __future__ import annotations

from nnst.windows.canvases import CANVAS_HW, score_maps
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
    "CANVAS_HW",
    "TILE_HW",
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
