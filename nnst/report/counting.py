"""How many pictures and detections a scan has: exact, whatever the page's budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nnst.ledger import Ledger
from nnst.records import OK

_GRID = 100  # the slider's steps from 0 to 1

Tally = Mapping[str, list[Any]]  # thresholds, and the pictures and detections that reach each


def tally(ledger: Ledger, scanned: pa.Table, *own: float) -> Tally:
    """How many pictures and detections reach each threshold that the page's slider can take,
    which are its steps and those given.

    Compared as float32, in the page too, so that a score of 0.42 reaches a threshold of 0.42.
    """
    thresholds = sorted({step / _GRID for step in range(1, _GRID + 1)} | {*own})
    detections = np.zeros(len(thresholds), dtype=np.int64)
    for part in ledger.parts("detections", ["score"]):
        detections += _count(part["score"].to_numpy(), thresholds)
    best = scanned["score"].drop_null().to_numpy()
    return {
        "thresholds": thresholds,
        "pictures": _count(best, thresholds).tolist(),
        "detections": detections.tolist(),
    }


def _count(scores: NDArray[np.float32], thresholds: Sequence[float]) -> NDArray[np.int64]:
    below = np.searchsorted(np.sort(scores), np.array(thresholds, np.float32), side="left")
    return (len(scores) - below).astype(np.int64)


def counts(scanned: pa.Table, reached: Tally, threshold: float) -> dict[str, int]:
    """Pictures of each kind, and detections, at one of the tally's thresholds."""
    at = reached["thresholds"].index(threshold)
    looked = pc.sum(pc.equal(scanned["status"], OK), min_count=0).as_py()
    found = reached["pictures"][at]
    return {
        "pictures": scanned.num_rows,
        "looked_at": looked,
        "found": found,
        "nothing_found": looked - found,
        "could_not_look": scanned.num_rows - looked,
        "detections": reached["detections"][at],
    }


def bad(scanned: pa.Table) -> dict[str, int]:
    """How many pictures could not be looked at, by reason, the most frequent first."""
    reasons = scanned.filter(pc.not_equal(scanned["status"], OK))["status"].to_pylist()
    return dict(sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0])))
