"""The pictures that the page lists: which of them, with what boxes, with which thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nnst import archive, images, storage
from nnst.errors import ImageError, InputError
from nnst.ledger import Ledger
from nnst.records import OK
from nnst.report import thumbnails
from nnst.report.thumbnails import Sizes

Box = tuple[float, float, float, float, float, str]  # x0, y0, x1, y1, score, label


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """The page's budget and threshold. Counts are of the whole scan, whatever the budget."""

    thumbnails: int = 400  # pictures that get one, best score first
    thumbnail_side: int = 360  # longest side in pixels
    large: int = 60  # of these, the best that get a large one
    large_side: int = 800
    closeups: int = 3  # per picture: its best detections, cut from the picture at its own size
    closeup_side: int = 160
    listed: int = 20_000  # pictures in the page's list; and as many that could not be looked at
    boxes: int = 50  # per picture
    quality: int = 78  # of JPEG, 1 to 100
    threshold: float | None = None  # at which the page opens and the CSV marks; None: the model's

    def __post_init__(self) -> None:
        budgets = self.thumbnails, self.large, self.closeups, self.listed, self.boxes
        if min(self.thumbnail_side, self.large_side, self.closeup_side) < 16 or min(budgets) < 0:
            raise ValueError("a report's sides start at 16 pixels, its other budgets at 0")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"a report's quality of JPEG is 1 to 100, not {self.quality}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"a report's threshold is 0 to 1, not {self.threshold}")

    def sizes(self, rank: int) -> Sizes:
        """The sizes of the small pictures made of the picture of this rank."""
        side = self.large_side if rank < self.large else self.thumbnail_side
        return Sizes(side, self.closeups, self.closeup_side, self.quality)


@dataclass(frozen=True, slots=True)
class Listed:
    """One picture of the page. Sizes and boxes are upright where there is a thumbnail."""

    image: str
    image_id: str | None
    status: str
    width: int | None
    height: int | None
    score: float | None
    detections: int  # of the scan; `boxes` may be fewer
    boxes: Sequence[Box] = ()  # best first
    thumbnail: str = ""  # JPEG in base64
    closeups: Sequence[str] = ()  # the same, of the first boxes

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; not a deep copy, as `asdict` makes of each box."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def choose(scanned: pa.Table, limit: int) -> list[Listed]:
    """The pictures that the page lists: the best score first, then those not looked at."""
    looked = scanned.filter(pc.equal(scanned["status"], OK))
    scores = pc.fill_null(looked["score"], -1.0).to_numpy()
    order = np.argsort(-scores, kind="stable")[:limit]
    bad = scanned.filter(pc.not_equal(scanned["status"], OK)).slice(0, limit)
    return [Listed(**row) for row in pa.concat_tables([looked.take(order), bad]).to_pylist()]


def with_boxes(ledger: Ledger, listed: Sequence[Listed], limit: int) -> list[Listed]:
    """The pictures with their best detections."""
    found: dict[str, list[Box]] = {picture.image: [] for picture in listed}
    names = pa.array(found, pa.string())
    numeric = ["x0", "y0", "x1", "y1", "score"]
    for part in ledger.parts("detections", ["image", *numeric, "label"]):
        part = part.filter(pc.is_in(part["image"], value_set=names))
        numbers = np.stack([part[name].to_numpy() for name in numeric], axis=1)  # (N, 5)
        columns = part["image"].to_pylist(), numbers, part["label"].to_pylist()
        for image, row, label in zip(*columns, strict=True):
            found[image].append((*_short(row), label))
    for boxes in found.values():
        boxes.sort(key=lambda box: -box[4])
    return [replace(picture, boxes=found[picture.image][:limit]) for picture in listed]


def _short(row: NDArray[np.float32]) -> tuple[float, float, float, float, float]:
    """x0, y0, x1, y1 to a hundredth of a pixel, and the score in the fewest digits that keep it."""
    x0, y0, x1, y1 = (round(float(value), 2) for value in row[:4])
    return x0, y0, x1, y1, float(str(row[4]))


def with_thumbnails(
    ledger: Ledger, listed: Sequence[Listed], settings: ReportSettings
) -> tuple[Sequence[Listed], list[str]]:
    """The pictures, the best of them with thumbnails, and what the reader must know about it."""
    looked = [picture.image for picture in listed if picture.status == OK]
    ranks = {image: rank for rank, image in enumerate(looked[: settings.thumbnails])}
    if ranks and not storage.exists(ledger.source):
        return listed, [f"The archive {ledger.source} is gone, so there are no thumbnails."]
    inputs = ledger.inputs()
    inputs = inputs.filter(pc.is_in(inputs["image"], value_set=pa.array(ranks, pa.string())))
    shown, notes = {picture.image: picture for picture in listed}, []
    try:
        for member in archive.stream(ledger.source, inputs):  # one picture in memory at a time
            sizes = settings.sizes(ranks[member.image])
            shown[member.image] = _with_thumbnail(shown[member.image], member.data, sizes)
    except (InputError, OSError) as error:
        notes.append(f"The archive could not be read to its end: {error}.")
    if lost := sum(not shown[image].thumbnail for image in ranks):
        notes.append(f"Without a thumbnail, as gone or changed since the scan: {lost:,} pictures.")
    return list(shown.values()), notes


def _with_thumbnail(picture: Listed, data: bytes | None, sizes: Sizes) -> Listed:
    """The picture with its thumbnail; as it was if its bytes are not those of the scan."""
    if data is None or images.content_hash(data) != picture.image_id:
        return picture
    stored = np.array([box[:5] for box in picture.boxes], dtype=np.float32).reshape(-1, 5)
    try:
        thumbnail = thumbnails.cut(data, stored[:, :4], sizes)
    except ImageError:
        return picture
    turned = np.concatenate([thumbnail.boxes, stored[:, 4:]], axis=1)  # (N, 5)
    height, width = thumbnail.hw
    return replace(
        picture,
        width=width,
        height=height,
        boxes=[(*_short(row), box[5]) for row, box in zip(turned, picture.boxes, strict=True)],
        thumbnail=base64.b64encode(thumbnail.jpeg).decode(),
        closeups=[base64.b64encode(closeup).decode() for closeup in thumbnail.closeups],
    )
