"""The cascade: a scout looks at every window of every level, a judge at what the scout points at.

The judge sees a larger crop with context, decides, and moves the box onto the logo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import models, nms, pyramid, windows
from nnst.boxes import Boxes
from nnst.detector.judging import Judge, best_odds
from nnst.detector.pictures import Detector
from nnst.detector.settings import MAX_SCALE, DetectorSettings
from nnst.errors import ConfigError
from nnst.models import Model
from nnst.models.scoring import ready
from nnst.records import Detections, PyramidLevel
from nnst.stopwatch import Stopwatch

DTYPE = torch.bfloat16  # of the convolutions: twice as fast
DEFAULT_SCALE = 1.5  # of the largest level, where no smallest width is asked for
SAME_CANDIDATE = 0.5  # IoU above which the lesser is not judged
FEWEST_CANDIDATES = 8  # that may be passed on of any picture


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the scout points at in a picture."""

    boxes: Boxes  # (N, 4) in the picture, not clipped
    odds: NDArray[np.float32]  # (N,) log-odds of the scout


class Cascade(Detector):
    """Finds the objects of a cascade model in upright pixels."""

    def __init__(
        self,
        model: Model,
        settings: DetectorSettings | None = None,
        device: str = "cpu",
        stopwatch: Stopwatch | None = None,
    ) -> None:
        super().__init__(model, settings, device, stopwatch)
        self.scout_spec = model.spec.stages[0]
        self.object_hw = tuple(side / self.scout_spec.context for side in self.scout_spec.window_hw)
        self.max_scale = self._max_scale()
        self.levels_per_octave = self.settings.levels_per_octave or self.spec.levels_per_octave
        if not isinstance(model.network, models.Cascade):
            raise ValueError(f"a {model.spec.architecture} is no cascade")
        self.canvas = windows.CANVAS if device == "cpu" else windows.GPU_CANVAS
        self.scout = ready(model.network.scout, device, DTYPE)
        self.judge = Judge(model.network.judge, device, DTYPE)

    @property
    def reduction(self) -> int:
        """By how much a picture's sides may be divided: its levels are enlarged no more than ever.

        A logo of the smallest width has as many pixels as the smallest that a cascade is made for.
        """
        for reduction in (8, 4, 2):
            if self.max_scale * reduction <= DEFAULT_SCALE:
                return reduction
        return 1

    def detect_all(
        self, pictures: Sequence[NDArray[np.uint8]], enlarge: Sequence[float]
    ) -> list[Detections]:
        """The detections in each picture: proposed for all together, then judged one by one."""
        halves = [pyramid.Halves(picture) for picture in pictures]
        proposals = self.propose(halves, enlarge)
        with self.stopwatch.stage("judge"):
            return self.judged(halves, [proposed.boxes for proposed in proposals])

    def suspects(self, pixels: NDArray[np.uint8], count: int) -> Boxes:
        """What the judge takes most for an object: as the scout gave it, and as it was moved."""
        picture = pyramid.Halves(pixels)
        proposed = self.propose([picture], [1.0])[0].boxes
        logits, moved = self.judge.verdict(picture, proposed)
        best = np.argsort(-best_odds(logits), kind="stable")[: -(-count // 2)]
        boxes = np.stack([proposed[best], moved[best]], axis=1).reshape(-1, 4)
        return boxes[:count]

    def propose(
        self, pictures: Sequence[pyramid.Halves], enlarge: Sequence[float]
    ) -> list[Proposals]:
        """What the scout points at in each picture, best first."""
        with self.stopwatch.stage("pyramid"):
            levels = [
                list(self.levels(picture, factor))
                for picture, factor in zip(pictures, enlarge, strict=True)
            ]
        with self.stopwatch.stage("scout"):
            every = [level.pixels for some in levels for level in some]
            maps = iter(windows.score_maps(every, self.scout_spec, self._scout, self.canvas))
        with self.stopwatch.stage("candidates"):
            return [
                self._candidates([(level, next(maps)) for level in some], picture, factor)
                for some, picture, factor in zip(levels, pictures, enlarge, strict=True)
            ]

    def levels(self, picture: pyramid.Halves, enlarge: float) -> list[PyramidLevel]:
        """The levels that the scout looks at, each with half a window of border."""
        height, width = self.scout_spec.window_hw
        scales = pyramid.scales(
            (picture.pixels.shape[0], picture.pixels.shape[1]),
            (self.object_hw[0], self.object_hw[1]),
            levels_per_octave=self.levels_per_octave,
            max_scale=self.max_scale * enlarge,
        )
        pad_xy = width // 2, height // 2
        return list(pyramid.levels(picture, scales, pad_xy, self.scout_spec.mean))

    def judged(
        self, pictures: Sequence[pyramid.Halves], proposed: Sequence[Boxes]
    ) -> list[Detections]:
        """Of each picture's proposed boxes those that show an object, moved onto it, suppressed."""
        verdicts = self.judge.last(pictures, self.judge.first(pictures, proposed))
        return [
            self._decided(picture, logits, boxes)
            for picture, ((logits, boxes), _) in zip(pictures, verdicts, strict=True)
        ]

    def _decided(
        self, picture: pyramid.Halves, logits: NDArray[np.float32], boxes: Boxes
    ) -> Detections:
        """The detections among the boxes of a picture, with (N, K) logits."""
        scores = windows.probabilities(logits.T[:, :, None], self.spec)[:, :, 0]  # (K - 1, N)
        labels, rows = np.nonzero(scores >= self.settings.min_score)
        clipped = boxes_.clip(boxes, (picture.pixels.shape[0], picture.pixels.shape[1]))[rows]
        visible = boxes_.area(clipped) > 0
        return self._suppress(Detections(clipped, scores[labels, rows], labels + 1)[visible])

    def _scout(self, canvas: NDArray[np.uint8]) -> windows.ScoreMap:
        return windows.score_batch(self.scout, canvas[None])[0]

    def _candidates(
        self,
        scored: Sequence[tuple[PyramidLevel, windows.ScoreMap]],
        picture: pyramid.Halves,
        enlarge: float,
    ) -> Proposals:
        threshold = self.scout_spec.threshold
        least = math.log(threshold / (1 - threshold))
        boxes, odds = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        for level, logits in scored:
            here = logits[1] - logits[0]  # (h, w)
            cells = windows.peaks(here, least)
            odds.append(here[cells[:, 0], cells[:, 1]])
            boxes.append(windows.window_boxes(cells, level, self.scout_spec))
        megapixels = picture.pixels.shape[0] * picture.pixels.shape[1] * enlarge**2 / 1e6
        looked_at = megapixels * self.scored_per_pixel
        most = FEWEST_CANDIDATES + math.ceil(self.settings.candidates_per_megapixel * looked_at)
        found = Detections(
            np.concatenate(boxes), np.concatenate(odds), np.ones(sum(map(len, odds)), np.int64)
        )
        found = found[nms.ranking(found)[: 4 * most]]
        kept = nms.non_max_suppression(found, SAME_CANDIDATE)[slice(most)]
        return Proposals(kept.boxes, kept.scores)

    def _suppress(self, found: Detections) -> Detections:
        kept = nms.non_max_suppression(
            found[nms.ranking(found)[: self.settings.max_candidates]],
            self.settings.iou_threshold,
            self.settings.nested_threshold,
        )
        boxes = np.round(kept.boxes.astype(np.float64), 2).astype(np.float32)
        scores = np.round(kept.scores.astype(np.float64), 4).astype(np.float32)
        rounded = Detections(boxes, scores, kept.labels)[boxes_.area(boxes) > 0]
        return rounded[nms.ranking(rounded)[: self.settings.max_detections]]

    def _max_scale(self) -> float:
        """The scale at which the smallest object wanted is as wide as the window shows it."""
        if not self.settings.min_width:
            return DEFAULT_SCALE
        scale = self.object_hw[1] / self.settings.min_width
        if scale > MAX_SCALE:
            least = self.object_hw[1] / MAX_SCALE
            what = f"min_width {self.settings.min_width:g} is too small for this model"
            raise ConfigError(what, f"give {least:.3g} pixels or more")
        return scale
