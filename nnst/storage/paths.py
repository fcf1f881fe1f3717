"""Paths as text: local ones, and those of a store, which have a scheme (`s3://...`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from nnst.errors import InputError

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")

Path = str | os.PathLike[str]

_passing = ""  # why the current folder will not last; empty where it will


def is_remote(path: Path) -> bool:
    """Whether the path has a scheme, as `s3://bucket/key` has."""
    return "://" in str(path)


def absolute(path: Path) -> str:
    """The path as it holds in every working directory; remote ones come back as they are.

    Raises InputError for a relative one where the current folder does not last.
    """
    if is_remote(path):
        return str(path)
    expanded = os.path.expanduser(path)
    if _passing and not os.path.isabs(expanded):
        remedy = "give a path in full that every node reaches, or one of a store, as s3://..."
        raise InputError(f"{path} is a relative path, and {_passing}", remedy)
    return os.path.abspath(expanded)


@contextmanager
def lasting(passing: str) -> Iterator[None]:
    """Inside, relative paths are refused for this reason; for none, they are not."""
    global _passing
    before, _passing = _passing, passing
    try:
        yield
    finally:
        _passing = before


def join(folder: Path, *parts: str) -> str:
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
