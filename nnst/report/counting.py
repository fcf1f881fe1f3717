"""How many pictures and detections a scan has: exact, whatever the page's budget."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nnst.records import OK

_GRID = 100  # the slider's steps from 0 to 1


class Tally:
    """How many pictures and detections reach each threshold that the page's slider can take,
    which are its steps and those given; and how many could not be looked at.

    Rows come part by part, so that no more than a part is ever held. Compared as float32, in the
    page too, so that a score of 0.42 reaches a threshold of 0.42.
    """

    def __init__(self, *own: float) -> None:
        self.thresholds = sorted({step / _GRID for step in range(1, _GRID + 1)} | {*own})
        self.found = np.zeros(len(self.thresholds), dtype=np.int64)  # pictures
        self.detections = np.zeros(len(self.thresholds), dtype=np.int64)
        self.statuses: Counter[str] = Counter()

    def add_images(self, part: pa.Table) -> None:
        """Count rows of `images`."""
        self.found += self._count(part["score"].drop_null().to_numpy())
        for each in pc.value_counts(part["status"]).to_pylist():
            self.statuses[each["values"]] += each["counts"]

    def add_detections(self, part: pa.Table) -> None:
        """Count rows of `detections`."""
        self.detections += self._count(part["score"].to_numpy())

    def _count(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        least = np.array(self.thresholds, np.float32)
        below = np.searchsorted(np.sort(scores), least, side="left")
        return (len(scores) - below).astype(np.int64)

    def to_dict(self) -> dict[str, list[Any]]:
        """The thresholds, and what reaches each."""
        return {
            "thresholds": self.thresholds,
            "pictures": self.found.tolist(),
            "detections": self.detections.tolist(),
        }

    def counts(self, threshold: float) -> dict[str, int]:
        """Pictures of each kind, and detections, at one of the thresholds."""
        at = self.thresholds.index(threshold)
        total, looked, found = self.statuses.total(), self.statuses[OK], int(self.found[at])
        return {
            "pictures": total,
            "looked_at": looked,
            "found": found,
            "nothing_found": looked - found,
            "could_not_look": total - looked,
            "detections": int(self.detections[at]),
        }

    def bad(self) -> dict[str, int]:
        """How many pictures could not be looked at, by reason, the most frequent first."""
        reasons = [(reason, count) for reason, count in self.statuses.items() if reason != OK]
        return dict(sorted(reasons, key=lambda item: (-item[1], item[0])))
