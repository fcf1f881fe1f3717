"""Pascal VOC: a folder with an XML file a picture.

VOC counts pixels from 1, and xmax and ymax are the last pixels inside: a box over the first two
columns is xmin 1, xmax 2, and 0 to 2 here. A box to ignore is written as difficult too, which is
what other programs then take it for. http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lxml import etree

from nnst import storage
from nnst.errors import InputError
from nnst.formats import checking
from nnst.formats.truth import FLAGS, Mark, MarkedPicture, MarkedSet
from nnst.imglab import markup

_BOOLS = {"": False, "0": False, "false": False, "1": True, "true": True}
_NO_POSE = ("", "unspecified", "unknown")
_WORDS = ("difficult", "truncated", "occluded")


def read(path: Path, pictures: str, allow_outside: bool) -> MarkedSet:
    """The set in a folder of VOC files, or in one of them. Raises InputError.

    Pictures are looked for beside the files, and in JPEGImages and images beside their folder.
    """
    base = path.parent if path.is_file() else path
    if (path / "Annotations").is_dir():
        base = path / "Annotations"
    reader = _Reader()
    found = [reader.picture(file, base) for file in _files(path, base)]
    _refuse_twice(found, path)
    names = [picture.file for picture in found]
    above = base.parent
    places = (base, above / "JPEGImages", above / "images", base / "images", above)
    folder = checking.pictures_folder(names, pictures, places, allow_outside)
    return MarkedSet(
        pictures=tuple(found),
        path=path,
        folder=folder,
        allow_outside=allow_outside,
        warnings=tuple(reader.warnings),
        lost=+reader.lost,
    )


def _files(path: Path, base: Path) -> list[Path]:
    if path.is_file():
        return [path]
    entries = storage.walk(base)
    return [base / e.name for e in entries if e.kind == "file" and e.name.lower().endswith(".xml")]


def _refuse_twice(found: Sequence[MarkedPicture], path: Path) -> None:
    for name, count in Counter(picture.file for picture in found).items():
        if count > 1:
            raise InputError(f"{path}: {count} files are about {name[:200]!r}", "keep one of them")


class _Reader:
    """Elements -> records; it counts what these have no place for."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self.warnings: list[str] = []

    def picture(self, file: Path, base: Path) -> MarkedPicture:
        root = markup.read(file)
        if root.tag != "annotation":
            raise checking.fault(file, f"the root element is <{root.tag}>, not <annotation>")
        name = checking.picture_name(root.findtext("filename"), file)
        below = file.parent.relative_to(base).as_posix()
        marks = [self.mark(element, file) for element in root.iterfind("object")]
        if any(mark and min(mark.x0, mark.y0) < 0 for mark in marks) and not self.warnings:
            self.warnings.append(f"{file}: a box begins at 0, and VOC counts from 1: one off?")
        return MarkedPicture(
            posixpath.join("" if below == "." else below, name),
            tuple(mark for mark in marks if mark),
            checking.side(root.findtext("size/width", "")),
            checking.side(root.findtext("size/height", "")),
        )

    def mark(self, element: etree._Element, file: Path) -> Mark | None:
        where = f"{file}, line {element.sourceline}"
        self.lost["part"] += len(element.findall("part"))
        self.lost["outline"] += element.find("polygon") is not None
        self.lost["pose"] += element.findtext("pose", "").strip().lower() not in _NO_POSE
        names = ("xmin", "ymin", "xmax", "ymax")
        sides = [checking.number(element.findtext(f"bndbox/{name}", ""), where) for name in names]
        x0, y0, x1, y1 = sides[0] - 1, sides[1] - 1, sides[2], sides[3]
        if x1 <= x0 or y1 <= y0:
            self.lost["empty_box"] += 1
            return None
        kept = self.attributes(element, where)
        flags = {word: _flag(element, word, where) for word in FLAGS}
        if flags["ignore"]:  # its difficult is for others
            flags["difficult"] = bool(kept.get("difficult"))
        score = kept.get("score")
        return Mark(
            x0,
            y0,
            x1,
            y1,
            label=checking.label(element.findtext("name", ""), where),
            score=None if score is None else float(checking.number(score, where)),
            details=checking.details(kept, where),
            **flags,
        )

    def attributes(self, element: etree._Element, where: str) -> dict[str, Any]:
        """The attributes that have a place here: those that we write."""
        found: dict[str, Any] = {}
        for each in element.iterfind("attributes/attribute"):
            name = each.findtext("name", "")
            if name in _ATTRIBUTES:
                found[name] = _value(each.findtext("value", ""), where)
            else:
                self.lost["attribute"] += 1
        return found


