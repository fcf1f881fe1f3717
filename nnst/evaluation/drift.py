"""Whether what a model finds today looks like what it found before: scores and sizes.

Two samples part when the Kolmogorov-Smirnov statistic, the largest distance between their
distribution functions, is more than chance explains (a level of 0.001) and at least LEAST_DISTANCE.
With fewer than FEWEST detections in either, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnst import boxes as boxes_
from nnst.boxes import Boxes
from nnst.evaluation.results import JudgedPicture

FEWEST = 20  # detections in each of the two
LEAST_DISTANCE = 0.25  # a smaller one, however certain, is no reason to look
CRITICAL = math.sqrt(-math.log(0.001 / 2) / 2)  # of the statistic times sqrt(n m / (n + m))
MOST_KEPT = 400  # values of a distribution; of more, as many quantiles

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distribution:
    """The scores and sizes of detections, all of them or as quantiles, in rising order."""

    count: int
    scores: tuple[float, ...]
    sides: tuple[float, ...]  # roots of the boxes' areas, in pixels of the stored picture

    @classmethod
    def of(cls, scores: ArrayLike, boxes: Boxes) -> Distribution:
        """Of detections with these scores (N,) and boxes (N, 4)."""
        sides = np.sqrt(boxes_.area(boxes).astype(np.float64))
        values = np.asarray(scores, dtype=np.float64)
        return cls(len(values), _kept(values, 4), _kept(sides, 2))

    @classmethod
    def read(cls, document: Any) -> Distribution | None:
        """What `to_dict` wrote; None for anything else."""
        try:
            lists = (tuple(map(float, document[name])) for name in ("scores", "sides"))
            return cls(int(document["count"]), *lists)
        except (KeyError, TypeError, ValueError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON knows it."""
        return asdict(self)


def _kept(values: Floats, digits: int) -> tuple[float, ...]:
    ordered = np.sort(values)
    if len(ordered) > MOST_KEPT:
        ordered = np.quantile(ordered, np.linspace(0, 1, MOST_KEPT))
    return tuple(round(float(value), digits) for value in ordered)


def of_pictures(pictures: list[JudgedPicture], threshold: float) -> Distribution:
    """Of the detections that reach the threshold, be they true or not: a scan knows no truth."""
    kept = [picture.scores >= np.float32(threshold) for picture in pictures]
    pairs = list(zip(pictures, kept, strict=True))
    scores = [picture.scores[mine] for picture, mine in pairs]
    boxes = [picture.boxes[mine] for picture, mine in pairs]
    none = np.zeros((0, 4), np.float32)
    return Distribution.of(np.concatenate([none[:, 0], *scores]), np.concatenate([none, *boxes]))


@dataclass(frozen=True, slots=True)
class Parting:
    """How far the distributions of one quantity are apart, and how far they may be."""

    distance: float  # from 0 to 1
    limit: float
    now: float  # medians
    before: float

    @property
    def parted(self) -> bool:
        """Whether that is more than chance, and enough to matter."""
        return self.distance > self.limit


def part(now: Distribution, before: Distribution) -> Mapping[str, Parting]:
    """Scores and sizes against those of before; empty where detections are too few to say."""
    if min(now.count, before.count) < FEWEST:
        return {}
    chance = CRITICAL * math.sqrt((now.count + before.count) / (now.count * before.count))
    limit = max(chance, LEAST_DISTANCE)
    return {
        name: Parting(
            round(distance(getattr(now, name), getattr(before, name)), 4),
            round(limit, 4),
            float(np.median(getattr(now, name))),
            float(np.median(getattr(before, name))),
        )
        for name in ("scores", "sides")
    }


def distance(one: ArrayLike, other: ArrayLike) -> float:
    """The Kolmogorov-Smirnov statistic of two samples, neither of them empty."""
    first, second = (np.sort(np.asarray(each, dtype=np.float64)) for each in (one, other))
    every = np.concatenate([first, second])
    reached = [np.searchsorted(each, every, side="right") / len(each) for each in (first, second)]
    return float(np.abs(reached[0] - reached[1]).max())
