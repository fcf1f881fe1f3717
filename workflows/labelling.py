"""What the page of nnst label asks for: pictures, their boxes, and to save what a person draws.

The truth lies in the file; a request changes one picture's entry, made on a version of it. Boxes
travel upright, as the person sees the picture, and are stored as imglab has them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import web

from nnst import archive, images, storage
from nnst.errors import ImageError
from nnst.images import Header
from nnst.imglab import Box, Image, Part, TruthFile, picture_path
from workflows.serving import Handler, picture, told

if TYPE_CHECKING:
    from nnst.detector import Detector

THUMBNAIL, VIEW = 128, 2048  # longest sides in pixels
MOST_BYTES = images.Limits().max_bytes

Row = dict[str, Any]


class Desk:
    """The pictures, in a fixed order, and the truth file that says what is on them."""

    def __init__(self, truth: TruthFile, files: Sequence[str], labels: Sequence[str]) -> None:
        self.truth = truth
        self.files = list(dict.fromkeys([*files, *(each.file for each in truth.dataset.images)]))
        self.labels = labels
        self.session = secrets.token_hex(8)  # the page's numbers of pictures hold for one
        self.proposer: Proposer | None = None
        self._lock = asyncio.Lock()

    def routes(self) -> list[tuple[str, str, Handler]]:
        """What the server answers."""
        return [
            ("GET", "state", self.state),
            ("GET", "pulse", self.pulse),
            ("GET", r"pictures/{index:\d+}", self.entry),
            ("GET", r"pictures/{index:\d+}/{size:thumb|view|whole}.jpg", self.shown),
            ("GET", r"pictures/{index:\d+}/proposals", self.proposals),
            ("PUT", "entry", self.save),
        ]

    async def state(self, request: web.Request) -> web.Response:
        """All pictures by name, and how many boxes each has; null where nobody has looked."""
        await self._refresh()
        entries = [self.truth.entry(file) for file in self.files]
        document = {
            "session": self.session,
            "revision": self.truth.revision,
            "path": str(self.truth.path),
            "files": self.files,
            "boxes": [entry and len(entry.boxes) for entry in entries],
            "labels": self._labels(),
            "proposes": self.proposer is not None,
            "warnings": list(self.truth.dataset.warnings[:5]),
        }
        return told(document)

    async def pulse(self, request: web.Request) -> web.Response:
        """Whether the server is there, and whether another program has written the file."""
        await self._refresh()
        return told({"session": self.session, "revision": self.truth.revision})

    async def entry(self, request: web.Request) -> web.Response:
        """One picture: its size upright, and its boxes."""
        file = self._file(request)
        return told(await asyncio.to_thread(self._told, file))

    async def shown(self, request: web.Request) -> web.Response:
        """One picture as a JPEG, upright."""
        sides = {"thumb": THUMBNAIL, "view": VIEW, "whole": 0}
        data = await asyncio.to_thread(self._bytes, self._file(request))
        side = sides[request.match_info["size"]]
        return picture(await asyncio.to_thread(images.encode_view, data, side))

    async def proposals(self, request: web.Request) -> web.Response:
        """What the model finds in a picture, best first."""
        file = self._file(request)
        if self.proposer is None:
            return told({"boxes": []})
        data = await asyncio.to_thread(self._bytes, file)
        return told({"boxes": await self.proposer.boxes(data)})

    async def save(self, request: web.Request) -> web.Response:
        """Save one picture's entry: 200 with its new version, or 409 with the entry as it is."""
        wanted = json.loads(await request.read())
        file, base = str(wanted["file"]), str(wanted["base"])
        if file not in self.files:
            raise ValueError(f"no picture {file[:200]!r}")
        async with self._lock:
            saved = await asyncio.shield(asyncio.to_thread(self._change, file, wanted, base))
        document = await asyncio.to_thread(self._told, file)
        return told(document, 200 if saved else 409)

    async def _refresh(self) -> None:
        async with self._lock:
            await asyncio.to_thread(self.truth.refresh)
        known = set(self.files)
        self.files += [each.file for each in self.truth.dataset.images if each.file not in known]

    def _change(self, file: str, wanted: Mapping[str, Any], base: str) -> bool:
        header = self._header(file)
        entry = None
        if wanted["listed"]:
            boxes = _stored(wanted["boxes"], header)
            size = {"width": header.width, "height": header.height} if header else {}
            known = self.truth.entry(file)
            if known and known.width is not None:
                size = {"width": known.width, "height": known.height or 0}
            entry = Image(file, boxes, **size)
        return self.truth.change(file, entry, base)

    def _told(self, file: str) -> Row:
        """What the page knows of a picture."""
        reason, header = "", None
        try:
            header = images.check(self._bytes(file))
        except ImageError as error:
            reason = str(error)
        entry = self.truth.entry(file)
        hw = _upright_hw(header)
        return {
            "file": file,
            "reason": reason,
            "width": hw[1],
            "height": hw[0],
            "listed": entry is not None,
            "boxes": _upright(entry.boxes, header) if entry else [],
            "version": self.truth.version(file),
            "revision": self.truth.revision,
        }

    def _header(self, file: str) -> Header | None:
        try:
            return images.check(self._bytes(file))
        except ImageError:
            return None

    def _bytes(self, file: str) -> bytes:
        """The picture's file. Raises ImageError, also for a name that leaves the folder."""
        outside = self.truth.dataset.allow_outside
        path = picture_path(self.truth.path.parent, file, allow_outside=outside)
        try:
            return storage.read(path, MOST_BYTES + 1)
        except OSError as error:
            raise ImageError("unreadable", error.strerror or "") from None

    def _file(self, request: web.Request) -> str:
        index = int(request.match_info["index"])
        if index >= len(self.files):
            raise web.HTTPNotFound
        return self.files[index]

    def _labels(self) -> list[str]:
        """The labels to choose from: those that were given, then the file's in their order."""
        used = [box.label for each in self.truth.dataset.images for box in each.boxes]
        return list(dict.fromkeys([*self.labels, *(label for label in used if label)]))


