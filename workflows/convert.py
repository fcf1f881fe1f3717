"""`nnst convert`: truth of one format -> truth of another, and what that one cannot hold."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnst import formats
from nnst.config import setting
from nnst.errors import InputError
from workflows.commands import Options, Outcome


@dataclass(frozen=True, slots=True)
class ConvertConfig:
    """Settings of nnst convert."""

    source: str = setting(help="imglab XML, a folder of VOC or YOLO files, or COCO's JSON")
    out: str = setting(help="the file or folder to write, which must be new")
    to: Literal["", "imglab", "voc", "coco", "yolo"] = setting(
        "", "imglab, voc, coco or yolo; by default what a suffix .xml (imglab) or .json (coco) says"
    )
    pictures: str = setting("", "the folder of the pictures, where VOC and COCO do not say it")
    boxes_upright: bool = setting(
        False, "boxes of VOC, COCO and YOLO, read or written, are those of pictures turned by EXIF"
    )
    allow_outside: bool = setting(False, "let names lead out of the folder of the pictures")


def run(settings: ConvertConfig, options: Options) -> Outcome:
    """Read, see what fits, write."""
    form = settings.to or formats.suffix_format(settings.out)
    if not form:
        what = f"no format for {settings.out}"
        raise InputError(what, "give --to imglab, voc, coco or yolo, or end it in .xml or .json")
    source = Path(settings.source)
    told = formats.format_of(source)
    upright = settings.boxes_upright and told != "imglab"
    reading = formats.Reading(settings.pictures, settings.allow_outside, upright)
    fitted = formats.fit(formats.read(source, reading), form, settings.boxes_upright)
    if not options.dry_run:
        formats.write(fitted, settings.out, form)
    for line in (
        *(f"note: {each}" for each in fitted.warnings),
        *formats.losses.lines(fitted.lost),
    ):
        print(line, file=sys.stderr)
    boxes = sum(len(picture.marks) for picture in fitted.pictures)
    document = {
        "from": told,
        "to": form,
        "out": settings.out,
        "pictures": len(fitted.pictures),
        "boxes": boxes,
        "lost": dict(fitted.lost),
        "warnings": list(fitted.warnings),
    }
    verb = "would write" if options.dry_run else "wrote"
    count = f"{len(fitted.pictures):,} pictures with {boxes:,} boxes"
    return Outcome(document, f"{verb} {count} from {told} to {form}: {settings.out}")


def _places(fitted: formats.MarkedSet, out: str, form: str) -> list[str]:
    """What to know of where the pictures are, for whoever reads the new file."""
    pictures, folder = Path(fitted.folder).absolute(), Path(out).absolute().parent
    if form == "imglab" and not pictures.is_relative_to(folder):
        return [f"pictures are outside the folder of {out}: --set allow_outside=true takes them"]
    if form == "coco" and pictures != folder:
        return [f"names of pictures are those in {fitted.folder}: --pictures {fitted.folder}"]
    return []
