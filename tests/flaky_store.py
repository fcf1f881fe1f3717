"""A store in memory, `flaky://`, that fails now and then, and now and then says so and has not.

`faults` decides, by a seed of its own, about every request: a listing, the opening of a file, each
read from it, a put, a removal.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

FAULTS: tuple[Callable[[], Exception], ...] = (
    lambda: OSError(errno.EIO, "input/output error"),
    lambda: TimeoutError("no answer in time"),
    lambda: ConnectionResetError("reset by peer"),
    lambda: TooManyRequests("slow down"),
)


class TooManyRequests(Exception):
    """What HTTP libraries raise: no OSError, but a status."""

    status = 503


class Faults:
    """How often requests fail before and after they are done, and how often they did."""

    def __init__(self, before: float = 0.0, after: float = 0.0, seed: int = 0) -> None:
        self.before, self.after = before, after
        self.rng = random.Random(seed)
        self.requests = self.failed = self.lied = 0
        self._inside = False

    def apply(self, request: Callable[..., Any], *words: Any, **named: Any) -> Any:
        """The request's answer, or a fault. What a request asks of the store itself has none."""
        if self._inside:
            return request(*words, **named)
        self._inside = True
        try:
            return self._faulty(request, *words, **named)
        finally:
            self._inside = False

    def _faulty(self, request: Callable[..., Any], *words: Any, **named: Any) -> Any:
        self.requests += 1
        if self.rng.random() < self.before:
            self.failed += 1
            raise self.rng.choice(FAULTS)()
        answer = request(*words, **named)
        if self.rng.random() < self.after:
            self.lied += 1
            raise self.rng.choice(FAULTS)()
        return answer


class FlakyStore(MemoryFileSystem):
    """The store."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    faults = Faults()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("flaky://", "memory://", 1))

    def exists(self, path: str, **named: Any) -> bool:
        return bool(self.faults.apply(super().exists, path))

    def isdir(self, path: str) -> bool:
        return bool(self.faults.apply(super().isdir, path))

    def size(self, path: str) -> int:
        return int(self.faults.apply(super().size, path))

    def ls(self, path: str, detail: bool = True, **named: Any) -> Any:
        return self.faults.apply(super().ls, path, detail=detail)

    def find(self, path: str, **named: Any) -> Any:
        return self.faults.apply(super().find, path, **named)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        self.faults.apply(super().rm, path, recursive=recursive)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **named: Any) -> None:
        # Not through `open`, whose faults are those of readers.
        self.faults.apply(super()._open, path, "xb" if mode == "create" else "wb", data=value)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **named: Any) -> bytes:
        return bytes(self.faults.apply(super().cat_file, path, start=start, end=end))

    def open(self, path: str, mode: str = "rb", **named: Any) -> Any:
        return FlakyStream(self.faults, self.faults.apply(super().open, path, mode, **named))


class FlakyStream:
    """A stream of the store, of which every read is a request."""

    def __init__(self, faults: Faults, inner: Any) -> None:
        self._faults, self._inner = faults, inner

    def read(self, count: int = -1) -> bytes:
        return bytes(self._faults.apply(self._inner.read, count))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._inner.seek(offset, whence))

    def close(self) -> None:
        """Memory has nothing to close."""

    def __enter__(self) -> FlakyStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def faults(before: float, after: float, seed: int = 0) -> Iterator[Faults]:
    """Inside, so large a share of the store's requests fail."""
    fsspec.register_implementation("flaky", FlakyStore, clobber=True)
    FlakyStore.faults = Faults(before, after, seed)
    try:
        yield FlakyStore.faults
    finally:
        FlakyStore.faults = Faults()