class Proposer:
    """A model that says where it sees a logo; one picture at a time."""

    def __init__(self, folder: str, digest: str) -> None:
        self._folder, self._digest = folder, digest
        self._lock = asyncio.Lock()
        self._known: dict[str, list[Row]] = {}

    async def boxes(self, data: bytes) -> list[Row]:
        """What is found in a picture at the model's threshold, upright, best first."""
        key = images.content_hash(data)
        async with self._lock:
            if key not in self._known:
                self._known[key] = await asyncio.to_thread(self._find, data)
        return self._known[key]

    def _find(self, data: bytes) -> list[Row]:
        detector = self._detector()
        found = images.decode(data, reduction=detector.reduction)
        detections = detector.detect_stored(found)
        kept = detections[detections.scores >= np.float32(detector.spec.threshold)]
        stored = np.rint(kept.boxes.astype(np.float64)).astype(int)
        boxes = [
            Box(x0, y0, max(1, x1 - x0), max(1, y1 - y0), detector.spec.labels[label])
            for (x0, y0, x1, y1), label in zip(stored.tolist(), kept.labels.tolist(), strict=True)
        ]
        told = _upright(boxes, found.header)
        return [
            row | {"score": round(score, 4)}
            for row, score in zip(told, kept.scores.tolist(), strict=True)
        ]

    def _detector(self) -> Detector:
        from nnst.detector import load_detector

        return load_detector(self._folder, self._digest)


def files_of(source: str, truth: Path) -> tuple[list[str], list[str]]:
    """The pictures of an archive that are files of their own, as a truth file names them, and what
    is left out. Names only: no picture is opened."""
    inputs = archive.plan(source).inputs
    folder = source if os.path.isdir(source) else os.path.dirname(source)
    below = os.path.relpath(folder, truth.parent)
    prefix = "" if below == "." else f"{below}/"
    files, left_out = [], []
    columns = (inputs[name].to_pylist() for name in ("image", "container", "offset"))
    for image, container, offset in zip(*columns, strict=True):
        name = container or image
        if offset >= 0 or ("\\" in name and not os.path.exists(f"{folder}/{name}")):
            left_out.append(image)
        else:
            files.append(prefix + name)
    return files, left_out


def _upright_hw(header: Header | None) -> tuple[int, int]:
    if header is None:
        return 0, 0
    return images.upright_hw((header.height, header.width), header.orientation)


def _upright(boxes: Sequence[Box], header: Header | None) -> list[Row]:
    """The boxes as the page has them: all their fields, their sides upright."""
    corners = [(b.left, b.top, b.left + b.width, b.top + b.height) for b in boxes]
    array = np.array(corners, np.float32).reshape(-1, 4)
    if header:
        array = images.boxes_upright(array, (header.height, header.width), header.orientation)
    return [
        dataclasses.asdict(box) | _sides(sides)
        for box, sides in zip(boxes, array.tolist(), strict=True)
    ]


def _stored(rows: Sequence[Mapping[str, Any]], header: Header | None) -> tuple[Box, ...]:
    """The page's boxes as the file has them. Raises ValueError for what cannot be one."""
    corners = [(r["left"], r["top"], r["left"] + r["width"], r["top"] + r["height"]) for r in rows]
    array = np.array(corners, np.float32).reshape(-1, 4)
    if header:
        array = images.boxes_stored(array, (header.height, header.width), header.orientation)
    names = {field.name for field in dataclasses.fields(Box)}
    boxes = []
    for row, sides in zip(rows, array.tolist(), strict=True):
        fields = {name: value for name, value in row.items() if name in names}
        parts = tuple(Part(**part) for part in row.get("parts") or ())
        boxes.append(Box(**fields | _sides(sides) | {"parts": parts}))
    return tuple(boxes)


def _sides(corners: Sequence[float]) -> dict[str, int]:
    x0, y0, x1, y1 = (round(value) for value in corners)
    return {"left": x0, "top": y0, "width": x1 - x0, "height": y1 - y0}


def is_truth(path: str) -> bool:
    """Whether the path is that of an imglab file rather than of pictures."""
    return path.lower().endswith(".xml")
