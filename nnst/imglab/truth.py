"""What people marked on pictures, as imglab and its relatives keep it: the whole of it.

`records.Annotation` is the part that learning needs. Every record here can be written as XML and
read back as it was; its constructor raises ValueError for what cannot.
"""

from __future__ import annotations

import math
import operator
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnst.errors import ImageError
from nnst.imglab import markup
from nnst.records import Annotation

MAX_COORDINATE = 2**31 - 1
UNLABELLED = "logo"  # the label of a box that has none
GENDERS = ("male", "female", "unknown")
MAX_NAME = 4096  # characters; the longest path that Linux takes, in bytes

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|(file|data):", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:", re.IGNORECASE)


def _trimmed(text: str) -> str:
    """The text as every reader gives it back: one kind of line end, no space around it."""
    return markup.characters(text).replace("\r\n", "\n").replace("\r", "\n").strip(" \t\n")


def _make_whole(record: Any, least: int, *names: str) -> None:
    """Make fields of a frozen record plain integers, or raise ValueError."""
    for name in names:
        value = operator.index(getattr(record, name))
        if not least <= value <= MAX_COORDINATE:
            raise ValueError(f"{name} must be from {least} to {MAX_COORDINATE}, got {value:.12g}")
        object.__setattr__(record, name, value)


def _make_finite(record: Any, *names: str) -> None:
    """Make fields of a frozen record plain floats where they are set, or raise ValueError."""
    for name in names:
        value = getattr(record, name)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
        object.__setattr__(record, name, None if value is None else float(value))


@dataclass(frozen=True, slots=True)
class Part:
    """A named point of a box, in pixels of the picture; it may lie outside the box."""

    name: str
    x: int
    y: int

    def __post_init__(self) -> None:
        markup.characters(self.name)
        _make_whole(self, -MAX_COORDINATE, "x", "y")


@dataclass(frozen=True, slots=True)
class Box:
    """What a person drew, in pixels as stored: columns left to left + width - 1; may overhang."""

    left: int
    top: int
    width: int
    height: int
    label: str | None = None
    ignore: bool = False  # neither an example nor background
    difficult: bool = False
    truncated: bool = False
    occluded: bool = False
    angle: float | None = None  # radians, clockwise
    pose: float | None = None
    detection_score: float | None = None
    gender: str | None = None  # one of GENDERS
    age: float | None = None
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        _make_whole(self, -MAX_COORDINATE, "left", "top")
        _make_whole(self, 1, "width", "height")
        _make_finite(self, "angle", "age", "pose", "detection_score")
        object.__setattr__(self, "label", _trimmed(self.label or "") or None)
        object.__setattr__(self, "parts", tuple(self.parts))
        if self.gender is not None and self.gender not in GENDERS:
            raise ValueError(f"gender must be one of {GENDERS}, got {self.gender[:40]!r}")
        if len({part.name for part in self.parts}) < len(self.parts):
            raise ValueError("two parts of the box have one name")


@dataclass(frozen=True, slots=True)
class Image:
    """A picture and its boxes. Without boxes: somebody looked, and nothing is there."""

    file: str  # relative to the XML's folder
    boxes: tuple[Box, ...] = ()
    width: int | None = None  # with height, or neither is kept
    height: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", tuple(self.boxes))
        if not markup.characters(self.file):
            raise ValueError("the file name is empty")
        if self.width is None or self.height is None:
            object.__setattr__(self, "width", None)
            object.__setattr__(self, "height", None)
        else:
            _make_whole(self, 1, "width", "height")


@dataclass(frozen=True, slots=True)
class Dataset:
    """An imglab file; equal to another when images, name and comment are."""

    images: tuple[Image, ...] = ()
    name: str = ""
    comment: str = ""
    path: Path = field(default=Path("dataset.xml"), compare=False)
    allow_outside: bool = field(default=False, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "name", _trimmed(self.name))
        object.__setattr__(self, "comment", _trimmed(self.comment))
        if len({image.file for image in self.images}) < len(self.images):
            raise ValueError("two images of the data set have one file")

    def resolve(self, image: Image) -> Path:
        """Where the picture lies. Raises ImageError: `unsafe_path` or `missing`."""
        return picture_path(self.path.parent, image.file, allow_outside=self.allow_outside)


def annotation(image: Image) -> Annotation:
    """The image's boxes as truth: half-open, float32; `image_id` stays empty."""
    boxes = [(b.left, b.top, b.left + b.width, b.top + b.height) for b in image.boxes]
    return Annotation(
        image=image.file,
        image_id="",
        boxes=np.array(boxes, dtype=np.float32),
        labels=tuple(box.label or UNLABELLED for box in image.boxes),
        ignore=np.array([box.ignore for box in image.boxes], dtype=bool),
        difficult=np.array([box.difficult for box in image.boxes], dtype=bool),
    )


def picture_path(folder: Path, name: str, *, allow_outside: bool = False) -> Path:
    """Where a picture lies that a file in `folder` names.

    Tried in turn: the name as it stands; as UTF-8 or cp1252 taken for Latin-1; with accents as
    one character or as two; each with backslashes as slashes. Raises ImageError: `unsafe_path`
    when the name or a link leaves the folder and `allow_outside` is not set; `missing`.
    """
    for spelling in _spellings(name[: MAX_NAME + 1]):  # a limit: some of the steps are quadratic
        if not _is_name(spelling):
            raise ImageError("unsafe_path", f"{name[:200]!r} is not the name of a file")
        if not allow_outside and _leaves(folder, spelling):
            remedy = "move the picture into it, or set allow_outside if you trust the file"
            raise ImageError("unsafe_path", f"{name[:200]!r} leaves the folder {folder}; {remedy}")
        if os.path.isfile(folder / spelling):
            return folder / spelling
    raise ImageError("missing", f"{name[:200]!r} is not in the folder {folder}")


def _spellings(name: str) -> Iterator[str]:
    names = [name]
    for codec in ("utf-8", "cp1252"):
        with suppress(UnicodeError):
            names.append(name.encode("latin-1").decode(codec))
    names += [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    yield from dict.fromkeys([*names, *(each.replace("\\", "/") for each in names)])


def _is_name(name: str) -> bool:
    try:
        encoded = os.fsencode(name)
    except UnicodeError:
        return False
    return 0 < len(name) <= MAX_NAME and b"\0" not in encoded and not _URL.match(name)


def _leaves(folder: Path, name: str) -> bool:
    """Whether the name leads out of the folder, by its letters or by a link."""
    real = Path(os.path.realpath(folder / name))
    return bool(_DRIVE.match(name)) or not real.is_relative_to(os.path.realpath(folder))
