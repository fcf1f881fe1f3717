"""Pictures and truth -> crops with provenance; near-duplicate groups; a split that does not leak.

`annotated` plans the pictures that truth files list, `cutting` cuts one picture, `groups` splits,
`tables` is the crop set on disk.
"""

from __future__ import annotations

from nnst.crops.annotated import AnnotatedPictures, plan
from nnst.crops.cutting import (
    GREY,
    WINDOW_AREA,
    CropSettings,
    background_boxes,
    canonical_windows,
    cut,
    cut_boxes,
    cut_crops,
    default_window,
    picture_to_look_at,
)
from nnst.crops.groups import (
    NEAR_DUPLICATE_BITS,
    near_duplicate_groups,
    side_of,
    split_beside,
    split_groups,
)
from nnst.crops.tables import crop_row, picture_row, read_crops, read_sides, read_truth, to_tables

__all__ = [
    "GREY",
    "NEAR_DUPLICATE_BITS",
    "WINDOW_AREA",
    "AnnotatedPictures",
    "CropSettings",
    "background_boxes",
    "canonical_windows",
    "crop_row",
    "cut",
    "cut_boxes",
    "cut_crops",
    "default_window",
    "near_duplicate_groups",
    "picture_row",
    "picture_to_look_at",
    "plan",
    "read_crops",
    "read_sides",
    "read_truth",
    "side_of",
    "split_beside",
    "split_groups",
    "to_tables",
]
