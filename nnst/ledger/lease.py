"""The lease of an output folder: it says which driver is at work there.

Nothing depends on it but time: two drivers would write the same bytes under the same names. It only
keeps the second from doing what the first does already.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnst import storage
from nnst.errors import InputError, JobBusy

NAME = "lease.json"
BEAT_SECONDS = 15.0
STALE_SECONDS = 60.0  # without a beat, or ahead of our clock: its driver is gone


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """How long a lease holds."""

    beat: float = BEAT_SECONDS
    stale: float = STALE_SECONDS
    take_over: bool = False  # whether to work on although another driver holds it


@contextmanager
def held(out: str, settings: LeaseSettings | None = None) -> Iterator[None]:
    """Inside, the folder is leased to this driver. Raises JobBusy where another one has it."""
    settings = settings or LeaseSettings()
    path, owner = storage.join(out, NAME), secrets.token_hex(16)
    _acquire(path, owner, settings)
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, owner, over, settings.beat), daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        if _owner(path) == owner:
            storage.remove(path)


def check_free(out: str, settings: LeaseSettings | None = None) -> None:
    """Raise JobBusy where another driver is at work on the folder."""
    settings = settings or LeaseSettings()
    found = _read(storage.join(out, NAME))
    if found is not None and not settings.take_over and _is_alive(found, settings.stale):
        raise _busy(out, found)


def holder(out: str) -> str:
    """Who is at work on the folder, as people write it; "" where nobody is."""
    found = _read(storage.join(out, NAME))
    if found is None or not _is_alive(found, STALE_SECONDS):
        return ""
    return f"process {found['pid']} on {found['host'][:80]}"


def _acquire(path: str, owner: str, settings: LeaseSettings) -> None:
    if storage.put_new(path, _document(owner)):
        return
    check_free(path.removesuffix(NAME).rstrip("/"), settings)
    storage.put(path, _document(owner))


def _beat(path: str, owner: str, over: threading.Event, seconds: float) -> None:
    while not over.wait(seconds):
        # A store that is away for a while, or another driver that was told to take over.
        with suppress(OSError, InputError):
            if _owner(path) == owner:
                storage.put(path, _document(owner))


def _document(owner: str) -> bytes:
    return storage.to_json(
        {
            "owner": owner,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "beat": time.time(),
        }
    )


def _read(path: str) -> dict[str, Any] | None:
    """The lease in a file; None where there is none, or one that says nothing."""
    try:
        found = storage.read_json(path)
    except (OSError, InputError):
        return None
    kinds = {"owner": str, "host": str, "pid": int, "started": str, "beat": float}
    if not isinstance(found, dict):
        return None
    whole = all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if whole else None


def _owner(path: str) -> str | None:
    found = _read(path)
    return found["owner"] if found else None


def _is_alive(lease: dict[str, Any], stale: float) -> bool:
    """Whether its driver is still there: on this host the kernel knows, else its last beat."""
    if lease["host"] == socket.gethostname() and lease["started"]:
        return _start_of(lease["pid"]) == lease["started"]
    return abs(time.time() - lease["beat"]) < stale


def _start_of(pid: int) -> str:
    """When a process of this host started, in the kernel's ticks; "" for one that is not there.

    Process numbers come round again, this time does not. Where there is no /proc, always "".
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()  # the name before may hold anything
    return "" if fields[0] in "ZX" else fields[19]


def _busy(out: str, lease: dict[str, Any]) -> JobBusy:
    what = f"{out} is being worked on by process {lease['pid']} on {lease['host'][:80]}"
    return JobBusy(what, "wait for it, or take over with --set fanout.take_over=true")
