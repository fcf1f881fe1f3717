"""A detector over pictures -> hard negatives: what it takes for a logo, and is none.

Sung and Poggio, PAMI 1998, called it bootstrapping: the network is shown where it is wrong.
"""

from __future__ import annotations

import math

import numpy as np

from nnst import boxes as boxes_
from nnst import crops, images
from nnst.crops import CropSettings
from nnst.detector import Detector
from nnst.images import Picture
from nnst.records import Annotation, Crop, ModelSpec

LOGO_IOU = 0.25  # with a box of the truth: above it a suspect may be the logo


def hard_negatives(
    detector: Detector,
    picture: Picture,
    truth: Annotation,
    count: int,
    settings: CropSettings,
) -> list[Crop]:
    """The best suspects of a picture, `count` at most, that no box of its truth explains.

    Boxes whose label is one of `settings.negative_label` explain nothing: they are no logo.
    """
    orientation = picture.header.orientation
    stored_hw = picture.pixels.shape[0], picture.pixels.shape[1]
    upright = images.upright(picture.pixels, orientation)
    suspects = detector.suspects(upright, count)
    negative = np.array([label in settings.negative_label for label in truth.labels], bool)
    known = truth.boxes[~negative | truth.ignore]
    known = images.boxes_upright(known, stored_hw, orientation)
    if len(known):
        suspects = suspects[boxes_.pairwise_iou(suspects, known).max(axis=1) < LOGO_IOU]
    return crops.cut_boxes(
        picture.pixels,
        orientation,
        suspects,
        truth.image_id,
        crop_window(detector.spec),
        settings,
        known,
    )


def crop_window(spec: ModelSpec) -> tuple[int, int]:
    """(height, width) at which crops for a model are cut: its window's aspect, the usual area."""
    aspect = spec.window_hw[1] / spec.window_hw[0]
    area = crops.WINDOW_AREA
    return round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
