"""How carefully a shard is done, which its work may ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from workflows.fanout.retries import Cause

_FIRST_MEMORY = 2 * 2**30  # for a shard whose worker was ended for want of memory


@dataclass(frozen=True, slots=True)
class Care:
    """How carefully a shard is done. None of it changes a row but that of a fatal picture."""

    stall: float = 600.0  # seconds without a new picture after which the worker ends itself
    decode: float = 30.0  # seconds for one picture behind a guard
    guarded: bool = False  # whether pictures are decoded in a child process
    memory: int = 0  # bytes that the scheduler keeps for it
    split: int = 1  # by how much its batches are smaller than usual
    decoders: int = 1  # threads that decode ahead of the one that scores

    def after(self, cause: Cause) -> Care:
        """How the shard is done again when this was its end."""
        if cause == Cause.MEMORY:
            more = max(_FIRST_MEMORY, 2 * self.memory)
            return replace(self, memory=more, split=2 * self.split, decoders=1)
        if cause == Cause.CRASH:  # a guard is for one thread
            return replace(self, guarded=True, decoders=1)
        return self


_taken = Care()


def current() -> Care:
    """The care of the shard that this process does now."""
    return _taken


@contextmanager
def taken(care: Care) -> Iterator[None]:
    """Inside, a shard is done with this care."""
    global _taken
    before, _taken = _taken, care
    try:
        yield
    finally:
        _taken = before
