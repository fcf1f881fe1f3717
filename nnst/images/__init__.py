"""Bytes <-> RGB pixels, or a reason: the only place that knows BGR, EXIF and how decoders fail.

A picture is decoded as it is stored; EXIF's orientation stands in its header, and `upright` obeys
it. That is how imglab draws: dlib loads a picture without a look at EXIF. A JPEG can be decoded at
a half, a quarter or an eighth of its sides; its header has the stored size all the same.

`headers` reads formats and sizes before anything is decoded, `decoding` and `encoding` turn bytes
to pixels and back, `guarding` decodes in a child process, `ahead` in threads, `orientation` turns
pictures and boxes upright, `hashing` names pictures, `showing` makes what a page shows.
"""

from __future__ import annotations

from nnst.images.ahead import Decoded, ahead, decoders
from nnst.images.decoding import (
    REDUCTIONS,
    Limits,
    Picture,
    check,
    fastest_full_decode,
)
from nnst.images.encoding import Pixels, encode_bmp, encode_jpeg, encode_png, resize
from nnst.images.guarding import GuardSettings, decode, ended_after, guarded, still_at_work
from nnst.images.hashing import content_hash, hamming, perceptual_hash
from nnst.images.headers import READABLE, SUFFIXES, Header, read_header, sniff
from nnst.images.orientation import boxes_stored, boxes_upright, upright, upright_hw
from nnst.images.showing import encode_part, encode_view

__all__ = [
    "READABLE",
    "REDUCTIONS",
    "SUFFIXES",
    "Decoded",
    "GuardSettings",
    "Header",
    "Limits",
    "Picture",
    "Pixels",
    "ahead",
    "boxes_stored",
    "boxes_upright",
    "check",
    "content_hash",
    "decode",
    "decoders",
    "encode_bmp",
    "encode_jpeg",
    "encode_part",
    "encode_png",
    "encode_view",
    "ended_after",
    "fastest_full_decode",
    "guarded",
    "hamming",
    "perceptual_hash",
    "read_header",
    "resize",
    "sniff",
    "still_at_work",
    "upright",
    "upright_hw",
]
