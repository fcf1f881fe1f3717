"""Files by their path, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any

from nnst.errors import InputError
from nnst.storage import disk, store
from nnst.storage.entries import Entry
from nnst.storage.paths import Path, is_remote

_AT_ONCE = 16  # requests to a store, each of which is nearly all waiting
_SWEEPS, _PAUSE_S = 20, 0.25  # tries to remove what is being written yet


def exists(path: Path) -> bool:
    """Whether there is a file or folder of this name."""
    return store.exists(path) if is_remote(path) else os.path.exists(path)


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; in a store, whether anything lies below it."""
    return store.is_folder(path) if is_remote(path) else os.path.isdir(path)


def size(path: Path) -> int:
    """Bytes of a file. Raises FileNotFoundError."""
    return store.size(path) if is_remote(path) else os.path.getsize(path)


def open_stream(path: Path) -> IO[bytes]:
    """A readable, seekable stream of the file's bytes. Raises FileNotFoundError, OSError."""
    return store.open_stream(path) if is_remote(path) else open(path, "rb")


def read(path: Path, limit: int | None = None) -> bytes:
    """The file's bytes, at most `limit` of them. Raises FileNotFoundError, OSError."""
    if is_remote(path):
        return store.read(path, limit)
    with open(path, "rb") as stream:
        return stream.read() if limit is None else stream.read(limit)


def read_json(path: Path) -> Any:
    """The JSON document in a file of ours. Raises InputError when it is not one."""
    try:
        return json.loads(read(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", "remove it and run again") from None


def read_jsons(paths: Sequence[Path]) -> list[Any]:
    """The JSON documents in these files, in order; several at once where a store holds them."""
    if not paths or not is_remote(paths[0]):
        return [read_json(path) for path in paths]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read_json, paths))


def to_json(document: Mapping[str, Any]) -> bytes:
    """The document as JSON bytes that depend on its content only: sorted keys, fixed spacing."""
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def put(path: Path, data: bytes) -> None:
    """Write the file so that it is seen whole or not at all, and lasts when the machine dies."""
    if is_remote(path):
        store.put(path, data)
    else:
        disk.put(path, data)


def put_quickly(path: Path, data: bytes) -> None:
    """Like `put`, but what is written lasts only once `sync` has returned: for many small files,
    as each sync takes longer than to fetch a picture."""
    if is_remote(path):
        store.put(path, data)
    else:
        disk.put_quickly(path, data)


def sync() -> None:
    """Make all that this machine has written so far last when it dies."""
    os.sync()


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A stream for what is too large to be `put` from memory: seen whole or not at all."""
    with (store if is_remote(path) else disk).writing(path) as stream:
        yield stream


def put_new(path: Path, data: bytes) -> bool:
    """Like `put`, but False, and nothing changed, when there is a file of this name already."""
    return store.put_new(path, data) if is_remote(path) else disk.put_new(path, data)


def remove(path: Path) -> None:
    """Remove a file or a whole folder; nothing happens when there is none."""
    if is_remote(path):
        store.remove(path)
    else:
        disk.remove(path)


def sweep(path: Path) -> None:
    """Like `remove`, for what nobody needs any more.

    A process on its way out may write there yet. It is waited for a little; then the rest stays.
    """
    for _ in range(_SWEEPS):
        with suppress(OSError):
            remove(path)
            return
        time.sleep(_PAUSE_S)


def names(folder: Path) -> list[str]:
    """Names directly in a folder, hidden ones left out, sorted; none when there is no folder.

    Hidden are also the files that a `put` was writing when its process was killed.
    """
    found = store.names(folder) if is_remote(folder) else disk.names(folder)
    return sorted(name for name in found if not name.startswith("."))


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file directly in a folder, by name, hidden ones left out."""
    found = store.sizes(folder) if is_remote(folder) else disk.sizes(folder)
    return {name: size for name, size in sorted(found.items()) if not name.startswith(".")}


def walk(folder: Path) -> Iterator[Entry]:
    """Every file below a folder, hidden ones left out, in the order of their names.

    Links are reported, not followed. Remote entries are always files.
    """
    return store.walk(folder) if is_remote(folder) else disk.walk(folder)


def sha256(data: bytes) -> str:
    """The SHA-256 of the bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()
