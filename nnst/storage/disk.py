"""Files on a disk: a put is seen whole or not at all, and lasts when the machine dies.

A put is a temporary file in the same folder, fsync, replace (or link, where the name must be new),
fsync of the folder. Whatever kills it between two of these leaves a hidden file at most.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nnst.storage import paths
from nnst.storage.entries import Entry


def put(path: paths.Path, data: bytes) -> None:
    """Write the file, replacing one of this name."""
    folder = _made_folder(path)
    temporary = _write_temporary(path, folder, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(folder)


def put_new(path: paths.Path, data: bytes) -> bool:
    """Write the file; False, and nothing changed, when there is one of this name already."""
    folder = _made_folder(path)
    temporary = _write_temporary(path, folder, data)
    try:
        os.link(temporary, path)  # unlike replace, fails when the name is taken
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    _sync_folder(folder)
    return True


def put_quickly(path: paths.Path, data: bytes) -> None:
    """Like `put`, but what is written lasts only once `sync` has returned."""
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
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        _name(error, path)
        raise


@contextmanager
def writing(path: paths.Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes become the file when the block ends well, replacing one of this name."""
    folder = _made_folder(path)
    temporary = os.path.join(folder, f".put-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        _name(error, path)
        raise
    _sync_folder(folder)


def _made_folder(path: paths.Path) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    return folder


def _write_temporary(path: paths.Path, folder: str, data: bytes) -> str:
    """A complete, synced file of a hidden name in the folder; its errors name the path."""
    temporary = os.path.join(folder, f".put-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as stream:  # unlike mkstemp's, its mode follows the umask
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        _name(error, path)
        raise
    return temporary


def _name(error: BaseException, path: paths.Path) -> None:
    """Let an error of the system name the path: a full disk does not say for which file it is."""
    if isinstance(error, OSError) and error.errno:
        error.filename = str(path)


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


def remove(path: paths.Path) -> None:
    """Remove a file or a whole folder; nothing happens when there is none."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def names(folder: paths.Path) -> list[str]:
    """Names directly in a folder; none when there is no folder."""
    return os.listdir(folder) if os.path.isdir(folder) else []


def sizes(folder: paths.Path) -> dict[str, int]:
    """Bytes of each file directly in a folder, by name, hidden ones left out."""
    found: dict[str, int] = {}
    for name in names(folder):
        # One that goes between the listing and the look is not there, as a put's own file is soon.
        with suppress(FileNotFoundError):
            state = os.stat(os.path.join(folder, name))
            if stat.S_ISREG(state.st_mode) and not name.startswith("."):
                found[name] = state.st_size
    return found


def walk(folder: paths.Path) -> Iterator[Entry]:
    """Every file below a folder, in the order of the names. Links are told, not followed."""
    return _walk(os.path.abspath(folder), "")


def _walk(root: str, below: str) -> Iterator[Entry]:
    with os.scandir(os.path.join(root, below)) as listing:
        # A folder sorts as if its name ended in "/", so that names come out sorted as a whole.
        items = sorted(listing, key=lambda item: _sort_key(item))
    for item in items:
        if item.name.startswith("."):
            continue
        name = f"{below}/{item.name}" if below else item.name
        if item.is_dir(follow_symlinks=False):
            yield from _walk(root, name)
        else:
            yield _entry(item, name)


def _sort_key(item: os.DirEntry[str]) -> str:
    return item.name + "/" if item.is_dir(follow_symlinks=False) else item.name


def _entry(item: os.DirEntry[str], name: str) -> Entry:
    state = item.stat(follow_symlinks=False)
    kind = "special"
    if item.is_symlink():
        kind = "link"
    elif item.is_file(follow_symlinks=False):
        kind = "file"
    return Entry(name, item.path, state.st_size, str(state.st_mtime_ns), kind)
