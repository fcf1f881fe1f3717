"""Which format a file or folder has, told by a look at it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from nnst import storage
from nnst.errors import InputError

FORMATS = ("imglab", "voc", "coco", "yolo")
_HEAD_BYTES = 1 << 16
_FIRST_ELEMENT = re.compile(rb"<([A-Za-z_][\w.:-]*)")
_SUFFIXES = {".xml": "imglab", ".json": "coco"}
_READ = (".xml", ".txt", ".yaml", ".yml", ".names", ".labels")


def format_of(path: Path) -> str:
    """One of FORMATS. Raises InputError for a folder that is none; a file that is no other is left
    to imglab's reader, which says what is wrong with it."""
    if path.is_dir():
        return _format_of_folder(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return "yolo"
    try:
        head = storage.read(path, _HEAD_BYTES)
    except OSError:
        return "imglab"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return "coco"
    first = _FIRST_ELEMENT.search(head)
    return "voc" if first is not None and first[1] == b"annotation" else "imglab"


def _format_of_folder(path: Path) -> str:
    files = [entry.name.lower() for entry in storage.walk(path) if entry.kind == "file"]
    found = {
        "yolo": any(name.endswith((".yaml", ".yml", ".txt")) for name in files),
        "voc": any(name.endswith(".xml") for name in files),
        "coco": any(name.endswith(".json") for name in files),
    }
    names = [name for name, there in found.items() if there]
    if (path / "Annotations").is_dir():
        return "voc"  # whose ImageSets are text files
    if names in (["yolo"], ["voc"]):
        return names[0]
    remedy = "give a folder of VOC's XML or YOLO's text files, or a file of imglab or COCO itself"
    what = " and ".join(f"{name} files" for name in names) or "no annotations"
    raise InputError(f"{path} holds {what}", remedy)


def suffix_format(path: str | Path) -> str | None:
    """The format that a name asks for: imglab of .xml, coco of .json; None of any other."""
    return _SUFFIXES.get(Path(path).suffix.lower())


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file of annotations, or of the names and contents of all in a folder."""
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        path = path.parent
    if path.is_file():
        return storage.sha256(path.read_bytes())
    digest = hashlib.sha256()
    for entry in storage.walk(path):
        if entry.kind == "file" and entry.name.lower().endswith(_READ):
            digest.update(f"{entry.name} {storage.sha256(storage.read(entry.path))}\n".encode())
    return digest.hexdigest()
