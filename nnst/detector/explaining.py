"""Why a detector found what it found: the windows that voted, the best of each level, and what in
the picture it was.

The last by occlusion (Zeiler and Fergus, ECCV 2014): a part of what the network sees is greyed out,
part by part; where the score falls, there lay the evidence. It asks nothing of the network but its
score, so it holds for every architecture alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import windows
from nnst.boxes import Boxes
from nnst.detector.cascade import Cascade
from nnst.detector.judging import GREY
from nnst.detector.pictures import Detector
from nnst.detector.sliding import Sliding
from nnst.detector.voting import LEAST_VOTE, Ballot, LevelScore, View
from nnst.models.scoring import Scorer
from nnst.records import Detections, ModelSpec

GRID = 10  # parts of a side that are greyed out in turn
PATCH = 2  # sides of a grey patch over those of a part: neighbours overlap
MOST_SUSPECTS = 3
MOST_VOTES = 24  # shown of a detection

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Saliency:
    """What the last network saw of a detection, and what each part of it was worth."""

    frame: Boxes  # (1, 4) what of the picture it saw: the object and its context
    seen: Pixels  # (h, w, 3) that, as the network saw it
    score: float  # of it, calibrated
    covered: NDArray[np.float32]  # (GRID, GRID) the score with that part greyed out
    fall: NDArray[np.float32]  # (GRID, GRID) by how much its log-odds fell


@dataclass(frozen=True, slots=True)
class Explained:
    """One detection, or what came nearest to one."""

    box: Boxes  # (1, 4)
    score: float
    label: int
    votes: Ballot  # best first
    levels: tuple[LevelScore, ...]  # from the smallest objects to the largest
    saliency: Saliency


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a detector found what it found in a picture. Boxes are in the pixels it was given."""

    found: Detections  # all, down to a score of 0, best first
    explained: tuple[Explained, ...]
    reached: bool  # whether these are detections, and not merely what came nearest


def explain(
    detector: Detector,
    pixels: Pixels,
    least: float,
    most: int,
    enlarge: float = 1.0,
) -> Explanation:
    """Why the `most` best detections of at least the score `least` were found in upright pixels.

    Where there is none, why the best suspects were not. The detector is one of `min_score` 0, so
    that it tells of them; `enlarge` is as in `Detector.detect_all`.
    """
    found = detector.detect_all([pixels], [enlarge])[0]
    count = int((found.scores >= np.float32(least)).sum())
    view = View(detector, pixels, enlarge)
    chosen = found[: min(count, most)] if count else _suspects(view, found, most)
    ballot = view.ballot()
    explained = [_explained(view, ballot, chosen[np.array([row])]) for row in range(len(chosen))]
    return Explanation(found, tuple(explained), count > 0)


def _suspects(view: View, found: Detections, most: int) -> Detections:
    """The best that are no detections; where no window was worth a second look, the best window."""
    if len(found):
        return found[: min(most, MOST_SUSPECTS)]
    hw = (view.picture.pixels.shape[0], view.picture.pixels.shape[1])
    box = boxes_.clip(view.nearest(), hw)
    return Detections(box, np.zeros(1, np.float32), np.ones(1, np.int64))


def _explained(view: View, ballot: Ballot, found: Detections) -> Explained:
    box, label = found.boxes, int(found.labels[0])
    votes = _votes_for(ballot, found, view.detector.settings.iou_threshold)
    # A sliding network saw its best window, which the box is when cut to the picture.
    seen = box if isinstance(view.detector, Cascade) or not len(votes) else votes.windows[:1]
    saliency = occlude(view, seen, label)
    levels = tuple(view.levels(box, label))
    score = float(found.scores[0]) or saliency.score  # suspects may come without one
    return Explained(box, score, label, votes, levels, saliency)


def _votes_for(ballot: Ballot, found: Detections, iou_threshold: float) -> Ballot:
    """The windows that ended on a detection: what suppression took for the same object."""
    same = boxes_.pairwise_iou(ballot.ends, found.boxes)[:, 0] > iou_threshold
    rows = np.flatnonzero(same & (ballot.labels == found.labels[0]) & (ballot.scores >= LEAST_VOTE))
    return ballot[rows[np.argsort(-ballot.scores[rows], kind="stable")][:MOST_VOTES]]


def occlude(view: View, box: Boxes, label: int) -> Saliency:
    """What each part of a (1, 4) box and its context is worth to the network that decides."""
    network, spec = _deciding(view.detector)
    frame = boxes_.from_center(boxes_.center(box), boxes_.size_hw(box) * spec.context)
    seen = view.picture.cut(frame[0], spec.window_hw, GREY)
    crops = np.concatenate([seen[None], _covered(seen)])  # (1 + GRID * GRID, h, w, 3)
    logits = windows.score_batch(network, crops)[:, :, 0, 0]
    odds = _log_odds(logits[:, : len(view.detector.spec.labels)], label, view.detector.spec)
    scores = 0.5 + 0.5 * np.tanh(odds / 2)
    return Saliency(
        frame,
        seen,
        float(scores[0]),
        scores[1:].reshape(GRID, GRID).astype(np.float32),
        (odds[0] - odds[1:]).reshape(GRID, GRID).astype(np.float32),
    )


def _deciding(detector: Detector) -> tuple[Scorer, ModelSpec]:
    """The network whose score is that of a detection, and the window that it has."""
    if isinstance(detector, Cascade):
        return detector.judge.network, detector.judge.spec
    if not isinstance(detector, Sliding):
        raise ValueError(f"cannot explain what a {type(detector).__name__} does")
    return detector.network, detector.spec


def _covered(seen: Pixels) -> Pixels:
    """(GRID * GRID, h, w, 3) copies, each with one part and half of those around it in grey."""
    copies = np.repeat(seen[None], GRID * GRID, axis=0)
    pitch_hw = np.array(seen.shape[:2]) / GRID
    for index, copy in enumerate(copies):
        middle = (np.array(divmod(index, GRID)) + 0.5) * pitch_hw
        top, left = np.rint(np.maximum(middle - pitch_hw * PATCH / 2, 0)).astype(int)
        bottom, right = np.rint(middle + pitch_hw * PATCH / 2).astype(int)
        copy[top:bottom, left:right] = GREY
    return copies


def _log_odds(logits: NDArray[np.float32], label: int, spec: ModelSpec) -> NDArray[np.float64]:
    """(N,) calibrated log-odds of a label: its logit against all others', never rounded to 1."""
    values = logits.astype(np.float64)  # (N, K)
    others = np.logaddexp.reduce(np.delete(values, label, axis=1), axis=1)
    slope, offset = spec.calibration
    return np.asarray(slope * (values[:, label] - others) + offset)
