"""Fetched bytes -> what is to be said of them, and both on disk: the picture, then its row."""

from __future__ import annotations

import asyncio
import time

from nnst import images, storage
from nnst.errors import ImageError
from nnst.records import OK
from nnst.web import blobs
from nnst.web.journal import Journal, Row

_SMALL_BYTES = 512 * 1024
_HASHED_SIDE = 128  # pixels; with fewer, hashes of photographs differ in up to 12 bits, not 4
_SLOW_SECONDS = 1e-3  # of one write: to hand it to a thread takes a tenth of that
_MEMORY = 0.9  # how much the writes before count against the one that was seen last
_TRIED_EVERY = 200  # writes after which a slow disk is tried again


def look(data: bytes, decode: bool = True) -> Row:
    """What is to be said of the bytes, as columns of records.COLLECTED: a picture, or why none.

    Without decoding, a picture that is broken behind its header passes, and has no perceptual hash.
    """
    facts: Row = {"bytes": len(data)}
    try:
        header = images.check(data)
        seen = _perceptual_hash(data, header) if decode else None
    except ImageError as error:
        return facts | {"status": error.reason, "detail": error.detail}
    image_id = images.content_hash(data)
    return facts | {
        "status": OK,
        "image": blobs.name_of(image_id, header.format),
        "image_id": image_id,
        "width": header.width,
        "height": header.height,
        "perceptual_hash": seen,
    }


def _perceptual_hash(data: bytes, header: images.Header) -> str:
    """The hash as it is stored. Raises ImageError for what cannot be decoded."""
    reduction = _reduction(min(header.width, header.height))
    pixels = images.decode(data, reduction=reduction).pixels
    return f"{images.perceptual_hash(images.upright(pixels, header.orientation)):016x}"


def _reduction(side: int) -> int:
    """The strongest reduction that leaves enough of a picture for its perceptual hash."""
    return max(n for n in images.REDUCTIONS if n == 1 or side // n >= _HASHED_SIDE)


class Keeper:
    """Looks at bytes and keeps them, without holding up what else its event loop does."""

    def __init__(self, out: str, journal: Journal, decode: bool) -> None:
        self._out = out
        self._journal = journal
        self._decode = decode
        self._looking = asyncio.Lock()
        self._since: float | None = None  # when the look began that is taken now
        self._seconds = 1.0 if storage.is_remote(out) else 0.0  # that a write takes, about
        self._writes = 0

    def looks_for(self) -> float:
        """For how many seconds it has looked at one picture; 0 if it looks at none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    async def look(self, data: bytes) -> Row:
        """What `look` says. A small picture is decoded here, as to hand it on would take longer; a
        large one in a thread. Never two at a time: a guard has one child."""
        if len(data) <= _SMALL_BYTES and not self._looking.locked():
            return self._look(data)
        async with self._looking:
            return await asyncio.to_thread(self._look, data)

    def _look(self, data: bytes) -> Row:
        self._since = time.monotonic()
        try:
            return look(data, self._decode)
        finally:
            self._since = None

    async def keep(self, row: Row, data: bytes) -> None:
        """Write the picture, if it is one, and then its row.

        Here where the disk is quick, and in threads, several at a time, where it is not.
        """
        self._writes += 1
        if self._seconds < _SLOW_SECONDS or self._writes % _TRIED_EVERY == 0:
            begun = time.monotonic()
            self._keep(row, data)
            seconds = time.monotonic() - begun
            self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * seconds
        else:
            await asyncio.to_thread(self._keep, row, data)

    def _keep(self, row: Row, data: bytes) -> None:
        if data and row["status"] == OK:
            blobs.write(self._out, row["image"], data)
        self._journal.add(row)
