"""Pixels in, detections out: pyramid, windows, network and non-maximum suppression together."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import images, models, nms, pyramid, windows
from nnst.errors import ConfigError, InputError
from nnst.models import Model
from nnst.records import Detections, PyramidLevel

MAX_SCALE = 8.0  # of the largest level: 64 times the picture's pixels, and nothing more to see

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """How a picture is looked at. Raises ConfigError for a value that makes no sense."""

    min_width: float = 0.0  # pixels of the smallest object wanted; 0 is what the window shows
    levels_per_octave: int = 4  # objects are then at most 9 % larger or smaller than the window's
    min_score: float = 0.01
    iou_threshold: float = 0.3
    nested_threshold: float = 0.8  # share of the smaller box, see nms
    max_candidates: int = 1000  # per picture, before suppression
    max_detections: int = 300  # per picture, after it

    def __post_init__(self) -> None:
        rules = {
            "min_width must be 0 to 65,535 pixels": 0 <= self.min_width <= 65_535,
            "levels_per_octave must be 1 to 16": 1 <= self.levels_per_octave <= 16,
            "min_score must lie in [0, 1]": 0 <= self.min_score <= 1,
            "iou_threshold must lie in [0, 1]": 0 <= self.iou_threshold <= 1,
            "nested_threshold must lie in [0, 1]": 0 <= self.nested_threshold <= 1,
            "max_candidates and max_detections must be 1 or more": min(
                self.max_candidates, self.max_detections
            )
            >= 1,
        }
        for rule, holds in rules.items():
            if not holds:
                raise ConfigError(rule, "see `nnst scan --help`")


class Stopwatch:
    """Seconds spent in each stage, added up over all pictures."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items; the time that each takes to come is added to a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item


class Detector:
    """Finds the objects of a model in pictures.

    How many threads are used, and whether a GPU may round as TF32 does, is set by the caller.
    """

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
        self.object_hw = tuple(side / self.spec.context for side in self.spec.window_hw)
        self.max_scale = self._max_scale()
        network = copy.deepcopy(model.network)  # the model's own stays where and as it is
        try:
            network = network.to(device=torch.device(device))
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise InputError(f"cannot use the device {device!r} ({first})", "use cpu") from None
        # Measured: twice as fast on a CPU, as pixels come with channels last anyway.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def detect(self, pixels: NDArray[np.uint8]) -> Detections:
        """The detections in an upright (H, W, 3) RGB picture, best first.

        Boxes lie inside the picture and are rounded to 0.01 pixels, scores to 0.0001.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise ValueError(f"pixels must be (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
        parts = []
        for level in self.stopwatch.each("pyramid", self.levels(pixels)):
            with self.stopwatch.stage("network"):
                logits = windows.score_map(self.network, level.pixels)
            with self.stopwatch.stage("candidates"):
                found = windows.candidates(logits, level, self.spec, self.settings.min_score)
                parts.append(self._best(_on_picture(found, pixels.shape[:2])))
        with self.stopwatch.stage("nms"):
            return self._suppress(Detections.concatenate(parts))

    def detect_stored(self, picture: images.Picture) -> Detections:
        """The detections in a picture, seen upright, with boxes in the picture as stored."""
        header = picture.header
        found = self.detect(images.upright(picture.pixels, header.orientation))
        boxes = images.boxes_stored(found.boxes, (header.height, header.width), header.orientation)
        return Detections(boxes, found.scores, found.labels)

    def levels(self, pixels: NDArray[np.uint8]) -> Iterator[PyramidLevel]:
        """The levels that `detect` looks at, each with half a window of border.

        With that much, a window fits any picture, and one can be centred on an object at the edge.
        """
        height, width = self.spec.window_hw
        scales = pyramid.scales(
            (pixels.shape[0], pixels.shape[1]),
            (self.object_hw[0], self.object_hw[1]),
            levels_per_octave=self.settings.levels_per_octave,
            max_scale=self.max_scale,
        )
        return pyramid.levels(pixels, scales, (width // 2, height // 2), self.spec.mean)

    def _max_scale(self) -> float:
        """The scale at which the smallest object wanted is as wide as the window shows it."""
        if not self.settings.min_width:
            return 1.0
        scale = self.object_hw[1] / self.settings.min_width
        if scale > MAX_SCALE:
            least = self.object_hw[1] / MAX_SCALE
            what = f"min_width {self.settings.min_width:g} is too small for this model"
            raise ConfigError(what, f"give {least:.3g} pixels or more")
        return scale

    def _best(self, detections: Detections) -> Detections:
        return detections[nms.ranking(detections)[: self.settings.max_candidates]]

    def _suppress(self, detections: Detections) -> Detections:
        kept = nms.non_max_suppression(
            self._best(detections), self.settings.iou_threshold, self.settings.nested_threshold
        )
        # After suppression: rounded scores tie, and ties should not decide which box is kept.
        scores = np.round(kept.scores.astype(np.float64), 4)
        rounded = Detections(kept.boxes, scores.astype(np.float32), kept.labels)
        return rounded[nms.ranking(rounded)[: self.settings.max_detections]]


def _on_picture(detections: Detections, hw: tuple[int, ...]) -> Detections:
    """The detections cut to the picture and rounded, without those of which nothing is left."""
    clipped = boxes_.clip(detections.boxes, (hw[0], hw[1]))
    boxes = np.round(clipped.astype(np.float64), 2).astype(np.float32)
    visible = boxes_.area(boxes) > 0
    return Detections(boxes[visible], detections.scores[visible], detections.labels[visible])


@lru_cache(maxsize=2)
def load_detector(
    folder: str, digest: str, settings: DetectorSettings = DetectorSettings()
) -> Detector:
    """The detector of the model in a folder, kept for the next call in this process.

    On a GPU if there is one. Raises InputError when the folder holds a model of another digest.
    """
    model = models.load(folder)
    if model.digest != digest:
        raise InputError(f"the model in {folder} is not the one that was asked for", "start again")
    return Detector(model, settings, "cuda" if torch.cuda.is_available() else "cpu")
