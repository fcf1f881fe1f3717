"""Two scans of the same pictures beside each other: counts, and a page with what differs."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnst import archive, images, records, storage
from nnst.boxes import Boxes
from nnst.errors import ImageError, InputError
from nnst.evaluation.differences import Found, Pair, differ
from nnst.ledger import Ledger
from nnst.report import page, thumbnails
from nnst.report.thumbnails import Sizes

MOST_LISTED = 2000  # pictures on the page
_SIZES = Sizes(side=560, closeups=0, closeup_side=16, quality=78)
_CORNERS = ("x0", "y0", "x1", "y1")


@dataclass(frozen=True, slots=True)
class ComparedPicture:
    """A picture of both scans, and the logos that one or both found in it."""

    image: str  # as the first scan calls it
    image_id: str
    width: int
    height: int
    logos: tuple[Pair, ...]

    @property
    def differs(self) -> bool:
        """Whether one found what the other did not."""
        return any(pair.kind != "both" for pair in self.logos)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON knows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Compared:
    """All counts, and the pictures with a logo in either scan, those that differ most first."""

    counts: Mapping[str, Any]
    pictures: tuple[ComparedPicture, ...]


def compare(a: Ledger, b: Ledger, iou: float) -> Compared:
    """The pictures that both scans could look at, met by content. Raises InputError when a scan
    is not finished."""
    looked_a, looked_b = _looked_at(a), _looked_at(b)
    common = [image_id for image_id in looked_a if image_id in looked_b]
    found_a, found_b = _found(a, looked_a), _found(b, looked_b)
    pictures = []
    for image_id in common:
        mine, theirs = found_a.get(image_id), found_b.get(image_id)
        if mine is None and theirs is None:
            continue
        logos = differ(mine or _nothing(a), theirs or _nothing(b), iou)
        row = looked_a[image_id]
        if logos:
            pictures.append(
                ComparedPicture(row["image"], image_id, row["width"], row["height"], logos)
            )
    pictures.sort(key=_order)
    return Compared(_counts(looked_a, looked_b, pictures), tuple(pictures))


def _order(picture: ComparedPicture) -> tuple[int, float, str]:
    """More logos that only one found first, then larger changes of a score."""
    lonely = sum(pair.kind != "both" for pair in picture.logos)
    return -lonely, -max(abs(pair.change) for pair in picture.logos), picture.image


def _looked_at(book: Ledger) -> dict[str, Any]:
    """The row of each distinct picture that could be looked at, by its content."""
    rows: dict[str, Any] = {}
    for part in book.parts("images", ["image", "image_id", "width", "height", "status"]):
        for row in part.filter(pc.equal(part["status"], records.OK)).to_pylist():
            rows.setdefault(row["image_id"], row)
    return rows


def _found(book: Ledger, looked: Mapping[str, Any]) -> dict[str, Found]:
    """The detections of each picture that has some, by its content."""
    threshold = float(book.plan["identity"]["model"]["threshold"])
    found: dict[str, Found] = {}
    for table in book.parts("detections"):
        for image, rows in _by_image(table):
            image_id = rows["image_id"][0].as_py()
            if looked.get(image_id, {}).get("image") != image:
                continue  # a copy of the picture under another name
            boxes = np.stack([rows[name].to_numpy() for name in _CORNERS], axis=1)
            labels = np.array(rows["label"].to_pylist(), np.str_)
            found[image_id] = Found(boxes, rows["score"].to_numpy(), labels, threshold)
    return found


def _by_image(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each picture, which stand together in a part."""
    names = table["image"].to_pylist()
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        yield names[start], table.slice(start, end - start)


def _nothing(book: Ledger) -> Found:
    threshold = float(book.plan["identity"]["model"]["threshold"])
    none = np.zeros(0, np.float32)
    return Found(none.reshape(0, 4), none, np.zeros(0, np.str_), threshold)


