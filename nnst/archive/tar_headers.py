"""The headers of a tar file, one after the other.

The standard library's tarfile reads headers of any claimed length into memory, ends quietly at a
damaged header and, before Python 3.11.14, walks in circles on a negative size. So the walk from
header to header is here, and only the 512 bytes of one header are left to `TarInfo.frombuf`.
Formats: ustar, GNU and pax (POSIX.1-2001), and the old one without a magic.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from nnst.errors import ImageError

BLOCK = tarfile.BLOCKSIZE

_EXTENSIONS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE,
               tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)  # fmt: skip
_MOST_EXTENSIONS = 8  # before one member
_EXTENSION_BYTES = 1 << 20  # the longest path that any system knows is 32 KiB
_SPARSE_MAP_CONTINUES = 482  # where the GNU header, and then each block of the map, say so
_SPARSE_BLOCK_CONTINUES = 504


@dataclass(frozen=True, slots=True)
class Header:
    """What the headers say of one member."""

    name: str
    kind: bytes  # the type flag
    offset: int  # of the data
    bytes: int  # of the data
    stamp: str  # of the block that stands right before the data
    sparse: bool = False

    @property
    def end(self) -> int:
        """Where the data ends; links, folders and devices have none, whatever size they claim."""
        holds_data = self.kind in tarfile.REGULAR_TYPES or self.kind not in tarfile.SUPPORTED_TYPES
        return self.offset + (self.bytes if holds_data else 0)

    @property
    def reason(self) -> str | None:
        """Why the member cannot be read, as far as its type tells."""
        if self.kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            return "link"
        if self.kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            return "special_file"
        return "unreadable" if self.sparse else None  # the holes are not in what is stored


@dataclass(slots=True)
class _Extension:
    """What extended headers change in the header that follows them."""

    path: str | None = None
    size: int | None = None
    sparse: bool = False

    def update(self, kind: bytes, text: bytes) -> None:
        if kind == tarfile.GNUTYPE_LONGNAME:
            self.path = _decode(text.split(b"\0", 1)[0])
        elif kind in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            fields = _pax_fields(text)
            if b"path" in fields:
                self.path = _decode(fields[b"path"])
            if b"size" in fields:
                self.size = _size(fields[b"size"])
            self.sparse = any(key.startswith(b"GNU.sparse.") for key in fields)


def read(stream: IO[bytes]) -> Iterator[Header]:
    """Every member's header up to the end mark or, as many tars have none, the end of the file.

    The stream is only moved forward, unless the caller moves it back. Raises ImageError where the
    archive is damaged.
    """
    end = 0
    while (header := _next(stream, end)) is not None:
        yield header
        end = header.end


def parse(block: bytes) -> tarfile.TarInfo:
    """One block as a header. Raises ImageError."""
    if len(block) < BLOCK:
        raise ImageError("truncated", "the file ends inside a header")
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise ImageError("corrupt", f"not a tar header: {error}") from None
    if info.size < 0:
        raise ImageError("corrupt", f"a member of {info.size} bytes")
    return info


def stamp(block: bytes) -> str:
    """What tells a header from another one: it covers name, size and time of the member."""
    return f"{zlib.crc32(block):08x}"


def _next(stream: IO[bytes], end: int) -> Header | None:
    """The header after the data that ends at `end`, None at the end of the archive."""
    extension = _Extension()
    for _ in range(_MOST_EXTENSIONS):
        start = -(-end // BLOCK) * BLOCK
        if stream.seek(start) < end:  # a gzip stream goes no further than its end
            raise ImageError("truncated", "the file ends inside a member")
        block = stream.read(BLOCK)
        if not any(block):
            return None
        info = parse(block)
        if info.type not in _EXTENSIONS:
            return _header(stream, block, info, extension)
        extension.update(info.type, _extension_text(stream, info.size))
        end = start + BLOCK + info.size
    raise ImageError("corrupt", f"more than {_MOST_EXTENSIONS} extended headers in a row")


def _header(
    stream: IO[bytes], block: bytes, info: tarfile.TarInfo, extension: _Extension
) -> Header:
    name = info.name if extension.path is None else extension.path
    size = info.size if extension.size is None else extension.size
    sparse = extension.sparse
    if info.type == tarfile.GNUTYPE_SPARSE:
        sparse = True
        continues = block[_SPARSE_MAP_CONTINUES]
        while continues:
            block = stream.read(BLOCK)
            if len(block) < BLOCK:
                raise ImageError("truncated", "the file ends inside a header")
            continues = block[_SPARSE_BLOCK_CONTINUES]
    # tell() is right behind the last block read, map included
    return Header(name, info.type, stream.tell(), size, stamp(block), sparse)


def _extension_text(stream: IO[bytes], size: int) -> bytes:
    if size > _EXTENSION_BYTES:
        raise ImageError("corrupt", f"an extended header of {size} bytes")
    text = stream.read(size)
    if len(text) < size:
        raise ImageError("truncated", "the file ends inside an extended header")
    return text


def _pax_fields(text: bytes) -> dict[bytes, bytes]:
    """The records of a pax header, each `LENGTH KEY=VALUE\\n` with a length that counts itself."""
    fields = {}
    while text and text[0]:
        length, space, _ = text.partition(b" ")
        count = _size(length)
        record = text[:count]
        if not space or count <= len(length) or not record.endswith(b"\n"):
            raise ImageError("corrupt", "a pax header that is not in records")
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        fields[key] = value
        text = text[count:]
    return fields


def _size(digits: bytes) -> int:
    """A count in decimal, as pax writes it. Raises ImageError."""
    if not digits.isdigit() or len(digits) > 19:
        raise ImageError("corrupt", "a pax header with a size that is no number")
    return int(digits)


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
