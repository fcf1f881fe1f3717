"""Paths, local or remote (anything fsspec knows), and puts that are whole or not there at all.

A path is remote when it has a scheme (`s3://...`); all else is a local path.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from nnst.errors import InputError

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file below a folder: its path relative to the folder (`/` between parts)."""

    name: str
    path: str
    bytes: int
    stamp: str  # changes when the file does: mtime in nanoseconds, or the store's etag
    kind: str  # "file", "link" (not followed) or "special"


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether the path has a scheme, as `s3://bucket/key` has."""
    return "://" in str(path)


def absolute(path: str | os.PathLike[str]) -> str:
    """The path as it holds in every working directory; remote ones come back as they are."""
    return str(path) if is_remote(path) else os.path.abspath(os.path.expanduser(path))


def join(folder: str | os.PathLike[str], *parts: str) -> str:
    """A path below a folder; `parts` are our own names, never names from outside."""
    if is_remote(folder):
        return "/".join([str(folder).rstrip("/"), *parts])
    return os.path.join(folder, *parts)


def safe_name(text: str, limit: int = 80) -> str:
    """A file name made from any text: letters, digits, dot, underscore and hyphen; never hidden.

    Two texts may give one name: it is for people to read. Identity comes from hashes.
    """
    name = "".join(char if char in _NAME_CHARACTERS else "_" for char in text)
    return name.lstrip(".-")[:limit] or "_"


def _remote(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The store and the path inside it."""
    try:
        store, inner = cast("tuple[Any, str]", fsspec.core.url_to_fs(str(path)))
    except (ImportError, ValueError) as error:
        raise InputError(f"cannot open {path}: {error}", "install what that store needs") from error
    if isinstance(store, LocalFileSystem):  # its put is neither atomic nor synced
        raise InputError(f"{path} is a local path", "write it without the scheme")
    return store, inner


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or folder of this name."""
    if is_remote(path):
        store, inner = _remote(path)
        return bool(store.exists(inner))
    return os.path.exists(path)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether the path is a folder; in a store, whether anything lies below it."""
    if is_remote(path):
        store, inner = _remote(path)
        return bool(store.isdir(inner))
    return os.path.isdir(path)


def size(path: str | os.PathLike[str]) -> int:
    """Bytes of a file. Raises FileNotFoundError."""
    if is_remote(path):
        store, inner = _remote(path)
        return int(store.size(inner))
    return os.path.getsize(path)


def open_stream(path: str | os.PathLike[str]) -> IO[bytes]:
    """A readable, seekable stream of the file's bytes. Raises FileNotFoundError, OSError."""
    if is_remote(path):
        store, inner = _remote(path)
        return cast("IO[bytes]", store.open(inner, "rb"))
    return open(path, "rb")


