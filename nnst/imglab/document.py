"""An imglab XML file -> a data set, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lxml import etree

from nnst import storage
from nnst.errors import InputError
from nnst.imglab import markup
from nnst.imglab.truth import MAX_COORDINATE, Box, Dataset, Image, Part

MAX_WARNINGS = 100

# Attributes of a box, in the order in which dlib writes them.
_SIDES = ("top", "left", "width", "height")
_FLAGS = ("difficult", "truncated", "occluded", "ignore")
_EXTRAS = ("angle", "age", "gender", "pose", "detection_score")

_NUMBERS = ("angle", "age", "pose", "detection_score")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_BOOLS = {"1": True, "true": True, "0": False, "false": False}


def read(path: str | Path, *, allow_outside: bool = False) -> Dataset:
    """The data set in an imglab XML file. Raises InputError with the line and what to do.

    `allow_outside` lets its pictures lie outside the file's folder; no picture is looked for here.
    """
    root = markup.read(path)
    reader = _Reader(path)
    if root.tag != "dataset":
        raise reader.fault(root, f"the root element is <{root.tag}>, not <dataset>")
    return Dataset(
        images=reader.images(root),
        name=root.findtext("name", ""),
        comment=root.findtext("comment", ""),
        path=Path(path),
        allow_outside=allow_outside,
        warnings=reader.told(),
    )


class _Reader:
    """Elements -> records; it knows the file and the line for what there is to say."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.untold = 0

    def warn(self, element: etree._Element, what: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(f"{self.path}, line {element.sourceline}: {what}")
        else:
            self.untold += 1

    def told(self) -> tuple[str, ...]:
        """The first warnings, and how many more there are."""
        more = [f"{self.path}: {self.untold} more warnings"] if self.untold else []
        return (*self.warnings, *more)

    def fault(self, element: etree._Element, what: object) -> InputError:
        where = f"{self.path}, line {element.sourceline}"
        return InputError(f"{where}: {what}", "correct that line, or read a file that imglab wrote")

    @contextmanager
    def line(self, element: etree._Element) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise self.fault(element, error) from None

    def images(self, root: etree._Element) -> tuple[Image, ...]:
        if root.find("images") is None:
            self.warn(root, "no <images> in <dataset>, so no picture")
        entries: dict[str, list[Image]] = {}
        for element in root.iterfind("images/image"):
            image = self.image(element)
            if image.file in entries:
                self.warn(element, f"{image.file[:200]!r} again; its boxes were put together")
            entries.setdefault(image.file, []).append(image)
        return tuple(map(_merged, entries.values()))

    def image(self, element: etree._Element) -> Image:
        with self.line(element):
            file = _attribute(element, "file")
            boxes = tuple(box for each in element.iterfind("box") if (box := self.box(each)))
            return Image(file, boxes, _size(element, "width"), _size(element, "height"))

    def box(self, element: etree._Element) -> Box | None:
        """The box; None, and a warning, when it holds no pixel."""
        with self.line(element):
            exact = {name: _number(element, name) for name in _SIDES}
            sides: dict[str, Any] = {name: round(value) for name, value in exact.items()}
            if exact != sides:  # dlib takes whole numbers only; the web imglab writes these
                self.warn(element, "a box with fractions of a pixel was rounded")
            if min(sides["width"], sides["height"]) < 1:
                self.warn(element, "a box without a pixel, of no width or height, was left out")
                return None
            parts = tuple(self.part(each) for each in element.iterfind("part"))
            return Box(**sides, parts=parts, **_extras(element))

    def part(self, element: etree._Element) -> Part:
        with self.line(element):
            x, y = (round(_number(element, name)) for name in ("x", "y"))
            return Part(_attribute(element, "name"), x, y)


def _extras(element: etree._Element) -> dict[str, Any]:
    """The fields of a box beside its sides and parts, as far as the element has them."""
    if len(element.findall("label")) > 1:
        raise ValueError("more than one label in a box")
    fields: dict[str, Any] = {"label": element.findtext("label")}
    fields |= {name: _flag(element, name) for name in _FLAGS if name in element.attrib}
    fields |= {name: _number(element, name) for name in _NUMBERS if name in element.attrib}
    fields["gender"] = element.get("gender", "").strip().lower() or None
    return fields


def _attribute(element: etree._Element, name: str) -> str:
    if (text := element.get(name)) is None:
        raise ValueError(f"<{element.tag}> has no {name}")
    return text


def _number(element: etree._Element, name: str) -> float:
    text = _attribute(element, name).strip()
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}={text[:40]!r} is not a number")
    return value


def _flag(element: etree._Element, name: str) -> bool:
    text = _attribute(element, name).strip()
    if text.lower() not in _BOOLS:
        raise ValueError(f"{name}={text[:40]!r} is neither 1 nor 0")
    return _BOOLS[text.lower()]


def _size(element: etree._Element, name: str) -> int | None:
    """A side of the picture; None when it cannot be: the picture itself has the last word."""
    try:
        value = _number(element, name)
    except ValueError:
        return None
    return round(value) if 1 <= value <= MAX_COORDINATE else None


def _merged(entries: Sequence[Image]) -> Image:
    """One image of all entries for its file; a box that is in several comes once."""
    if len(entries) == 1:
        return entries[0]
    return replace(entries[0], boxes=tuple(dict.fromkeys(b for e in entries for b in e.boxes)))


def write(dataset: Dataset, path: str | Path) -> None:
    """Write the data set as imglab XML in UTF-8, whole or not at all; file names as they are.

    dlib does not decode entities in attributes: a file name with & it reads with `&amp;`.
    """
    storage.put(path, encode(dataset))


def encode(dataset: Dataset) -> bytes:
    """The bytes that `write` writes."""
    return "".join(f"{line}\n" for line in _lines(dataset)).encode()


def _lines(dataset: Dataset) -> Iterator[str]:
    yield "<?xml version='1.0' encoding='UTF-8'?>"
    yield "<dataset>"
    yield f"<name>{markup.escaped(dataset.name)}</name>"
    yield f"<comment>{markup.escaped(dataset.comment)}</comment>"
    yield "<images>"
    for image in dataset.images:
        yield f"  <image{_attributes(image, 'file', 'width', 'height')}>"
        for box in image.boxes:
            yield from _box_lines(box)
        yield "  </image>"
    yield "</images>"
    yield "</dataset>"


def _box_lines(box: Box) -> Iterator[str]:
    flags = "".join(f" {name}='1'" for name in _FLAGS if getattr(box, name))
    start = f"    <box{_attributes(box, *_SIDES)}{flags}{_attributes(box, *_EXTRAS)}"
    if not box.label and not box.parts:
        yield f"{start}/>"
        return
    yield f"{start}>"
    if box.label:
        yield f"      <label>{markup.escaped(box.label)}</label>"
    for part in box.parts:
        yield f"      <part{_attributes(part, 'name', 'x', 'y')}/>"
    yield "    </box>"


def _attributes(record: object, *names: str) -> str:
    """The fields that are set, as attributes, each after a space."""
    values = ((name, getattr(record, name)) for name in names)
    return "".join(f" {n}={markup.quoted(str(v))}" for n, v in values if v is not None)
