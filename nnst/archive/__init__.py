"""The pictures of an archive, planned into shards and streamed, never extracted.

An archive is one of: a folder of pictures; a tar file (.tar, .tar.gz, .tgz); a zip; a Parquet file
with image bytes, or with names and sizes of pictures beside it; a folder of tar or of Parquet
files; an output folder of nnst that holds pictures; or one picture. All of them local or remote.

A member is what looks like a picture by its name or its first bytes; all else is counted as
skipped. Dotfiles and archives inside archives are not opened. The order of a plan is that of the
sorted names for files, and that of the archive itself for what is packed in one.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from nnst import storage
from nnst.archive import folder, listing, members, parquet, sources, tar
from nnst.archive import zip as zip_
from nnst.archive.members import Member, Reader, Row
from nnst.errors import ImageError, InputError
from nnst.records import Failure

__all__ = ["ArchivePlan", "Member", "plan", "read_member", "stream"]

_STAGE = "archive"
_DAMAGED = (EOFError, zlib.error, pa.ArrowException)
_AWAY = (ConnectionError, TimeoutError)  # the store cannot be reached: no member's fault


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """What is to be looked at, and how many things beside it are not, by suffix or kind."""

    inputs: pa.Table  # records.INPUTS; a row with a reason cannot be used, and `stream` says so
    skipped: dict[str, int]


def plan(source: str, shard_images: int = 64) -> ArchivePlan:
    """The members of an archive in a fixed order, cut into shards of about `shard_images`.

    Shards of a gzipped tar or of a large Parquet row group are larger, as each of them reads its
    container from the start. The rest of a damaged tar is one row with the tar's name.
    Raises InputError when there is no archive, or no picture in it.
    """
    if shard_images < 1:
        raise InputError(f"shards of {shard_images} pictures", "give a number of at least 1")
    try:
        listed = listing.plan(source, shard_images) if storage.exists(source) else None
        stretches = sources.find(source) if listed is None else []
    except OSError as error:
        remedy = "check the path and its permissions"
        raise InputError(f"cannot read {source}: {error}", remedy) from None
    if listed is not None and listed[0].num_rows:
        return ArchivePlan(*listed)
    rows = [row for stretch in stretches for row in stretch.rows]
    skipped = sum((stretch.skipped for stretch in stretches), Counter[str]())
    if not rows:
        raise InputError(
            f"{source} holds no picture{_counted(skipped)}",
            "give a folder, tar, zip or Parquet file with pictures in it",
        )
    shards = members.shard_numbers(stretches, shard_images)
    table = members.to_table(members.numbered(rows, reason="duplicate"), shards)
    return ArchivePlan(table, dict(sorted(skipped.items())))


def _counted(skipped: Counter[str]) -> str:
    """The most frequent kinds of what was skipped, for a message."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common(3))
    return f" (skipped: {kinds})" if kinds else ""


def stream(source: str, inputs: pa.Table) -> Iterator[Member]:
    """One Member for each row of a plan, in the order of the rows.

    What is wrong with a member, or with the file that holds it, is its failure. Raises only when
    the store cannot be reached (ConnectionError, TimeoutError), as trying again may then help.
    Consecutive rows of one container share one opening of it.
    """
    rows = members.from_table(inputs)
    for (container, whole), group in groupby(rows, lambda row: (row.container, row.offset < 0)):
        if whole:
            read = partial(folder.read, source)
            yield from (_member(row, read) for row in group)
        else:
            path = storage.join(source, container) if container else source
            yield from _packed_members(path, group)


def read_member(source: str, inputs: pa.Table, image: str) -> bytes:
    """The bytes of one picture of a plan, by its name. Raises ImageError."""
    for member in stream(source, inputs.filter(pc.equal(inputs["image"], image))):
        if member.data is not None:
            return member.data
        assert member.failure is not None
        raise ImageError(member.failure.reason, member.failure.detail)
    raise ImageError("missing", f"{image} is not in the plan of {source}")


def _packed_members(path: str, rows: Iterable[Row]) -> Iterator[Member]:
    """The members of one container."""
    with ExitStack() as stack:
        try:
            read = _reader(stack.enter_context(storage.open_stream(path)))
        except _AWAY:
            raise
        except (OSError, *_DAMAGED) as error:
            read = partial(_fail, _as_image_error(error))
        for row in rows:
            yield _member(row, read)


def _reader(container: IO[bytes]) -> Reader:
    """The reader for what the first bytes say the container is."""
    magic = container.read(4)
    container.seek(0)
    if magic in zip_.MAGICS:
        return zip_.reader(container)
    if magic == parquet.MAGIC:
        return parquet.reader(container)
    return tar.reader(tar.inflated(container) if magic[:2] == tar.GZIP_MAGIC else container)


def _member(row: Row, read: Reader) -> Member:
    """What reading one row gives."""
    try:
        if row.reason is not None:
            raise ImageError(row.reason)
        return Member(row.image, read(row))
    except _AWAY:
        raise
    except (ImageError, OSError, *_DAMAGED) as error:
        found = _as_image_error(error)
        return Member(row.image, None, Failure(row.image, _STAGE, found.reason, found.detail))


def _fail(error: ImageError, row: Row) -> bytes:
    raise ImageError(error.reason, error.detail)


def _as_image_error(error: Exception) -> ImageError:
    """The error with a word of records.REASONS."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, FileNotFoundError):
        return ImageError("missing", "it was there when the archive was planned")
    return ImageError("unreadable" if isinstance(error, OSError) else "corrupt", str(error))
