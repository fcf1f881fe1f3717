"""Members of a zip file, found in its directory and read by offset, never extracted.

The directory is read once, at planning: a shard of 64 members does not pay for the directory of
100,000. Each member is checked against the size and the checksum that the directory gave.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from functools import partial
from typing import IO

from nnst.archive import members
from nnst.archive.members import Place, Reader, Row, Stretch
from nnst.errors import ImageError, InputError

MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # a member first, or an empty zip

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # PKWARE APPNOTE 4.3.7
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # traditional, strong, encrypted directory
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HARMLESS_BYTES = 1 << 20  # a flat drawing of this size may be packed as well as it likes
_CHUNK = 1 << 16
_NO_DIRECTORY = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError)


def find(stream: IO[bytes], place: Place) -> Stretch:
    """The pictures of a zip, in the order of its directory. Raises InputError."""
    try:
        directory = zipfile.ZipFile(stream).infolist()
    except _NO_DIRECTORY as error:
        raise InputError(
            f"cannot read the directory of the zip {place.name}: {error}", "pack it again"
        ) from None
    if sum(info.compress_size for info in directory) > stream.seek(0, io.SEEK_END):
        raise InputError(
            f"the members of {place.name} overlap, as in a zip bomb",
            "unpack it with care and give the folder",
        )
    stretch = Stretch()
    for info in directory:
        if not (info.orig_filename.endswith("/") and info.file_size == 0):
            _add(stretch, stream, info, place)
    return stretch


def _add(stretch: Stretch, stream: IO[bytes], info: zipfile.ZipInfo, place: Place) -> None:
    name, unsafe = members.packed_name(info.orig_filename)  # filename is cut at a NUL
    closed = _closed(info)
    row = Row(
        name, place.container, info.header_offset, info.file_size, f"{info.CRC:08x}",
        closed or unsafe or _bomb(info),
    )  # fmt: skip
    stretch.add(row, None if closed else partial(_head, stream, row))


def _closed(info: zipfile.ZipInfo) -> str | None:
    """Why the member's bytes are no picture's or cannot be had."""
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "special_file"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    return None if info.compress_type in _METHODS else "unreadable"


def _bomb(info: zipfile.ZipInfo) -> str | None:
    large = info.file_size > _HARMLESS_BYTES
    return "too_compressed" if large and info.file_size > _most_inflated(info) else None


def _most_inflated(info: zipfile.ZipInfo) -> int:
    return info.compress_size * members.MAX_RATIO


def _head(stream: IO[bytes], row: Row) -> bytes:
    try:
        return _data(stream, row, min(members.HEAD_BYTES, row.bytes))
    except (ImageError, zlib.error):
        return b""  # without a picture's name or magic it is no picture


def reader(stream: IO[bytes]) -> Reader:
    """Reads members of an open zip."""
    return partial(_read, stream)


def _read(stream: IO[bytes], row: Row) -> bytes:
    """The member's data, proved by its checksum."""
    data = _data(stream, row, row.bytes + 1)
    if len(data) < row.bytes:
        raise ImageError("truncated", f"{len(data)} of {row.bytes} bytes are there")
    if len(data) > row.bytes:
        raise ImageError("too_compressed", f"inflates beyond its {row.bytes} bytes")
    if f"{zlib.crc32(data):08x}" != row.stamp:
        raise ImageError("corrupt", "the bytes do not fit the checksum of the zip")
    return data


def _data(stream: IO[bytes], row: Row, limit: int) -> bytes:
    """The first `limit` bytes of a member. Raises ImageError, zlib.error."""
    stream.seek(row.offset)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(MAGICS[0]):
        raise ImageError("unreadable", "no member begins where the zip's directory says")
    _, _, _, method, *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    stream.seek(name_bytes + extra_bytes, io.SEEK_CUR)
    if method == zipfile.ZIP_STORED:
        return stream.read(min(limit, row.bytes))
    if method == zipfile.ZIP_DEFLATED:
        return _inflated(stream, limit)
    raise ImageError("unreadable", "the zip has changed since it was planned")


def _inflated(stream: IO[bytes], limit: int) -> bytes:
    """At most `limit` bytes of the deflate stream that begins here."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # raw, without a zlib header
    data = bytearray()
    while len(data) < limit and not inflater.eof:
        packed = inflater.unconsumed_tail or stream.read(min(_CHUNK, limit + 64))
        if not packed:
            break
        data += inflater.decompress(packed, limit - len(data))
    return bytes(data)
