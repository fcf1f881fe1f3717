"""Files of a store (anything fsspec knows): a put is one request, which every store makes atomic.

A store fails now and then, and now and then says that it failed and has done it. So each request is
tried several times, with pauses that grow and differ from driver to driver, and none of them minds
having been done before. What fails to the end is a ConnectionError: the store's fault, and never
that of the file.
"""

from __future__ import annotations

import errno
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from nnst.errors import InputError
from nnst.storage.entries import Entry
from nnst.storage.paths import Path

Result = TypeVar("Result")

_BUFFER = 1 << 20  # of a stream; a request costs as much as some hundred kilobytes
_ANSWERS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    io.UnsupportedOperation,
)
_FINAL = {errno.EINVAL, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG}
_BUSY = {408, 425, 429}  # of HTTP; with 500 and above, what may be over in a while


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is tried, and how long the pause after the first failure is."""

    tries: int = 5
    pause: float = 0.5  # seconds, doubled each time, times 0.5 to 1.5


PATIENCE = Patience()
_JITTER = random.SystemRandom()  # the module's own numbers may be somebody's seeded ones


def _patiently(path: Path, request: Callable[[], Result]) -> Result:
    """What the request gives, once the store gives it. Raises ConnectionError when it does not."""
    for turn in range(PATIENCE.tries):
        if turn:
            time.sleep(PATIENCE.pause * 2 ** (turn - 1) * _JITTER.uniform(0.5, 1.5))
        try:
            return request()
        except Exception as error:
            if not is_passing(error):
                raise
            last = error
    tried = f"tried {PATIENCE.tries} times"
    raise ConnectionError(f"the store does not answer for {path} ({tried}): {last}") from last


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, OSError):
        return not isinstance(error, _ANSWERS) and error.errno not in _FINAL
    # Errors of HTTP libraries that are no OSError have a number instead.
    status = getattr(error, "status", getattr(error, "code", None))
    return isinstance(status, int) and (status in _BUSY or status >= 500)


def _opened(path: Path) -> tuple[Any, str]:
    """The store and the path inside it."""
    try:
        store, inner = cast("tuple[Any, str]", fsspec.core.url_to_fs(str(path)))
    except (ImportError, ValueError) as error:
        raise InputError(f"cannot open {path}: {error}", "install what that store needs") from error
    if isinstance(store, LocalFileSystem):  # its put is neither atomic nor synced
        raise InputError(f"{path} is a local path", "write it without the scheme")
    return store, inner


def exists(path: Path) -> bool:
    """Whether there is a file or folder of this name."""
    store, inner = _opened(path)
    return _patiently(path, lambda: bool(store.exists(inner)))


def is_folder(path: Path) -> bool:
    """Whether anything lies below the path."""
    store, inner = _opened(path)
    return _patiently(path, lambda: bool(store.isdir(inner)))


def size(path: Path) -> int:
    """Bytes of a file. Raises FileNotFoundError."""
    store, inner = _opened(path)
    return _patiently(path, lambda: int(store.size(inner)))


def read(path: Path, limit: int | None = None) -> bytes:
    """The file's bytes, at most `limit` of them. One request: a stream would ask for the size."""
    store, inner = _opened(path)
    if limit is None:
        return _patiently(path, lambda: bytes(store.cat_file(inner)))
    if limit == 0:
        return b""
    try:
        return _patiently(path, lambda: bytes(store.cat_file(inner, start=0, end=limit)))
    except OSError as error:
        if error.errno == errno.EINVAL and size(path) == 0:  # S3 has no first byte to give
            return b""
        raise


def open_stream(path: Path) -> IO[bytes]:
    """A readable, seekable stream of the file's bytes."""
    store, inner = _opened(path)
    raw = _Stream(path, _patiently(path, lambda: store.open(inner, "rb")))
    return io.BufferedReader(raw, _BUFFER)


class _Stream(io.RawIOBase):
    """A store's stream whose reads are tried again where they fail."""

    def __init__(self, path: Path, inner: IO[bytes]) -> None:
        self._path = path
        self._inner = inner
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = self._inner.seek(offset, whence)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._next(-1)

    def _next(self, count: int) -> bytes:
        def request() -> bytes:
            self._inner.seek(self._at)  # where the last try began
            return self._inner.read(count)

        data = _patiently(self._path, request)
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def put(path: Path, data: bytes) -> None:
    """Write the file, replacing one of this name."""
    store, inner = _opened(path)
    _patiently(path, lambda: store.pipe_file(inner, data))


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes become the file when the block ends well; until then a local file."""
    store, inner = _opened(path)
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "written")
        with open(local, "wb") as stream:
            yield stream
        _patiently(path, lambda: store.put_file(local, inner))


def put_new(path: Path, data: bytes) -> bool:
    """Write the file; False, and nothing changed, when there is one of this name already."""
    store, inner = _opened(path)
    tries = 0

    def request() -> bool:
        nonlocal tries
        tries += 1
        try:
            store.pipe_file(inner, data, mode="create")
        except FileExistsError:
            # It may be what an earlier try has written, of which the store said that it failed.
            return tries > 1 and read(path) == data
        return True

    return _patiently(path, request)


def remove(path: Path) -> None:
    """Remove a file or all that lies below the path; nothing happens when there is nothing."""
    store, inner = _opened(path)

    def request() -> None:
        if store.exists(inner):
            store.rm(inner, recursive=True)

    with suppress(FileNotFoundError):  # somebody else, or an earlier try, was faster
        _patiently(path, request)


def names(folder: Path) -> list[str]:
    """Names directly in a folder; none when there is no folder."""
    return [name for name, _ in _listed(folder)]


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file directly in a folder, by name; none when there is no folder."""
    found = _listed(folder)
    return {name: int(info["size"]) for name, info in found if info["type"] == "file"}


def _listed(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    store, inner = _opened(folder)
    try:
        listed = _patiently(folder, lambda: store.ls(inner, detail=True, refresh=True))
    except FileNotFoundError:
        return []
    # A file, and in some stores a folder, is listed as itself.
    found = [(str(info["name"]).rstrip("/"), info) for info in listed]
    return [(path.rsplit("/", 1)[-1], info) for path, info in found if path != inner.rstrip("/")]


def walk(folder: Path) -> Iterator[Entry]:
    """Every file below a folder, in the order of the names."""
    store, inner = _opened(folder)
    root = inner.rstrip("/") + "/"
    scheme = str(folder).split("://", 1)[0]
    found = _patiently(folder, lambda: store.find(inner, detail=True))
    for path, info in sorted(found.items()):
        name = path[len(root) :]
        if not name or any(part.startswith(".") for part in name.split("/")):
            continue
        keys = ("ETag", "etag", "mtime", "created")  # each store has one name for it
        stamp = str(next((info[key] for key in keys if info.get(key)), ""))
        yield Entry(name, f"{scheme}://{path.lstrip('/')}", int(info["size"]), stamp, "file")


def arrow_filesystem(path: Path) -> tuple[Any, str]:
    """The store as Arrow has it, and the path inside it: for a library that writes by itself."""
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    store, inner = _opened(path)
    return PyFileSystem(FSSpecHandler(store)), inner
