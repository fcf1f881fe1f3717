"""One network laid over every level: the talk's way, each window scored by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import models, nms, pyramid, windows
from nnst.boxes import Boxes
from nnst.detector.pictures import Detector
from nnst.detector.settings import MAX_SCALE, DetectorSettings
from nnst.errors import ConfigError
from nnst.models import Model
from nnst.models.scoring import ready
from nnst.records import Detections, PyramidLevel
from nnst.stopwatch import Stopwatch


class Sliding(Detector):
    """Finds the objects of a model of one network.

    How many threads are used, and whether a GPU may round as TF32 does, is set by the caller.
    """

    def __init__(
        self,
        model: Model,
        settings: DetectorSettings | None = None,
        device: str = "cpu",
        stopwatch: Stopwatch | None = None,
    ) -> None:
        super().__init__(model, settings, device, stopwatch)
        self.object_hw = tuple(side / self.spec.context for side in self.spec.window_hw)
        self.max_scale = self._max_scale()
        self.levels_per_octave = self.settings.levels_per_octave or self.spec.levels_per_octave
        if not isinstance(model.network, models.Network):
            raise ValueError(f"a {model.spec.architecture} is more than one network")
        self.network = ready(model.network, device)

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

    def detect_all(
        self, pictures: Sequence[NDArray[np.uint8]], enlarge: Sequence[float]
    ) -> list[Detections]:
        """The detections in each picture; none was decoded at less than its size."""
        return [self.detect(picture) for picture in pictures]

    def suspects(self, pixels: NDArray[np.uint8], count: int) -> Boxes:
        """The best detections, whatever their score."""
        return self.detect(pixels).boxes[:count]

    def levels(self, pixels: NDArray[np.uint8]) -> Iterator[PyramidLevel]:
        """The levels that `detect` looks at, each with half a window of border.

        With that much, a window fits any picture, and one can be centred on an object at the edge.
        """
        height, width = self.spec.window_hw
        scales = pyramid.scales(
            (pixels.shape[0], pixels.shape[1]),
            (self.object_hw[0], self.object_hw[1]),
            levels_per_octave=self.levels_per_octave,
            max_scale=self.max_scale,
        )
        halves = pyramid.Halves(pixels)
        return pyramid.levels(halves, scales, (width // 2, height // 2), self.spec.mean)

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
