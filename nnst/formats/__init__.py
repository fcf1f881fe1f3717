"""Doors to imglab, Pascal VOC, COCO and YOLO: tolerant in, strict out, and what is lost counted.

Inside, boxes are xyxy, half-open, in pixels of the stored picture. imglab writes left, top, width
and height in whole pixels; VOC counts from 1, its last pixel included; COCO has x, y, width and
height with fractions; YOLO has centres and sizes in shares of the picture. Each is converted at its
own door and nowhere else.

`truth` holds the types, `imglab`, `voc`, `coco` and `yolo` are the doors, `losses` says what each
can hold, `turning` asks the pictures, `checking` refuses, `telling` finds out which format it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nnst import storage
from nnst.errors import ImageError, InputError
from nnst.formats import coco, imglab, losses, turning, voc, yolo
from nnst.formats.telling import FORMATS, format_of, sha256, suffix_format
from nnst.formats.truth import Mark, MarkedPicture, MarkedSet, annotation

__all__ = [
    "FORMATS",
    "Mark",
    "MarkedPicture",
    "MarkedSet",
    "Reading",
    "annotation",
    "fit",
    "format_of",
    "losses",
    "read",
    "refuse_existing",
    "sha256",
    "suffix_format",
    "write",
]

_FOLDERS = ("voc", "yolo")  # of many files; the others are one


@dataclass(frozen=True, slots=True)
class Reading:
    """How a stranger's file is to be taken."""

    pictures: str = (
        ""  # the folder that VOC's and COCO's pictures are in; "": where they usually are
    )
    allow_outside: bool = False  # let names lead out of that folder
    boxes_upright: bool = False  # the boxes are those of pictures turned as EXIF says


_PLAIN = Reading()


def read(path: str | Path, reading: Reading = _PLAIN) -> MarkedSet:
    """The content of a file or folder of any of the formats, boxes in stored pixels.

    Raises InputError, with the place and what to do.
    """
    path = Path(path)
    form = format_of(path)
    if form == "imglab":
        if reading.boxes_upright:
            what = f"{path} is an imglab file, whose boxes are never upright"
            raise InputError(what, "leave boxes_upright out")
        return imglab.read(path, reading.allow_outside)
    if form == "yolo":
        size_of = turning.upright_size_of if reading.boxes_upright else turning.size_of
        found = yolo.read(path, reading.allow_outside, size_of)
    else:
        door = voc.read if form == "voc" else coco.read
        found = door(path, reading.pictures, reading.allow_outside)
    return turning.to_stored(found) if reading.boxes_upright else found


def fit(truth: MarkedSet, form: str, boxes_upright: bool = False) -> MarkedSet:
    """The set as that format will hold it; its `lost` counts what the format cannot hold.

    Raises InputError when the format needs what is not known: sizes, or how pictures lie.
    """
    if form != "imglab":
        truth = truth.rooted()
    if boxes_upright and form != "imglab":
        truth = turning.to_upright(truth)
    if form in _FOLDERS:
        truth = turning.with_sizes(truth)
    return losses.fit(truth, form)


def write(fitted: MarkedSet, path: str | Path, form: str) -> None:
    """Write a set that fits. YOLO's pictures are linked beside it, or copied, where they are there.

    Raises InputError when there is something of that name already, or a name cannot be written.
    """
    path = Path(path)
    refuse_existing(path)
    if form == "imglab":
        imglab.write(fitted, path)
    elif form == "coco":
        storage.put(path, storage.to_json(coco.encode(fitted)))
    else:
        door = voc.encode if form == "voc" else yolo.encode
        _write_files(path, list(door(fitted)))  # all of it is made before any of it is written
    if form == "yolo":
        _link_pictures(fitted, path)


def refuse_existing(path: Path) -> None:
    """Raise InputError when there is a file of this name, or a folder that is not empty."""
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} is not empty", "give the name of a new folder")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is there already", "give another name, or remove it")


def _write_files(folder: Path, files: list[tuple[str, bytes]]) -> None:
    for name, data in files:
        storage.put_quickly(storage.join(folder, *name.split("/")), data)
    storage.sync()


def _link_pictures(fitted: MarkedSet, folder: Path) -> None:
    for source, name in _there(fitted):
        target = folder.joinpath(*name.split("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or one that knows no links
            shutil.copyfile(source, target)


def _there(fitted: MarkedSet) -> Iterator[tuple[Path, str]]:
    """The pictures that can be opened, and where YOLO has them."""
    for picture in fitted.pictures:
        with suppress(ImageError):
            yield fitted.resolve(picture), yolo.place_of(picture.file, fitted.path)
