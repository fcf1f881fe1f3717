"""What every door checks of strangers' files: numbers, names, and where the pictures lie."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nnst import storage
from nnst.errors import ImageError, InputError
from nnst.formats.truth import NUMBERS
from nnst.imglab import GENDERS, markup, picture_path
from nnst.imglab.truth import MAX_COORDINATE, MAX_NAME

_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TRIED = 20  # pictures, to find out where they lie

Number = int | float


def fault(where: object, what: object) -> InputError:
    """The error for a place in a file."""
    return InputError(f"{where}: {what}", "correct that place, or write the file again")


def number(value: object, where: object) -> Number:
    """A JSON number, or text that is one, whole ones as int. Raises InputError with the place."""
    found = math.nan
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        found = float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value) if abs(value) <= MAX_COORDINATE else math.inf
    if not abs(found) <= MAX_COORDINATE:  # nan too
        raise fault(where, f"{str(value)[:40]!r} is not a number up to {MAX_COORDINATE}")
    return int(found) if found.is_integer() else found


def side(value: object) -> int | None:
    """A side of a picture; None when it cannot be: the picture itself has the last word."""
    try:
        found = number(value, "")
    except InputError:
        return None
    return int(found) if found >= 1 and found == int(found) else None


def picture_name(name: object, where: object) -> str:
    """The name of a picture. Raises InputError for what no picture of ours is called."""
    if not isinstance(name, str) or not name.strip():
        raise fault(where, "no name of a picture")
    if len(name) > MAX_NAME:
        raise fault(where, f"a name of {len(name)} characters")
    if _CONTROL.search(name):
        raise fault(where, f"{name[:200]!r} holds a line break or another control character")
    try:
        return markup.characters(name)
    except ValueError as error:
        raise fault(where, error) from None


def label(text: object, where: object) -> str:
    """The text of a label. Raises InputError where it holds what no label of ours can."""
    if not isinstance(text, str) or _CONTROL.search(text.strip()):
        raise fault(where, f"{str(text)[:80]!r} is no label of one line")
    try:
        return markup.characters(text.strip())
    except ValueError as error:
        raise fault(where, error) from None


def inner_path(name: str, where: object) -> str:
    """The name as a path below a folder, with `/` between its parts. Raises InputError when it
    leads out of there, so that nothing is written or linked beside the folder."""
    parts = picture_name(name, where).replace("\\", "/").split("/")
    parts = [part for part in parts if part not in ("", ".")]
    outside = name[:1] in ("/", "\\") or ".." in parts or re.match(r"[a-zA-Z]:", name)
    if outside or not parts:
        what = f"{name[:200]!r} leaves the folder of the pictures"
        remedy = "name pictures relative to one folder, or trust the file: --set allow_outside=true"
        raise InputError(f"{where}: {what}", remedy)
    return "/".join(parts)


def details(attributes: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Of a box's attributes, those that imglab has a name for. Raises InputError for values that
    these cannot have."""
    found: dict[str, Any] = {
        key: float(number(attributes[key], where)) for key in NUMBERS if key in attributes
    }
    if "gender" in attributes:
        if attributes["gender"] not in GENDERS:
            raise fault(where, f"a gender of {str(attributes['gender'])[:40]!r}")
        found["gender"] = attributes["gender"]
    if "parts" in attributes:
        found["parts"] = _parts(attributes["parts"], where)
    return found


def _parts(parts: object, where: object) -> dict[str, list[int]]:
    """Points of a box by their names."""
    if not isinstance(parts, Mapping):
        raise fault(where, "parts that have no names")
    found = {}
    for name, point in parts.items():
        if not isinstance(point, list) or len(point) != 2:
            raise fault(where, f"the part {str(name)[:40]!r} is no point")
        found[str(name)] = [round(number(value, where)) for value in point]
    return found


def pictures_folder(
    names: Sequence[str], wanted: str, candidates: Sequence[Path], allow_outside: bool
) -> Path:
    """The folder that the names are relative to: the one that was given, else the first candidate
    that holds any of the first pictures, else the first candidate."""
    if wanted:
        if not os.path.isdir(wanted):
            raise InputError(f"no folder {wanted}", "give the folder of the pictures")
        return Path(wanted)
    for folder in candidates:
        for name in islice(names, _TRIED):
            try:
                picture_path(folder, name, allow_outside=allow_outside)
            except ImageError:
                continue
            return folder
    return candidates[0]


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a file. Raises InputError when they are more than `limit`, or cannot be read."""
    try:
        if storage.size(path) > limit:
            raise InputError(f"{path} is larger than {limit} bytes", "split it into several files")
        return storage.read(path, limit)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check its permissions") from None


def text(data: bytes, path: Path) -> str:
    """The bytes as text. Raises InputError when they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8", "save it as UTF-8") from None
