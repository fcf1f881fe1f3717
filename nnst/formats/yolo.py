"""YOLO: a text file a picture, a line a box: class, centre x, centre y, width, height, all but the
class in shares of the picture's sides. So the pictures must be there: they alone know their sizes.

Beside the pictures, or in `labels` where these are in `images`; names of the classes in a data.yaml
(`names`), or a line each in classes.txt or obj.names. A picture without a text file was looked at,
and nothing is there. https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import yaml

from nnst import images, storage
from nnst.errors import InputError
from nnst.formats import checking
from nnst.formats.coco import rounded
from nnst.formats.truth import Mark, MarkedPicture, MarkedSet

MAX_BYTES = 16 * 2**20
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")
_BOX, _SCORED = 5, 6  # columns
_MOST_SLACK = 0.05  # pixels

Size = tuple[int, int]  # width, height
SizeOf = Callable[[MarkedSet, MarkedPicture], Size | None]
Corners = tuple[float, float, float, float]  # x0, y0, x1, y1


def read(path: Path, allow_outside: bool, size_of: SizeOf) -> MarkedSet:
    """The set in a folder with pictures, or around its data.yaml. Raises InputError.

    A picture whose size `size_of` does not know is left out: nobody can say where its boxes lie.
    """
    folder = path.parent if path.is_file() else path
    entries = {entry.name: entry.kind for entry in storage.walk(folder)}
    texts = {name for name, kind in entries.items() if kind == "file" and name.endswith(".txt")}
    reader = _Reader(_names(path, folder, sorted(entries)))
    empty = MarkedSet((), path, folder, allow_outside=allow_outside)
    labels = _label_files(path, entries)
    found = []
    for file, name in labels.items():
        picture = MarkedPicture(name)
        if (size := size_of(empty, picture)) is None:
            reader.lost["no_size"] += 1
            continue
        marks = reader.marks(folder / file, size) if file in texts else ()
        found.append(MarkedPicture(name, marks, *size))
    reader.lost["no_picture"] += sum(map(_is_of_labels, texts - labels.keys()))
    if not found:
        what = f"{path}: no picture in {folder} that can be opened"
        raise InputError(what, "put the pictures there: YOLO's boxes are shares of their sizes")
    declared = tuple(dict.fromkeys(reader.names.values()))
    return replace(empty, pictures=tuple(found), labels=declared, lost=+reader.lost)


def _label_files(path: Path, entries: Mapping[str, str]) -> dict[str, str]:
    """The label file of each picture -> the picture."""
    found: dict[str, str] = {}
    for name, kind in entries.items():
        if kind in ("file", "link") and _is_picture(name):
            other = found.setdefault(label_file(name), name)
            if other != name:
                what = f"{path}: {other!r} and {name!r} have one label file"
                raise InputError(what, "rename one of them")
    return found


def _is_picture(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in images.SUFFIXES


def _is_of_labels(text: str) -> bool:
    return "labels" in text.split("/")[:-1] and posixpath.basename(text) not in _NAME_FILES


def label_file(picture: str) -> str:
    """The name of a picture's text file: the last folder `images` of its path becomes `labels`."""
    *folders, name = picture.split("/")
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        folders[last] = "labels"
    return "/".join([*folders, posixpath.splitext(name)[0] + ".txt"])


# Names of the classes


def _names(path: Path, folder: Path, files: Sequence[str]) -> dict[int, str]:
    """Class number -> name."""
    if path.is_file():
        return _from_yaml(path)
    for name in files:
        if name.lower().endswith((".yaml", ".yml")) and name.count("/") <= 1:
            return _from_yaml(folder / name)
    for wanted in _NAME_FILES:
        for name in files:
            if posixpath.basename(name) == wanted:
                text = checking.text(checking.read_bytes(folder / name, MAX_BYTES), folder / name)
                lines = text.rstrip("\n").split("\n")
                return {n: checking.label(line, folder / name) for n, line in enumerate(lines)}
    what = f"{path} has no names of its classes"
    raise InputError(what, "add a data.yaml with names, or classes.txt with a name a line")


def _from_yaml(path: Path) -> dict[int, str]:
    try:
        text = checking.text(checking.read_bytes(path, MAX_BYTES), path)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it refers to itself, by which a few lines can grow to gigabytes")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).split("\n")[0][:200]
        raise InputError(f"{path} is not plain YAML: {first}", "write it again") from None
    names = document.get("names") if isinstance(document, Mapping) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping) or not all(isinstance(key, int) for key in names):
        raise InputError(f"{path} has no names of classes", "write names: [first, second]")
    return {key: checking.label(str(name), path) for key, name in names.items()}