def read(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """The file's bytes, at most `limit` of them. Raises FileNotFoundError, OSError."""
    with open_stream(path) as stream:
        return stream.read() if limit is None else stream.read(limit)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The JSON document in a file of ours. Raises InputError when it is not one."""
    try:
        return json.loads(read(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", "remove it and run again") from None


def to_json(document: Mapping[str, Any]) -> bytes:
    """The document as JSON bytes that depend on its content only: sorted keys, fixed spacing."""
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def put(path: str | os.PathLike[str], data: bytes) -> None:
    """Write the file so that it is seen whole or not at all, and lasts when the machine dies.

    Local: a temporary file in the same folder, fsync, replace, fsync of the folder. Remote: one
    put, which every object store makes atomic.
    """
    if is_remote(path):
        store, inner = _remote(path)
        store.pipe_file(inner, data)
        return
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = _write_temporary(folder, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(folder)


def put_new(path: str | os.PathLike[str], data: bytes) -> bool:
    """Like `put`, but False, and nothing changed, when there is a file of this name already."""
    if is_remote(path):
        store, inner = _remote(path)
        try:
            with store.open(inner, "xb") as stream:
                stream.write(data)
        except FileExistsError:
            return False
        return True
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = _write_temporary(folder, data)
    try:
        os.link(temporary, path)  # unlike replace, fails when the name is taken
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    _sync_folder(folder)
    return True


def put_quickly(path: str | os.PathLike[str], data: bytes) -> None:
    """Like `put`, but what is written lasts only once `sync` has returned: for many small files,
    as each sync takes longer than to fetch a picture."""
    if is_remote(path):
        put(path, data)
        return
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".put-{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(handle, "wb", buffering=0) as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync() -> None:
    """Make all that this machine has written so far last when it dies."""
    os.sync()


def _write_temporary(folder: str, data: bytes) -> str:
    """A complete, synced file of a hidden name in the folder."""
    temporary = os.path.join(folder, f".put-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as stream:  # unlike mkstemp's, its mode follows the umask
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: str) -> None:
    """Make a new name in a folder last; a no-op where folders cannot be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file or a whole folder; nothing happens when there is none."""
    if is_remote(path):
        store, inner = _remote(path)
        if store.exists(inner):
            store.rm(inner, recursive=True)
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def names(folder: str | os.PathLike[str]) -> list[str]:
    """Names directly in a folder, hidden ones left out, sorted; none when there is no folder.

    Hidden are also the files that a `put` was writing when its process was killed.
    """
    if is_remote(folder):
        found = _names_remote(str(folder))
    else:
        found = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name for name in found if not name.startswith("."))


def _names_remote(folder: str) -> list[str]:
    store, inner = _remote(folder)
    try:
        listed = store.ls(inner, detail=False, refresh=True)
    except FileNotFoundError:
        return []
    paths = [str(path).rstrip("/") for path in listed]
    # A file, and in some stores a folder, is listed as itself.
    return [path.rsplit("/", 1)[-1] for path in paths if path != inner.rstrip("/")]


def walk(folder: str | os.PathLike[str]) -> Iterator[Entry]:
    """Every file below a folder, hidden ones left out, in the order of their names.

    Links are reported, not followed. Remote entries are always files.
    """
    if is_remote(folder):
        yield from _walk_remote(str(folder))
    else:
        yield from _walk_local(os.path.abspath(folder), "")


def _walk_remote(folder: str) -> Iterator[Entry]:
    store, inner = _remote(folder)
    root = inner.rstrip("/") + "/"
    scheme = folder.split("://", 1)[0]
    for path, info in sorted(store.find(inner, detail=True).items()):
        name = path[len(root) :]
        if not name or any(part.startswith(".") for part in name.split("/")):
            continue
        keys = ("ETag", "etag", "mtime", "created")  # each store has one name for it
        stamp = str(next((info[key] for key in keys if info.get(key)), ""))
        yield Entry(name, f"{scheme}://{path.lstrip('/')}", int(info["size"]), stamp, "file")


def _walk_local(root: str, below: str) -> Iterator[Entry]:
    with os.scandir(os.path.join(root, below)) as listing:
        # A folder sorts as if its name ended in "/", so that names come out sorted as a whole.
        items = sorted(listing, key=lambda item: _sort_key(item))
    for item in items:
        if item.name.startswith("."):
            continue
        name = f"{below}/{item.name}" if below else item.name
        if item.is_dir(follow_symlinks=False):
            yield from _walk_local(root, name)
        else:
            yield _local_entry(item, name)


def _sort_key(item: os.DirEntry[str]) -> str:
    return item.name + "/" if item.is_dir(follow_symlinks=False) else item.name


def _local_entry(item: os.DirEntry[str], name: str) -> Entry:
    state = item.stat(follow_symlinks=False)
    kind = "special"
    if item.is_symlink():
        kind = "link"
    elif item.is_file(follow_symlinks=False):
        kind = "file"
    return Entry(name, item.path, state.st_size, str(state.st_mtime_ns), kind)


def sha256(data: bytes) -> str:
    """The SHA-256 of the bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()
