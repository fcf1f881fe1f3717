"""The verdicts of a review as an imglab file, with its pictures where the file names them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnst import images, imglab, records, storage
from nnst.errors import ImageError, InputError
from nnst.ledger import Ledger
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    from nnst.review import Reviewed, VerdictLog


def write(book: Ledger, log: VerdictLog, out: str, options: Options) -> Outcome:
    """Write the XML; and beside it the names of the pictures that nobody looked at.

    Only pictures with a verdict are listed: one that is listed without a box counts as looked at.
    A picture that is no file below the XML's folder is copied beside it.
    """
    from nnst import review

    path = Path(os.path.abspath(os.path.expanduser(out)))
    detections = book.read("detections")
    verdicts = log.on(detections)
    found = review.reviewed(detections, verdicts)
    if not found:
        raise InputError(f"{book.out} has no verdict yet", f"run nnst review {book.out} first")
    if path.exists() and not options.fresh:
        raise InputError(f"{path} is there already", "give another name, or --fresh to replace it")
    if options.dry_run:
        return Outcome({"pictures": len(found)}, f"would write {len(found)} pictures to {path}")
    entries, gone = _entries(book, found, path)
    unseen = _unseen(book, {each.image for each in found})
    aside = path.with_name(f"{path.stem}-unseen.txt")
    storage.put(aside, "".join(f"{name}\n" for name in unseen).encode())
    comment = (
        f"from the review of {os.path.basename(book.out)}; {len(unseen)} pictures of the scan were "
        f"not looked at, and are named in {aside.name}"
    )
    imglab.write(imglab.Dataset(tuple(entries), "reviewed", comment), path)
    document = _document(entries, gone, unseen) | {"truth": str(path), "unseen_list": str(aside)}
    return Outcome(document, _describe(document, gone))


def _entries(
    book: Ledger, found: Sequence[Reviewed], path: Path
) -> tuple[list[imglab.Image], list[str]]:
    """The images of the XML, and the pictures that could not be brought there, with the reason."""
    from workflows.reviewing import member_bytes

    inputs = book.inputs()
    places = {name: row for row, name in enumerate(inputs["image"].to_pylist())}
    entries, gone = [], []
    for each in found:
        row = inputs.slice(places[each.image], 1).to_pylist()[0]
        try:
            data = member_bytes(book, inputs, places[each.image])
            if storage.sha256(data) != each.image_id:
                raise ImageError("unreadable", "the picture has changed since the scan")
            header = images.check(data)
            file = _file_below(book, row, path) or _copied(each, data, header.format, path)
        except ImageError as error:
            gone.append(f"{each.image}: {error}")
            continue
        entries.append(imglab.Image(file, each.boxes, header.width, header.height))
    return entries, gone


def _file_below(book: Ledger, row: Mapping[str, Any], path: Path) -> str:
    """The picture's name from the XML's folder, if it is a file there; else ""."""
    if row["offset"] >= 0 or storage.is_remote(book.source):
        return ""
    place = Path(book.source, row["container"]) if row["container"] else Path(book.source)
    real = Path(os.path.realpath(place))
    if not real.is_relative_to(os.path.realpath(path.parent)) or not place.exists():
        return ""
    return os.path.relpath(place, path.parent).replace(os.sep, "/")


def _copied(picture: Reviewed, data: bytes, kind: str, path: Path) -> str:
    """The name of the copy beside the XML: by content, so that it cannot be another picture."""
    name = f"{path.stem}-pictures/{picture.image_id[:32]}.{kind}"
    storage.put(path.parent / name, data)
    return name


def _unseen(book: Ledger, seen: set[str]) -> list[str]:
    rows = book.read("images", ["image", "status"]).to_pylist()
    return [r["image"] for r in rows if r["status"] == records.OK and r["image"] not in seen]


def _document(
    entries: Sequence[imglab.Image], gone: Sequence[str], unseen: Sequence[str]
) -> dict[str, Any]:
    from nnst.review import NEGATIVE

    boxes = [box for entry in entries for box in entry.boxes]
    return {
        "pictures": len(entries),
        "confirmed": sum(not box.ignore and box.label != NEGATIVE for box in boxes),
        "refused": sum(not box.ignore and box.label == NEGATIVE for box in boxes),
        "ignored": sum(box.ignore for box in boxes),
        "gone": len(gone),
        "unseen": len(unseen),
    }


def _describe(document: Mapping[str, Any], gone: Sequence[str]) -> str:
    from nnst.review import NEGATIVE

    flag = f" --negative-label {NEGATIVE}" if document["refused"] else ""
    lines = [
        f"{document['pictures']:,} pictures: {document['confirmed']:,} boxes confirmed, "
        f"{document['refused']:,} refused ({NEGATIVE}), {document['ignored']:,} ignored, as nobody "
        "has said what they are",
        f"{document['unseen']:,} pictures that nobody looked at: {document['unseen_list']}",
        *(f"note: left out: {line}" for line in gone[:5]),
        f"truth: {document['truth']}",
        f"next:  nnst crop {document['truth']} --out MORE --beside CROPS{flag}",
        "       nnst train CROPS MORE --name NAME",
    ]
    return "\n".join(lines)
