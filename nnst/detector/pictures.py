"""What every detector is: pictures as they are stored in, detections in their pixels out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import images
from nnst.boxes import Boxes
from nnst.detector.settings import DetectorSettings
from nnst.images import Picture
from nnst.models import Model
from nnst.records import Detections
from nnst.stopwatch import Stopwatch

AT_ONCE = 4_000_000  # decoded pixels that are looked at together, or a single larger picture
AT_ONCE_GPU = 32_000_000  # a GPU stands idle between passes: few large ones keep it at work

Item = TypeVar("Item")


class Detector(ABC):
    """Finds the objects of a model in pictures."""

    def __init__(
        self,
        model: Model,
        settings: DetectorSettings | None = None,
        device: str = "cpu",
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.spec = model.spec
        self.settings = settings or DetectorSettings()
        self.stopwatch = stopwatch or Stopwatch()
        self.at_once = AT_ONCE if device == "cpu" else AT_ONCE_GPU

    object_hw: tuple[float, ...]  # of the object that a window shows, in level pixels
    max_scale: float  # of the largest level, against the picture as stored
    levels_per_octave: int
    at_once: int  # decoded pixels that are best given to `detect_pictures` together

    @property
    def smallest_width(self) -> float:
        """The width in pixels of the smallest object that is looked for."""
        return self.object_hw[1] / self.max_scale

    @property
    def scored_per_pixel(self) -> float:
        """How many pixels of all levels are scored for one of the picture: what a scan costs."""
        return float(self.max_scale**2 / (1 - 4 ** (-1 / self.levels_per_octave)))

    @property
    def reduction(self) -> int:
        """By how much the sides of a picture may be divided while it is decoded: 1, 2, 4 or 8."""
        return 1

    @abstractmethod
    def detect_all(
        self, pictures: Sequence[NDArray[np.uint8]], enlarge: Sequence[float]
    ) -> list[Detections]:
        """The detections in upright (H, W, 3) RGB pictures, best first, in their own pixels.

        `enlarge` says how many times larger each picture is as stored.
        """

    @abstractmethod
    def suspects(self, pixels: NDArray[np.uint8], count: int) -> Boxes:
        """(N, 4) what looks most like an object in upright pixels, best first, `count` at most."""

    def detect_stored(self, picture: Picture) -> Detections:
        """The detections in a picture, seen upright, with boxes in the picture as stored."""
        return self.detect_pictures([picture])[0]

    def detect_pictures(self, pictures: Sequence[Picture]) -> list[Detections]:
        """As `detect_stored`, of several pictures at once: faster where they are small."""
        upright = [images.upright(p.pixels, p.header.orientation) for p in pictures]
        enlarge = [picture.header.width / picture.pixels.shape[1] for picture in pictures]
        found = self.detect_all(upright, enlarge)
        return [_as_stored(each, picture) for each, picture in zip(found, pictures, strict=True)]


def _as_stored(found: Detections, picture: Picture) -> Detections:
    """The detections of the decoded, upright picture in pixels of the stored one, to 0.01."""
    header, decoded_hw = picture.header, picture.pixels.shape[:2]
    boxes = images.boxes_stored(found.boxes, (decoded_hw[0], decoded_hw[1]), header.orientation)
    if decoded_hw != (header.height, header.width):
        scale_xy = header.width / decoded_hw[1], header.height / decoded_hw[0]
        boxes = np.round(boxes_.scale(boxes, *scale_xy).astype(np.float64), 2).astype(np.float32)
    return Detections(boxes, found.scores, found.labels)


def batches(
    items: Iterable[tuple[Item, Picture | None]], at_once: int
) -> Iterator[list[tuple[Item, Picture | None]]]:
    """Items in their order, in groups whose pictures are looked at together; None has no pixels.

    A group has `at_once` pixels at most, or one larger picture.
    """
    group: list[tuple[Item, Picture | None]] = []
    pixels = 0
    for item, picture in items:
        size = picture.pixels.shape[0] * picture.pixels.shape[1] if picture else 0
        if group and pixels + size > at_once:
            yield group
            group, pixels = [], 0
        group.append((item, picture))
        pixels += size
    if group:
        yield group