# Boxes


@dataclass
class _Reader:
    """Lines -> records; it counts what these have no place for."""

    names: Mapping[int, str]
    lost: Counter[str] = field(default_factory=Counter)

    def marks(self, path: Path, size: Size) -> tuple[Mark, ...]:
        text = checking.text(checking.read_bytes(path, MAX_BYTES), path)
        rows = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1)]
        found = (self.mark(row, f"{path}, line {number}", size) for number, row in rows if row)
        return tuple(mark for mark in found if mark is not None)

    def mark(self, row: list[str], where: str, size: Size) -> Mark | None:
        label, *shares = (checking.number(word, where) for word in row)
        if label not in self.names:
            raise checking.fault(where, f"no name for the class {row[0][:40]!r}")
        outline = len(row) > _SCORED and len(shares) % 2 == 0
        if len(row) not in (_BOX, _SCORED) and not outline:
            raise checking.fault(where, f"{len(row)} columns, and a box has {_BOX}")
        self.lost["outline"] += outline
        corners = _around(shares) if outline else _corners(shares)
        x0, y0, x1, y1 = _in_pixels(corners, size, _slack(row[1:]))
        if x1 <= x0 or y1 <= y0:
            self.lost["empty_box"] += 1
            return None
        score = float(shares[4]) if len(row) == _SCORED else None
        return Mark(x0, y0, x1, y1, label=self.names[int(label)], score=score)


def _corners(shares: Sequence[float]) -> Corners:
    x, y, width, height = shares[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _around(points: Sequence[float]) -> Corners:
    across, down = points[::2], points[1::2]
    return min(across), min(down), max(across), max(down)


def _slack(words: Sequence[str]) -> float:
    """How far off a corner may be, in shares: a centre and half a side, each rounded."""
    digits = max(len(word.partition(".")[2]) for word in words)
    return 0.0 if "e" in "".join(words).lower() else 0.75 * 10.0**-digits


def _in_pixels(corners: Corners, size: Size, slack: float) -> Corners:
    """The corners in pixels. One that lies on a whole pixel, as far as the digits of the text can
    tell, is put there: six digits cannot say which pixel of 4,000 it was drawn on."""
    x0, y0, x1, y1 = (
        _on_pixel(share * side, slack * side)
        for share, side in zip(corners, (*size, *size), strict=True)
    )
    return x0, y0, x1, y1


def _on_pixel(value: float, slack: float) -> float:
    whole = round(value)
    return whole if abs(value - whole) <= min(slack, _MOST_SLACK) else rounded(value)


# Writing


def encode(truth: MarkedSet) -> Iterator[tuple[str, bytes]]:
    """The name and bytes of each text file for a set that fits, its pictures' sizes known."""
    labels = truth.every_label()
    numbers = {label: number for number, label in enumerate(labels)}
    names = {"train": "images", "val": "images", "names": dict(enumerate(labels))}
    yield "data.yaml", yaml.safe_dump(names, allow_unicode=True, sort_keys=False).encode()
    files = sorted((label_file(place_of(p.file, truth.path)), p.file) for p in truth.pictures)
    for (file, name), (other, another) in pairwise(files):
        if file == other:
            what = f"{truth.path}: YOLO has one label file for {name!r} and {another!r}"
            raise InputError(what, "rename one of them")
    for picture in truth.pictures:
        lines = "".join(f"{_line(mark, picture, numbers)}\n" for mark in picture.marks)
        yield label_file(place_of(picture.file, truth.path)), lines.encode()


def place_of(name: str, where: Path) -> str:
    """Where a picture stands in the written set: below a folder `images`."""
    inner = checking.inner_path(name, where)
    return inner if "images" in inner.split("/")[:-1] else f"images/{inner}"


def _line(mark: Mark, picture: MarkedPicture, numbers: Mapping[str, int]) -> str:
    assert mark.label is not None
    assert picture.width is not None
    assert picture.height is not None
    shares = (
        (mark.x0 + mark.x1) / 2 / picture.width,
        (mark.y0 + mark.y1) / 2 / picture.height,
        (mark.x1 - mark.x0) / picture.width,
        (mark.y1 - mark.y0) / picture.height,
    )
    # Digits enough that the corners come back; in plain decimals, for every reader.
    return " ".join([str(numbers[mark.label]), *(f"{share:.12f}" for share in shares)])
