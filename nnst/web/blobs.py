"""The bytes of collected pictures: files named by their hash, or tars of them (WebDataset)."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

from nnst import storage
from nnst.archive import tar_headers

FOLDER = "blobs"
TARS = "tars"

_SUFFIXES: Mapping[str, str] = {"jpeg": "jpg", "tiff": "tif"}  # others are called as their format
_TOLD = (
    *("url", "page", "source", "title", "creator", "attribution", "licence", "licence_url"),
    *("carried", "width", "height"),
)


def name_of(image_id: str, kind: str) -> str:
    """The file name of a picture: its hash, and its format as the bytes have it."""
    return f"{image_id}.{_SUFFIXES.get(kind, kind)}"


def path_of(name: str) -> str:
    """Where the file of this name lies below the output folder: in one of 256 folders, as one for
    nearly each picture would cost more than the picture."""
    return f"{FOLDER}/{name[:2]}/{name}"


def is_there(out: str, row: Mapping[str, Any]) -> bool:
    """Whether the file that a row names is there, as long as the row says."""
    try:
        return storage.size(_full_path(out, row["image"])) == row["bytes"]
    except OSError:
        return False


def write(out: str, name: str, data: bytes) -> None:
    """Keep the bytes, once however many addresses gave them. They last once `storage.sync` has
    returned."""
    if not is_there(out, {"image": name, "bytes": len(data)}):
        storage.put_quickly(_full_path(out, name), data)


def read(out: str, name: str) -> bytes:
    """The bytes of a file."""
    return storage.read(_full_path(out, name))


def remove(out: str, name: str) -> None:
    """Remove a file, if it is there."""
    storage.remove(_full_path(out, name))


def _full_path(out: str, name: str) -> str:
    return storage.join(out, *path_of(name).split("/"))


def write_tar(
    out: str, number: int, rows: Iterable[Mapping[str, Any]]
) -> tuple[str, list[tuple[str, int, str]]]:
    """Pack the files of these rows into a tar, and say what it is called below the output folder,
    and for each picture its name, offset and stamp in it.

    WebDataset's convention: `HASH.jpg` and `HASH.json` make one sample. The bytes depend on the
    rows and files alone.
    """
    places: list[tuple[str, int, str]] = []
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            start = sink.tell()
            _add(tar, row["image"], read(out, row["image"]))
            header = sink.getbuffer()[start : start + tar_headers.BLOCK].tobytes()
            stamp = tar_headers.stamp(header)
            places.append((row["image"], start + tar_headers.BLOCK, stamp))
            told = {name: row[name] for name in _TOLD if row.get(name) is not None}
            _add(tar, f"{row['image_id']}.json", storage.to_json(_unpacked(told)))
    data = sink.getvalue()
    name = f"{TARS}/{number:05d}-{storage.sha256(data)[:12]}.tar"
    storage.put(storage.join(out, *name.split("/")), data)
    return name, places


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, no owner
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _unpacked(told: dict[str, Any]) -> dict[str, Any]:
    """The facts with the carried columns as values, not as text."""
    if "carried" in told:
        told["carried"] = json.loads(told["carried"])
    return told
