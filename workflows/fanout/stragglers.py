"""When a shard takes so long that a second attempt may be done before the first."""

from __future__ import annotations

import math
from bisect import insort

_SHARE_DONE = 0.75  # of all, before which nobody knows what is long
_TIMES = 3.0  # as long as nearly all others took
_NEARLY_ALL = 0.95


class Stragglers:
    """How long the shards done so far took, and what is long in view of that."""

    def __init__(self, total: int, least: float) -> None:
        self._total = total
        self._least = least  # seconds
        self._seconds: list[float] = []  # in order

    def finished(self, seconds: float) -> None:
        """Count a shard that is done."""
        insort(self._seconds, seconds)

    def limit(self) -> float:
        """Seconds after which a shard that runs gets a twin; infinite while too few are done."""
        done = len(self._seconds)
        if done == 0 or done < _SHARE_DONE * self._total:
            return math.inf
        return max(_TIMES * self._seconds[math.ceil(_NEARLY_ALL * done) - 1], self._least)
