"""Verdicts on some detections -> precision and recall of all of them, with 95 % intervals.

The estimator is a stratified one: in each stratum (`order`) what was looked at is a sample drawn by
lot. Of its other detections as many are taken to be right as the sample says, together with one
more that believes the model's mean score there; nothing looked at means what the model claims.

The interval is made of draws: of each stratum's share, by a beta distribution of its verdicts and
a prior, and of the number that are right among those not looked at. It reaches over the intervals
of two priors, each with the weight of one verdict: Jeffreys' (Brown, Cai and DasGupta 2001), which
knows nothing, and one that believes the model's mean score. The first alone sees too many logos
among many low scores, the second too few where a model is too sure. A stratum that was looked at as
a whole leaves nothing to guess. A skipped detection counts as not looked at.

Recall is the share of logos that the scan has a box for at all: of others no detection can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnst.evaluation import Estimate
from nnst.review.order import Order

DRAWS = 2000
PERCENTILES = (2.5, 97.5)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """At the model's threshold; nan where there is nothing to be right or wrong about."""

    precision: Estimate
    recall: Estimate
    looked_at: int
    right: int
    wrong: int  # no logo there
    misplaced: int  # a logo, and the box is wrong: neither found nor right
    skipped: int


def figures(order: Order, scores: NDArray[np.float32], verdicts: Mapping[int, str]) -> Figures:
    """What the verdicts, by row of the scan's table, say of the whole scan."""
    said = list(verdicts.values())
    judged = np.array([row for row, each in verdicts.items() if each != "skip"], np.int64)
    right = np.array([verdicts[int(row)] == "yes" for row in judged], bool)
    strata = int(order.stratum.max(initial=-1)) + 1
    size = np.bincount(order.stratum, minlength=strata).astype(np.float64)
    looked = np.bincount(order.stratum[judged], minlength=strata).astype(np.float64)
    found = np.bincount(order.stratum[judged[right]], minlength=strata).astype(np.float64)
    claimed = np.bincount(order.stratum, weights=scores, minlength=strata) / np.maximum(size, 1)
    above = np.zeros(strata, bool)
    above[order.stratum[order.above]] = True
    best = found + (size - looked) * (found + claimed) / (looked + 1)  # (S,)
    drawn = [_drawn(size, looked, found, prior) for prior in (np.full(strata, 0.5), claimed)]
    kept = [each[:, above].sum(axis=1) for each in drawn]  # two of (D,)
    shown = [np.full(DRAWS, size[above].sum())] * 2
    every = [each.sum(axis=1) for each in drawn]
    return Figures(
        precision=_estimate(best[above].sum(), size[above].sum(), kept, shown),
        recall=_estimate(best[above].sum(), best.sum(), kept, every),
        looked_at=len(said),
        right=said.count("yes"),
        wrong=said.count("no"),
        misplaced=said.count("wrong_box"),
        skipped=said.count("skip"),
    )


def _drawn(size: Floats, looked: Floats, found: Floats, prior: Floats) -> Floats:
    """(D, S) numbers of right detections in each stratum, as they may be; `prior` is the share that
    a stratum's verdicts are added to as one more."""
    rng = np.random.default_rng(0)  # the same verdicts give the same interval
    prior = np.clip(prior, 1e-3, 1 - 1e-3)
    share = rng.beta(found + prior, looked - found + 1 - prior, (DRAWS, len(size)))
    rest = rng.binomial((size - looked).astype(np.int64), share)
    return np.asarray(found + rest, np.float64)


def _estimate(
    part: float, whole: float, parts: Sequence[Floats], wholes: Sequence[Floats]
) -> Estimate:
    """The share; its interval reaches over those of all draws, and holds it."""
    if whole <= 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    value = float(part / whole)
    ends = [value]
    for drawn, total in zip(parts, wholes, strict=True):
        shares = np.divide(drawn, total, out=np.full(len(drawn), value), where=total > 0)
        ends += np.percentile(shares, PERCENTILES).tolist()
    return Estimate(value, min(ends), max(ends))
