"""What the page of nnst review asks for: detections in order, and to keep what a person says."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from aiohttp import web

from nnst import archive, images, review, storage
from nnst import boxes as boxes_
from nnst.errors import ImageError
from nnst.evaluation.results import plain
from nnst.ledger import Ledger
from nnst.review import Order, VerdictLog
from workflows.serving import Handler, picture, told

CLOSE, WHOLE = 720, 1600  # longest sides in pixels
CONTEXT = 0.8  # of a box's sides, shown around it on each side
BATCH = 12  # detections that are told of at once
TREND = 30  # points of the curves, of what was said before the page was opened
KEPT = 24  # picture files in memory


class Desk:
    """A scan's detections, the order to ask in, and the log of what was said."""

    def __init__(self, book: Ledger, order: Order, log: VerdictLog, who: str) -> None:
        self.book, self.order, self.log, self.who = book, order, log, who
        self.session = secrets.token_hex(8)
        self.table = book.read("detections").combine_chunks()
        self.scores = self.table["score"].to_numpy()
        self.verdicts = log.on(self.table)
        self.model = book.plan["identity"]["model"]
        self.trend = self._trend()
        self._inputs = book.inputs()
        self._places = {name: row for row, name in enumerate(self._inputs["image"].to_pylist())}
        self._data: OrderedDict[str, bytes] = OrderedDict()
        self._lock = asyncio.Lock()

    def routes(self) -> list[tuple[str, str, Handler]]:
        """What the server answers."""
        return [
            ("GET", "state", self.state),
            ("GET", r"cards/{position:\d+}", self.cards),
            ("GET", r"rows/{row:\d+}/{size:close|whole}.jpg", self.shown),
            ("PUT", "verdict", self.say),
        ]

    def summary(self) -> dict[str, Any]:
        """How far it is, and what follows from it."""
        return dict(plain(dataclasses.asdict(self.figures())))

    def figures(self) -> review.Figures:
        """Precision and recall, as far as the verdicts tell."""
        return review.figures(self.order, self.scores, self.verdicts)

    def _trend(self) -> list[dict[str, Any]]:
        """The figures as they were after some of the verdicts, at even distances."""
        said = list(self.verdicts.items())
        steps = sorted({round(len(said) * step / TREND) for step in range(TREND)} - {len(said)})
        before = [review.figures(self.order, self.scores, dict(said[:count])) for count in steps]
        return [_point(each) for each in [*before, self.figures()]]

    async def state(self, request: web.Request) -> web.Response:
        """The scan, and where a person left off."""
        rows = self.order.rows.tolist()
        first = next((at for at, row in enumerate(rows) if row not in self.verdicts), len(rows))
        return told(
            {
                "session": self.session,
                "scan": self.book.out,
                "archive": self.book.source,
                "model": str(self.table["model"][0]) if len(rows) else self.model["name"],
                "threshold": float(self.model["threshold"]),
                "detections": len(rows),
                "first": first,
                "who": self.who,
                "figures": self.summary(),
                "trend": self.trend,
            }
        )

    async def cards(self, request: web.Request) -> web.Response:
        """Some detections from a position of the order on: where they lie, upright, and why now."""
        start = int(request.match_info["position"])
        rows = self.order.rows[start : start + BATCH].tolist()
        made = [await asyncio.to_thread(self._card, row) for row in rows]
        return told({"session": self.session, "cards": made})

    async def shown(self, request: web.Request) -> web.Response:
        """The detection with what is around it, or its whole picture, as a JPEG."""
        row = int(request.match_info["row"])
        if row >= self.table.num_rows:
            raise web.HTTPNotFound
        return picture(await asyncio.to_thread(self._jpeg, row, request.match_info["size"]))

    async def say(self, request: web.Request) -> web.Response:
        """Keep a verdict. The answer comes when it is on the disk, with what follows from it."""
        wanted = json.loads(await request.read())
        row, verdict = int(wanted["row"]), str(wanted["verdict"])
        if not 0 <= row < self.table.num_rows:
            raise ValueError(f"no detection {row}")
        detection = self.table.slice(row, 1).to_pylist()[0]
        if wanted["image_id"] != detection["image_id"]:
            raise ValueError("this page shows another scan")
        when = datetime.now(UTC).isoformat(timespec="seconds")
        async with self._lock:
            keep = asyncio.to_thread(self.log.append, detection, verdict, self.who, when)
            await asyncio.shield(keep)
            self.verdicts.pop(row, None)
            if verdict in review.VERDICTS:
                self.verdicts[row] = verdict
            self.trend.append(_point(self.figures()))
        return told({"figures": self.summary()})

    def _card(self, row: int) -> dict[str, Any]:
        found = self.table.slice(row, 1).to_pylist()[0]
        card = {
            "row": row,
            "image": found["image"],
            "image_id": found["image_id"],
            "score": round(found["score"], 4),
            "label": found["label"],
            "verdict": self.verdicts.get(row),
            "above": bool(self.order.above[row]),
            "why": self._why(row),
            "reason": "",
        }
        try:
            return card | self._area(found)
        except ImageError as error:
            return card | {"reason": str(error)}

    def _why(self, row: int) -> list[str]:
        reasons = []
        if self.order.disputed[row]:
            reasons.append("the other scan disagrees")
        if self.order.unusual[row]:
            reasons.append("unusual size")
        if abs(float(self.scores[row]) - float(self.model["threshold"])) < 0.1:
            reasons.append("near the threshold")
        return reasons

    def _area(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The box and the frame around it in the upright picture, and its size."""
        header = images.check(self._bytes(found))
        stored = np.array([[found[side] for side in ("x0", "y0", "x1", "y1")]], np.float32)
        stored_hw = (header.height, header.width)
        box = images.boxes_upright(stored, stored_hw, header.orientation)
        hw = images.upright_hw(stored_hw, header.orientation)
        sides = boxes_.size_hw(box)[:, ::-1]
        margin = np.tile(np.maximum(sides * CONTEXT, 12), (1, 2)) * np.array([-1, -1, 1, 1])
        frame = np.rint(boxes_.clip((box + margin).astype(np.float32), hw)).astype(int)[0]
        frame[:2] = np.minimum(frame[:2], np.array(hw)[::-1] - 1)
        frame[2:] = np.maximum(frame[2:], frame[:2] + 1)
        return {
            "width": hw[1],
            "height": hw[0],
            "box": [round(float(side), 2) for side in box[0]],
            "frame": frame.tolist(),
        }

    def _jpeg(self, row: int, size: str) -> bytes:
        found = self.table.slice(row, 1).to_pylist()[0]
        data = self._bytes(found)
        if size == "whole":
            return images.encode_view(data, WHOLE)
        x0, y0, x1, y1 = self._area(found)["frame"]
        return images.encode_part(data, (x0, y0, x1, y1), CLOSE)

    def _bytes(self, found: Mapping[str, Any]) -> bytes:
        """The picture's file. Raises ImageError, also where it is not what was scanned."""
        content = found["image_id"]
        if content not in self._data:
            data = member_bytes(self.book, self._inputs, self._places[found["image"]])
            if storage.sha256(data) != content:
                raise ImageError("unreadable", "the picture has changed since the scan")
            self._data[content] = data
            while len(self._data) > KEPT:
                self._data.popitem(last=False)
        return self._data[content]


def _point(figures: review.Figures) -> dict[str, Any]:
    """A point of the curves that show how the estimates change."""
    point = {"looked_at": figures.looked_at}
    return point | {
        name: plain(dataclasses.asdict(getattr(figures, name))) for name in ("precision", "recall")
    }


def member_bytes(book: Ledger, inputs: Any, place: int) -> bytes:
    """The bytes of one planned picture. Raises ImageError."""
    for member in archive.stream(book.source, inputs.slice(place, 1)):
        if member.data is not None:
            return member.data
        if member.failure is not None:
            raise ImageError(member.failure.reason, member.failure.detail)
    raise ImageError("missing", "it is not in the archive any more")
