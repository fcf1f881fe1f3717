"""The pictures that the page lists: which of them, with what boxes, with which thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nnst import archive, images, records, storage
from nnst.errors import ImageError, InputError
from nnst.ledger import Ledger
from nnst.records import OK
from nnst.report import thumbnails
from nnst.report.thumbnails import Sizes

Box = tuple[float, float, float, float, float, str]  # x0, y0, x1, y1, score, label
HeatOf = Callable[[bytes], bytes]  # a picture file -> PNG
Found = tuple[NDArray[np.float32], str]  # (5,) x0, y0, x1, y1, score; label
NUMBERS = ("x0", "y0", "x1", "y1", "score")
_PARTS = 256  # of the table, after which the best are picked


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """The page's budget and threshold. Counts are of the whole scan, whatever the budget."""

    thumbnails: int = 400  # pictures that get one, best score first
    thumbnail_side: int = 360  # longest side in pixels
    large: int = 60  # of these, the best that get a large one
    large_side: int = 800
    closeups: int = 3  # per picture: its best detections, cut from the picture at its own size
    closeup_side: int = 160
    heat: int = 0  # pictures with a map of the score, the best
    listed: int = 20_000  # pictures in the page's list; and as many that could not be looked at
    boxes: int = 50  # per picture
    quality: int = 78  # of JPEG, 1 to 100
    threshold: float | None = None  # at which the page opens and the CSV marks; None: the model's

    def __post_init__(self) -> None:
        budgets = (self.thumbnails, self.large, self.closeups, self.heat, self.listed, self.boxes)
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
    stored: Sequence[tuple[float, ...]] = ()  # corners of the boxes as in the table, for exports
    stored_size: tuple[int, int] | None = None  # width and height of the stored picture
    file: str = ""  # of the picture in the archive's folder, where that is not its name
    beside: Sequence[Box] | None = None  # another scan's, if there is one that has the picture
    heat: str = ""  # PNG in base64, to be laid over the thumbnail

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; not a deep copy, as `asdict` makes of each box."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


class Chosen:
    """The pictures that the page lists: the best score first, then those not looked at.

    Rows of `images` come part by part; hardly more than the list is ever held.
    """

    def __init__(self, limit: int, others: Mapping[str, float] | None = None) -> None:
        self.limit = limit
        self._others = others or {}  # by content: the best score of another scan
        self._looked: list[pa.Table] = []
        self._bad: list[pa.Table] = []

    def add(self, part: pa.Table) -> None:
        """Look at rows of `images`."""
        looked = pc.equal(part["status"], OK)
        self._looked.append(part.filter(looked))
        if sum(rows.num_rows for rows in self._bad) < self.limit:
            self._bad.append(part.filter(pc.invert(looked)))
        if len(self._looked) > _PARTS:
            self._looked = [self._best()]

    def _best(self) -> pa.Table:
        """The best so far; of equal scores the first."""
        rows = pa.concat_tables([records.IMAGES.empty_table(), *self._looked]).combine_chunks()
        scores = pc.fill_null(rows["score"], -1.0).to_numpy()
        if self._others:
            others = [self._others.get(key, -1.0) for key in rows["image_id"].to_pylist()]
            scores = np.maximum(scores, np.array(others, np.float32))
        return rows.take(np.argsort(-scores, kind="stable")[: self.limit])

    def listed(self) -> list[Listed]:
        """The list, as yet without boxes."""
        bad = pa.concat_tables([records.IMAGES.empty_table(), *self._bad]).slice(0, self.limit)
        return [Listed(**row) for row in pa.concat_tables([self._best(), bad]).to_pylist()]


class Gathered:
    """The detections of the listed pictures; rows of `detections` come part by part."""

    def __init__(self, listed: Sequence[Listed]) -> None:
        self._found: dict[str, list[Found]] = {picture.image: [] for picture in listed}
        self._names = pa.array(self._found, pa.string())

    def add(self, part: pa.Table) -> None:
        """Look at rows of `detections`."""
        part = part.filter(pc.is_in(part["image"], value_set=self._names))
        if not part.num_rows:
            return
        numbers = np.stack([part[name].to_numpy() for name in NUMBERS], axis=1)  # (N, 5)
        columns = part["image"].to_pylist(), numbers, part["label"].to_pylist()
        for image, row, label in zip(*columns, strict=True):
            self._found[image].append((row, label))

    def put_into(self, listed: Sequence[Listed], limit: int) -> list[Listed]:
        """The pictures with their best detections."""
        return [self._with_boxes(picture, limit) for picture in listed]

    def _with_boxes(self, picture: Listed, limit: int) -> Listed:
        found = sorted(self._found[picture.image], key=lambda each: -each[0][4])[:limit]
        return replace(
            picture,
            boxes=[(*short(row), label) for row, label in found],
            stored=[_exact(row) for row, _ in found],
            stored_size=None if picture.width is None else (picture.width, picture.height or 0),
        )