def _counts(
    a: Mapping[str, Any], b: Mapping[str, Any], pictures: Sequence[ComparedPicture]
) -> dict[str, Any]:
    """Pictures, pictures with a logo and logos, of both scans and of one only."""
    shared = len(a.keys() & b.keys())
    logos = dict.fromkeys(("both", "a", "b"), 0)
    with_logo = dict.fromkeys(("both", "a", "b"), 0)
    changes = []
    for picture in pictures:
        kinds = {pair.kind for pair in picture.logos}
        with_logo["both" if "both" in kinds or len(kinds) > 1 else min(kinds)] += 1
        for pair in picture.logos:
            logos[pair.kind] += 1
            if pair.kind == "both":
                changes.append(pair.change)
    known = bool(changes)
    return {
        "pictures": {"both": shared, "a": len(a) - shared, "b": len(b) - shared},
        "found": with_logo,
        "logos": logos,
        "change": {
            "mean": round(float(np.mean(changes)), 4) if known else None,
            "least": round(min(changes), 4) if known else None,
            "most": round(max(changes), 4) if known else None,
        },
    }


def page_of(book: Ledger, document: Mapping[str, Any], compared: Compared, shown: int) -> bytes:
    """The page in one file; thumbnails are of the archive of this scan, as far as it is there."""
    listed = compared.pictures[:MOST_LISTED]
    pictures, notes = _with_thumbnails(book, listed, shown)
    if left := len(compared.pictures) - len(listed):
        notes.append(f"Counted, and not shown on this page: {left:,} more pictures.")
    data = {
        "title": f"{document['a']['name']} and {document['b']['name']} compared",
        **document,
        "notes": notes,
        "shown": pictures,
    }
    styles = ("report.css", "pictures.css", "colours.css", "compare.css")
    scripts = ("pictures.js", "compare.js")
    return page.assemble("compare.html", styles, scripts, data)


def _with_thumbnails(
    book: Ledger, listed: Sequence[ComparedPicture], shown: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The pictures as the page draws them, and what its reader must know."""
    drawn = {each.image: _drawn(each) for each in listed}
    wanted = pa.array([each.image for each in listed[:shown]], pa.string())
    if len(wanted) and not storage.exists(book.source):
        return list(drawn.values()), [f"The archive {book.source} is gone: no thumbnails."]
    inputs = book.inputs()
    inputs = inputs.filter(pc.is_in(inputs["image"], value_set=wanted))
    named, notes = {each.image: each for each in listed}, []
    try:
        for member in archive.stream(book.source, inputs):
            picture = named[member.image]
            if member.data is None or images.content_hash(member.data) != picture.image_id:
                continue
            drawn[member.image] |= _thumbnail(member.data, picture)
    except (InputError, OSError) as error:
        notes.append(f"The archive could not be read to its end: {error}.")
    if lost := sum(not drawn[image]["thumbnail"] for image in wanted.to_pylist()):
        notes.append(f"Without a thumbnail, as gone or changed since the scan: {lost:,} pictures.")
    return list(drawn.values()), notes


def _drawn(picture: ComparedPicture) -> dict[str, Any]:
    return {**picture.to_dict(), "differs": picture.differs, "thumbnail": ""}


def _thumbnail(data: bytes, picture: ComparedPicture) -> dict[str, Any]:
    """Thumbnail, size and boxes of the upright picture; nothing if it cannot be decoded."""
    stored: Boxes = np.array([pair.box for pair in picture.logos], np.float32).reshape(-1, 4)
    try:
        cut = thumbnails.cut(data, stored, _SIZES)
    except ImageError:
        return {}
    turned = [[round(float(side), 2) for side in box] for box in cut.boxes]
    logos = [asdict(pair) | {"box": box} for pair, box in zip(picture.logos, turned, strict=True)]
    height, width = cut.hw
    jpeg = base64.b64encode(cut.jpeg).decode()
    return {"width": width, "height": height, "logos": logos, "thumbnail": jpeg}