_ATTRIBUTES = ("score", "difficult", "angle", "pose", "age", "gender", "parts")


def _value(text: str, where: str) -> Any:
    """A value as `_attribute_lines` writes it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise checking.fault(where, f"cannot read the value {text[:40]!r}") from None


def _flag(element: etree._Element, name: str, where: str) -> bool:
    text = element.findtext(name, "").strip().lower()
    if text not in _BOOLS:
        raise checking.fault(where, f"{name} {text[:40]!r} is neither 1 nor 0")
    return _BOOLS[text]


def encode(truth: MarkedSet) -> Iterator[tuple[str, bytes]]:
    """The name and bytes of each file for a set that fits, its pictures' sizes known."""
    paths = [checking.inner_path(picture.file, truth.path) for picture in truth.pictures]
    stems = Counter(posixpath.splitext(path)[0] for path in paths)
    for path, picture in zip(paths, truth.pictures, strict=True):
        stem = posixpath.splitext(path)[0]
        name = stem if stems[stem] == 1 else path  # a.jpg beside a.png
        lines = "".join(f"{line}\n" for line in _lines(picture, path))
        yield f"{name}.xml", lines.encode()


def _lines(picture: MarkedPicture, path: str) -> Iterator[str]:
    folder, name = posixpath.split(path)
    yield "<annotation>"
    yield f"  <folder>{markup.escaped(folder)}</folder>"
    yield f"  <filename>{markup.escaped(name)}</filename>"
    yield "  <source><database>Unknown</database></source>"
    yield (
        f"  <size><width>{picture.width}</width><height>{picture.height}</height>"
        "<depth>3</depth></size>"
    )
    yield "  <segmented>0</segmented>"
    for mark in picture.marks:
        yield from _object_lines(mark)
    yield "</annotation>"


def _object_lines(mark: Mark) -> Iterator[str]:
    flags = {word: getattr(mark, word) for word in _WORDS}
    flags["difficult"] |= mark.ignore
    yield "  <object>"
    yield f"    <name>{markup.escaped(mark.label or '')}</name>"
    yield "    <pose>Unspecified</pose>"
    for word in _WORDS:
        yield f"    <{word}>{int(flags[word])}</{word}>"
    if mark.ignore:
        yield "    <ignore>1</ignore>"
    corners = {"xmin": mark.x0 + 1, "ymin": mark.y0 + 1, "xmax": mark.x1, "ymax": mark.y1}
    inside = "".join(f"<{name}>{round(value)}</{name}>" for name, value in corners.items())
    yield f"    <bndbox>{inside}</bndbox>"
    yield from _attribute_lines(mark)
    yield "  </object>"


def _attribute_lines(mark: Mark) -> Iterator[str]:
    kept = dict(mark.details)
    kept |= {} if mark.score is None else {"score": mark.score}
    kept |= {"difficult": True} if mark.ignore and mark.difficult else {}
    if not kept:
        return
    yield "    <attributes>"
    for name, value in kept.items():
        text = markup.escaped(json.dumps(value, ensure_ascii=False))
        yield f"      <attribute><name>{name}</name><value>{text}</value></attribute>"
    yield "    </attributes>"