def _exact(row: NDArray[np.float32]) -> tuple[float, ...]:
    """x0, y0, x1, y1 in the fewest digits that keep them."""
    return tuple(float(str(value)) for value in row[:4])


def short(row: NDArray[np.float32]) -> tuple[float, float, float, float, float]:
    """x0, y0, x1, y1 to a hundredth of a pixel, and the score in the fewest digits that keep it."""
    x0, y0, x1, y1 = (round(float(value), 2) for value in row[:4])
    return x0, y0, x1, y1, float(str(row[4]))


def with_thumbnails(
    ledger: Ledger,
    listed: Sequence[Listed],
    settings: ReportSettings,
    heat_of: HeatOf | None = None,
) -> tuple[Sequence[Listed], list[str]]:
    """The pictures, the best of them with thumbnails, and what the reader must know about it.

    `heat_of` gives the map of the score of a picture file.
    """
    looked = [picture.image for picture in listed if picture.status == OK]
    ranks = {image: rank for rank, image in enumerate(looked[: settings.thumbnails])}
    if ranks and not storage.exists(ledger.source):
        return listed, [f"The archive {ledger.source} is gone, so there are no thumbnails."]
    inputs = ledger.inputs_of(list(ranks))
    shown, notes = {picture.image: picture for picture in listed}, []
    try:
        for member in archive.stream(ledger.source, inputs):  # one picture in memory at a time
            sizes = settings.sizes(ranks[member.image])
            picture = _with_thumbnail(shown[member.image], member.data, sizes)
            if (
                heat_of
                and member.data
                and picture.thumbnail
                and ranks[member.image] < settings.heat
            ):
                picture = replace(picture, heat=base64.b64encode(heat_of(member.data)).decode())
            shown[member.image] = picture
    except (InputError, OSError) as error:
        notes.append(f"The archive could not be read to its end: {error}.")
    if lost := sum(not shown[image].thumbnail for image in ranks):
        notes.append(f"Without a thumbnail, as gone or changed since the scan: {lost:,} pictures.")
    return list(shown.values()), notes


def _with_heat(picture: Listed, data: bytes | None, heat_of: HeatOf | None) -> Listed:
    """The picture with the map of its score, if it has a thumbnail for it to lie on."""
    if heat_of is None or data is None or not picture.thumbnail:
        return picture
    return replace(picture, heat=base64.b64encode(heat_of(data)).decode())


def _with_thumbnail(picture: Listed, data: bytes | None, sizes: Sizes) -> Listed:
    """The picture with its thumbnail; as it was if its bytes are not those of the scan."""
    if data is None or images.content_hash(data) != picture.image_id:
        return picture
    every = [*picture.boxes, *(picture.beside or ())]
    stored = np.array([box[:5] for box in every], dtype=np.float32).reshape(-1, 5)
    own = len(picture.boxes)
    try:  # closeups are of this scan's detections alone
        sizes = replace(sizes, closeups=min(sizes.closeups, own))
        thumbnail = thumbnails.cut(data, stored[:, :4], sizes)
    except ImageError:
        return picture
    turned = np.concatenate([thumbnail.boxes, stored[:, 4:]], axis=1)  # (N, 5)
    upright = [(*short(row), box[5]) for row, box in zip(turned, every, strict=True)]
    height, width = thumbnail.hw
    return replace(
        picture,
        width=width,
        height=height,
        boxes=upright[:own],
        beside=None if picture.beside is None else upright[own:],
        thumbnail=base64.b64encode(thumbnail.jpeg).decode(),
        closeups=[base64.b64encode(closeup).decode() for closeup in thumbnail.closeups],
    )
