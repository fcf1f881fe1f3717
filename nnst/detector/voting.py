"""Which windows were behind a detection, and what they scored: a detector's work, shown.

The same levels, networks and suppression as when the detector looks; only nothing is thrown away.
N windows, K classes (background first).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import pyramid, windows
from nnst.boxes import Boxes
from nnst.detector.cascade import Cascade
from nnst.detector.judging import OTHER_SIZES, at_sizes, hints
from nnst.detector.pictures import Detector
from nnst.detector.sliding import Sliding
from nnst.records import ModelSpec, PyramidLevel

LEAST_VOTE = 0.01  # a window that scores less has no vote
MOST_POINTED = 1000  # of the scout's candidates, the best

Scored = tuple[PyramidLevel, windows.ScoreMap]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ballot:
    """The windows of a picture that stood out; a row for each label of each."""

    windows: Boxes  # (N, 4) objects as the windows show them, in the picture, not clipped
    ends: Boxes  # (N, 4) where the judge moved them; a sliding network moves none
    widths: Floats  # (N,) of the window's object in the picture: its size of level
    scouts: Floats  # (N,) probability by the scout, not calibrated; nan without a scout
    scores: Floats  # (N,) calibrated
    labels: NDArray[np.int64]  # (N,)
    counted: NDArray[np.bool_]  # (N,) False where a better window beside it was looked at instead

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[Any]) -> Ballot:
        """The rows that a mask or an index array picks, in its order."""
        names = ("windows", "ends", "widths", "scouts", "scores", "labels", "counted")
        return Ballot(*(getattr(self, name)[index] for name in names))


@dataclass(frozen=True, slots=True)
class LevelScore:
    """The best that windows of one level, centred on a detection, score."""

    width: float  # of the object that a window of this level shows, in picture pixels
    scout: float | None  # probability, not calibrated; None without a scout
    score: float  # calibrated; of a cascade the judge's first verdict on the scout's best window


class View:
    """One picture as a detector sees it: every level scored once, asked about many detections."""

    def __init__(self, detector: Detector, pixels: NDArray[np.uint8], enlarge: float) -> None:
        self.detector = detector
        self.picture = pyramid.Halves(pixels)
        self.enlarge = enlarge
        self.scored = list(_scored(detector, self.picture, enlarge))

    def ballot(self) -> Ballot:
        """Every window that had a say, in no promised order."""
        if isinstance(self.detector, Cascade):
            return _judged(self.detector, self.picture, self.scored, self.enlarge)
        return _peaks(_sliding(self.detector), self.scored)

    def nearest(self) -> Boxes:
        """(1, 4) the window that comes nearest to an object, whatever its score."""
        spec = windows_spec(self.detector)
        odds = [logits[1:].max(axis=0) - logits[0] for _, logits in self.scored]  # (h, w) each
        level = int(np.argmax([here.max() for here in odds]))
        cell = np.array(np.unravel_index(odds[level].argmax(), odds[level].shape))
        return windows.window_boxes(cell[None], self.scored[level][0], spec)

    def levels(self, box: Boxes, label: int) -> list[LevelScore]:
        """The best of each level on a (1, 4) box, from the smallest objects to the largest."""
        spec = windows_spec(self.detector)
        best = [_best_cell(scored, spec, box, label) for scored in self.scored]
        cells = np.array([cell for cell, _ in best])  # (levels, 2)
        shown = np.concatenate(
            [
                windows.window_boxes(cell[None], level, spec)
                for cell, (level, _) in zip(cells, self.scored, strict=True)
            ]
        )
        widths = boxes_.size_hw(shown)[:, 1].tolist()
        own = [value for _, value in best]
        if not isinstance(self.detector, Cascade):
            return [LevelScore(w, None, value) for w, value in zip(widths, own, strict=True)]
        logits, _ = self.detector.judge.verdict(self.picture, shown)
        judged = _probability(logits, self.detector.spec)[label - 1].tolist()
        return [LevelScore(*each) for each in zip(widths, own, judged, strict=True)]


def windows_spec(detector: Detector) -> ModelSpec:
    """The spec of the network that looks at whole levels."""
    return detector.scout_spec if isinstance(detector, Cascade) else detector.spec


def _sliding(detector: Detector) -> Sliding:
    if not isinstance(detector, Sliding):
        raise ValueError(f"cannot explain what a {type(detector).__name__} does")
    return detector


def _scored(detector: Detector, picture: pyramid.Halves, enlarge: float) -> list[Scored]:
    """Every level, and its score map."""
    if not isinstance(detector, Cascade):
        network = _sliding(detector).network
        levels = list(_sliding(detector).levels(picture.pixels))
        return [(level, windows.score_map(network, level.pixels)) for level in levels]
    levels = detector.levels(picture, enlarge)
    pixels = [level.pixels for level in levels]
    maps = windows.score_maps(
        pixels,
        detector.scout_spec,
        lambda canvas: windows.score_batch(detector.scout, canvas[None])[0],
        detector.canvas,
    )
    return list(zip(levels, maps, strict=True))


def _judged(
    detector: Cascade, picture: pyramid.Halves, scored: list[Scored], enlarge: float
) -> Ballot:
    """All that the scout pointed at: the mean of all verdicts, or the first where it was enough."""
    pointed, odds = _pointed(detector.scout_spec, scored)
    proposed = {box.tobytes() for box in detector.propose([picture], [enlarge])[0].boxes}
    counted = np.array([box.tobytes() in proposed for box in pointed], bool)
    rows = np.flatnonzero(hints(detector.judge.verdict(picture, pointed)[0]))
    at_all_sizes = np.concatenate([np.arange(len(pointed)), *[rows] * len(OTHER_SIZES)])
    pointed = np.concatenate([pointed, at_sizes(pointed[rows], OTHER_SIZES)])
    odds, counted = odds[at_all_sizes], counted[at_all_sizes]
    logits, ends = detector.judge.verdict(picture, pointed)
    again = np.flatnonzero(counted)
    ((last, rows),) = detector.judge.last([picture], [(logits[again], ends[again])])
    looked_at = again[rows]
    logits[looked_at], ends[looked_at] = last
    scores = _probability(logits, detector.spec)  # (K - 1, N)
    labels, rows = np.nonzero(scores >= 0)  # every one
    return Ballot(
        pointed[rows],
        ends[rows],
        boxes_.size_hw(pointed)[rows, 1],
        _sigmoid(odds)[rows],
        scores[labels, rows],
        labels + 1,
        np.isin(np.arange(len(pointed)), looked_at)[rows],
    )


def _pointed(scout_spec: ModelSpec, scored: list[Scored]) -> tuple[Boxes, Floats]:
    """(N, 4) the scout's candidates of all levels, the best `MOST_POINTED`, and its log-odds."""
    least = math.log(scout_spec.threshold / (1 - scout_spec.threshold))
    boxes, odds = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    for level, logits in scored:
        here = logits[1] - logits[0]  # (h, w)
        cells = windows.peaks(here, least)
        boxes.append(windows.window_boxes(cells, level, scout_spec))
        odds.append(here[cells[:, 0], cells[:, 1]])
    every = np.concatenate(odds)
    best = np.argsort(-every, kind="stable")[:MOST_POINTED]
    return np.concatenate(boxes)[best], every[best]


