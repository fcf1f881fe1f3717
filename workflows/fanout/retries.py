"""Why an attempt at a shard ended, and how many more the shard has. Knows Ray's errors by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum


class Cause(StrEnum):
    """What ended an attempt."""

    NODE = "node lost"  # or an object that lay on it: the shard is not at fault
    CRASH = "worker crashed"  # a fault of native code, a stall, or somebody's kill
    MEMORY = "out of memory"
    RAISED = "raised"  # our own exception: it would be raised again


RETRIES: Mapping[Cause, int] = {Cause.NODE: 10, Cause.CRASH: 3, Cause.MEMORY: 2, Cause.RAISED: 0}

_CAUSES = {
    "NodeDiedError": Cause.NODE,
    "LocalRayletDiedError": Cause.NODE,
    "ObjectLostError": Cause.NODE,  # OwnerDiedError, and whatever else is lost, is one
    "RuntimeEnvSetupError": Cause.NODE,  # ours are variables alone, which a whole node can set
    "WorkerCrashedError": Cause.CRASH,
    "RayActorError": Cause.CRASH,
    "OutOfMemoryError": Cause.MEMORY,  # Ray's, whose monitor ended the worker, and torch's
    "MemoryError": Cause.MEMORY,  # Python's and numpy's
}


def cause_of(error: BaseException) -> Cause:
    """What ended the attempt that gave this error."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((_CAUSES[name] for name in names if name in _CAUSES), Cause.RAISED)


class Retries:
    """The retries that shards have had, by cause."""

    def __init__(self) -> None:
        self._had: Counter[tuple[int, Cause]] = Counter()

    def grant(self, shard: int, cause: Cause) -> bool:
        """Whether the shard may be tried once more after this end of it; counts it."""
        if self._had[shard, cause] >= RETRIES[cause]:
            return False
        self._had[shard, cause] += 1
        return True
