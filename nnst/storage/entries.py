"""What a walk through a folder finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One file below a folder: its path relative to the folder (`/` between parts)."""

    name: str
    path: str
    bytes: int
    stamp: str  # changes when the file does: mtime in nanoseconds, or the store's etag
    kind: str  # "file", "link" (not followed) or "special"