def _peaks(detector: Sliding, scored: list[Scored]) -> Ballot:
    """The windows that score more than their neighbours."""
    found = [
        windows.candidates(logits, level, detector.spec, LEAST_VOTE) for level, logits in scored
    ]
    boxes = np.concatenate([each.boxes for each in found])
    return Ballot(
        boxes,
        boxes,
        boxes_.size_hw(boxes)[:, 1],
        np.full(len(boxes), np.nan, np.float32),
        np.concatenate([each.scores for each in found]),
        np.concatenate([each.labels for each in found]),
        np.ones(len(boxes), bool),
    )


def _best_cell(
    scored: Scored, spec: ModelSpec, box: Boxes, label: int
) -> tuple[NDArray[np.int64], float]:
    """The best cell (2,) of a level among those centred in the box's middle half, and its score.

    Where the level's grid has none there, the cell nearest to the box's centre.
    """
    level, logits = scored
    is_scout = logits.shape[0] == 2
    values = windows.probabilities(logits, spec)[0 if is_scout else label - 1]  # (h, w)
    center, size = boxes_.center(box)[0], boxes_.size_hw(box)[0]
    inside = []
    for axis in (0, 1):  # rows, columns
        corner = np.arange(values.shape[axis]) * spec.stride - level.pad_xy[1 - axis]
        at = (corner + spec.window_hw[axis] / 2) / level.scale_xy[1 - axis]
        inside.append(np.flatnonzero(abs(at - center[1 - axis]) <= size[axis] / 4))
    cell = windows.nearest_cells(box, level, spec)[0]
    if len(inside[0]) and len(inside[1]):
        part = values[np.ix_(*inside)]
        row, column = np.unravel_index(part.argmax(), part.shape)
        cell = np.array([inside[0][row], inside[1][column]])
    return cell, float(values[cell[0], cell[1]])


def _probability(logits: Floats, spec: ModelSpec) -> Floats:
    """(K - 1, N) calibrated probabilities of (N, K) logits."""
    return windows.probabilities(logits.T[:, :, None].astype(np.float32), spec)[:, :, 0]


def _sigmoid(odds: Floats) -> Floats:
    return (0.5 + 0.5 * np.tanh(odds.astype(np.float64) / 2)).astype(np.float32)
