"""Paths, local or remote (anything fsspec knows), and puts that are whole or not there at all.

A path is remote when it has a scheme (`s3://...`); all else is a local path. `disk` knows the one
kind, `store` the other and its moods, `files` which is which.
"""

from __future__ import annotations

from nnst.storage.entries import Entry
from nnst.storage.files import (
    exists,
    is_folder,
    names,
    open_stream,
    put,
    put_new,
    put_quickly,
    read,
    read_json,
    read_jsons,
    remove,
    sha256,
    size,
    sizes,
    sweep,
    sync,
    to_json,
    walk,
    writing,
)
from nnst.storage.paths import absolute, is_remote, join, lasting, safe_name
from nnst.storage.store import arrow_filesystem

__all__ = [
    "Entry",
    "absolute",
    "arrow_filesystem",
    "exists",
    "is_folder",
    "is_remote",
    "join",
    "lasting",
    "names",
    "open_stream",
    "put",
    "put_new",
    "put_quickly",
    "read",
    "read_json",
    "read_jsons",
    "remove",
    "safe_name",
    "sha256",
    "size",
    "sizes",
    "sweep",
    "sync",
    "to_json",
    "walk",
    "writing",
]
