"""What a picture's file says of itself, read without decoding: kind, size, frames, orientation.

One module a format, each with `read` (its Header) and `reaches_end` (whether the file goes on to
where its own structure says that it ends). Every read is checked against the end of the bytes and
every walk is bounded: whatever the bytes are, the answer is a value or an ImageError.
"""

from __future__ import annotations

from nnst.errors import ImageError
from nnst.images.headers import avif, bmp, gif, jpeg, png, tiff, webp
from nnst.images.headers.header import Header
from nnst.images.headers.kinds import (
    HEAD,
    READABLE,
    REMEDIES,
    SUFFIXES,
    begins_like_a_picture,
    sniff,
)

__all__ = ["HEAD", "READABLE", "SUFFIXES", "Header", "reaches_end", "read_header", "sniff"]

_FORMATS = {
    "avif": avif,
    "bmp": bmp,
    "gif": gif,
    "jpeg": jpeg,
    "png": png,
    "tiff": tiff,
    "webp": webp,
}


def read_header(data: bytes) -> Header:
    """What the file says; raises ImageError with the reason why it cannot be a picture."""
    kind = sniff(data[:HEAD])
    if kind not in READABLE or kind is None:
        raise _refusal(data, kind)
    header = _FORMATS[kind].read(data)
    if header.width < 1 or header.height < 1:
        raise ImageError("corrupt", f"the header says {header.width} x {header.height} pixels")
    return header


def reaches_end(data: bytes, header: Header) -> bool:
    """Whether the file goes on to where its own structure says that it ends."""
    try:
        return _FORMATS[header.format].reaches_end(data)
    except ImageError:
        return False


def _refusal(data: bytes, kind: str | None) -> ImageError:
    """Why a file that is no readable picture by its first bytes is refused."""
    if not data:
        return ImageError("empty")
    if kind is not None:
        return ImageError("unsupported_format", REMEDIES[kind])
    if begins_like_a_picture(data):
        return ImageError("truncated", f"all that the file holds is {data!r}")
    return ImageError("not_an_image", f"the file begins with {data[:8]!r}")
