"""What kind of file some bytes are, told by their first ones and never by the name."""

from __future__ import annotations

from collections.abc import Mapping

HEAD = 512
"""Bytes from the beginning of a file that name its kind, also an SVG behind an XML declaration."""

READABLE = frozenset({"jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"})

_READABLE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".avif"}
)
_OTHER_SUFFIXES = frozenset(
    {".heic", ".heif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".ico"}
    | {".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf"}
)
SUFFIXES = _READABLE_SUFFIXES | _OTHER_SUFFIXES
"""Endings of names that a person would call a picture's, whether nnst reads the kind or not."""

REMEDIES: Mapping[str, str] = {
    "heic": "a HEIC picture; convert it: heif-convert IN OUT.jpg, or: magick IN OUT.jpg",
    "jxl": "a JPEG XL picture; convert it: djxl IN OUT.png",
    "jp2": "a JPEG 2000 picture; convert it: magick IN OUT.png",
    "svg": "an SVG drawing; render it: rsvg-convert --output OUT.png IN",
    "psd": "a Photoshop document; flatten it: magick 'IN[0]' OUT.png",
    "ico": "an icon; convert it: magick 'IN[0]' OUT.png",
    "raw": "a camera's raw file; develop it: darktable-cli IN OUT.jpg",
    "exr": "an OpenEXR picture; convert it: magick IN OUT.png",
    "hdr": "a Radiance HDR picture; convert it: magick IN OUT.png",
    "qoi": "a QOI picture; convert it: magick IN OUT.png",
    "dds": "a DirectDraw surface; convert it: magick IN OUT.png",
    "pnm": "a PNM picture; convert it: magick IN OUT.png",
    "xcf": "a GIMP document; flatten it: magick IN -flatten OUT.png",
    "pdf": "a PDF document; draw its pages: pdftoppm -png IN OUT",
    "eps": "a PostScript document; draw its pages: gs -sDEVICE=png16m -o OUT-%d.png IN",
    "html": "a web page under a picture's name; fetch the picture again",
    "xml": "an XML document, not a picture",
}
"""Known kinds that nnst does not read -> what it is, and how to make a picture of it."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0\x10\0\0\0CR", "raw"),  # Canon's CR2 is a TIFF whose first page is a thumbnail
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"8BPS", "psd"),
    (b"\0\0\1\0", "ico"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"qoif", "qoi"),
    (b"DDS ", "dds"),
    (b"gimp xcf", "xcf"),
    (b"%PDF-", "pdf"),
    (b"%!PS", "eps"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # sizes that a BMP's second header has


def sniff(head: bytes) -> str | None:
    """The kind of a file that begins with `head` (32 bytes do for pictures, HEAD for all).

    A member of READABLE, a key of REMEDIES, or None for what is no known picture or document.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "pnm"
    return _sniff_markup(head)


def begins_like_a_picture(data: bytes) -> bool:
    """Whether a file of a few bytes is the first part of a readable picture's magic number."""
    return any(kind in READABLE and magic.startswith(data) for magic, kind in _MAGIC)


def _sniff_brands(head: bytes) -> str | None:
    """The kind of an ISO base media file (ISO 14496-12) by the brands in its first box."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, end - 3, 4)}
    if brands & _AVIF_BRANDS:
        return "avif"
    if brands & _HEIC_BRANDS:
        return "heic"
    return "raw" if head[8:12] == b"crx " else None


def _sniff_markup(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "html"
    if text.startswith((b"<svg", b"<!doctype svg")) or (text[:5] == b"<?xml" and b"<svg" in text):
        return "svg"
    return "xml" if text.startswith(b"<?xml") else None
