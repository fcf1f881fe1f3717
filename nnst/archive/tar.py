"""Members of a tar file, plain or gzipped (WebDataset shards), read by offset, never extracted."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from functools import partial
from typing import IO, cast

from nnst.archive import members, tar_headers
from nnst.archive.members import Place, Reader, Row, Stretch
from nnst.archive.tar_headers import BLOCK, Header
from nnst.errors import ImageError

SUFFIXES = (".tar", ".tgz", ".tar.gz")
GZIP_MAGIC = b"\x1f\x8b"

_FREE_INFLATION = 1 << 30  # bytes; a tar of tiny files may well be packed beyond MAX_RATIO
_BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


def is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes of a file are a tar header, or the end mark of an empty tar."""
    if len(head) < BLOCK:
        return False
    try:
        return not any(head[:BLOCK]) or bool(tar_headers.parse(head[:BLOCK]))
    except ImageError:
        return False


def find(stream: IO[bytes], place: Place) -> Stretch:
    """The pictures of a tar file, found by its headers alone, in the order of the archive.

    What is listed before a damaged place stands; the damage comes with it.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    stream.seek(0)
    stretch = Stretch(sequential=packed)
    try:
        if packed:
            limit = max(_FREE_INFLATION, size * members.MAX_RATIO)
            overrun = ImageError("too_compressed", f"inflates beyond {members.MAX_RATIO}:1")
            _add_members(stretch, inflated(stream), place, (limit, overrun))
        else:
            overrun = ImageError("truncated", "the file ends inside a member")
            _add_members(stretch, stream, place, (size, overrun))
    except ImageError as error:
        stretch.damage = error
    except _BROKEN_GZIP as error:
        stretch.damage = ImageError("corrupt", f"the gzip stream is damaged: {error}")
    return stretch


def _add_members(
    stretch: Stretch, stream: IO[bytes], place: Place, limit: tuple[int, ImageError]
) -> None:
    """Put the members into the stretch. Raises ImageError at a damaged place."""
    for header in tar_headers.read(stream):
        if header.kind != tarfile.DIRTYPE:
            name, unsafe = members.packed_name(header.name)
            reason = header.reason or unsafe
            row = Row(
                place.prefix + name,
                place.container,
                header.offset,
                header.bytes,
                header.stamp,
                reason,
            )
            stretch.add(row, None if header.reason else partial(_head, stream, header))
        if header.end > limit[0]:
            raise limit[1]


def _head(stream: IO[bytes], header: Header) -> bytes:
    stream.seek(header.offset)
    return stream.read(min(members.HEAD_BYTES, header.bytes))


def inflated(stream: IO[bytes]) -> IO[bytes]:
    """What a gzip stream holds, to be read forward: each step back begins anew."""
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream, mode="rb"))


def reader(stream: IO[bytes]) -> Reader:
    """Reads members of an open, inflated tar; forward where their offsets grow."""
    return partial(_read, stream)


def _read(stream: IO[bytes], row: Row) -> bytes:
    """The member's data, once its header proves that it is still the one that was planned."""
    stream.seek(row.offset - BLOCK)
    header = stream.read(BLOCK)
    if tar_headers.stamp(header) != row.stamp:
        raise ImageError("unreadable", "the tar file has changed since it was planned")
    data = stream.read(row.bytes)
    if len(data) < row.bytes:
        raise ImageError("truncated", f"{len(data)} of {row.bytes} bytes are there")
    return data
