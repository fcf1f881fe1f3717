"""What is left when every address of a collection has its row: the archive, tars, imglab's XML.

All of it is made from the committed rows, and made again from them if it was cut short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from nnst import archive, imglab, records, storage, web
from nnst.errors import ImageError, InputError
from nnst.ledger import Ledger
from nnst.web import blobs, journal, stored
from workflows import fanout
from workflows.fanout import FanoutSettings
from workflows.progress import Progress

Row = dict[str, Any]

_TAR_PICTURES = 1000
_TAR_BYTES = 256 * 2**20
_XML = "collected"


def begin_pass(book: Ledger, retry_failed: bool, refresh: bool) -> int:
    """Open the shards with addresses to be fetched once more, and return how many these are.

    Every other row stays as it is. Nothing is open before the journals that say so are written.
    """
    again: dict[int, list[Row]] = {}
    for shard, rows in _rows_in_shards(book).items():
        if any(_is_again(row, retry_failed, refresh) for row in rows):
            again[shard] = rows
    for shard, rows in again.items():
        chosen = {row["url"]: _is_again(row, retry_failed, refresh) for row in rows}
        journal.seed(book.out, shard, rows, chosen)
    book.reopen(list(again))
    return sum(_is_again(row, retry_failed, refresh) for rows in again.values() for row in rows)


def _is_again(row: Row, retry_failed: bool, refresh: bool) -> bool:
    if row["status"] == records.OK:
        return refresh
    return retry_failed and row["status"] in web.RETRYABLE


def _rows_in_shards(book: Ledger) -> dict[int, list[Row]]:
    """The committed rows of each shard, times as numbers, as journals have them."""
    found = {}
    for shard, part in zip(book.receipts(), book.parts("pictures"), strict=True):
        at = part.schema.get_field_index("fetched")
        times = part.column("fetched").cast(pa.int64())
        found[shard] = part.set_column(at, "fetched", times).to_pylist()
    return found


def finish(book: Ledger, form: str, settings: FanoutSettings) -> None:
    """Write the archive of a committed collection, and remove what only its making needed."""
    if not stored.is_current(book):
        rows = stored.distinct(book)
        packed = stored.places(book.out)
        if form == "webdataset":
            packed |= _pack(book, [row for row in rows if row["image"] not in packed], settings)
        stored.write(book, rows, packed)
    if form == "webdataset":
        storage.remove(storage.join(book.out, blobs.FOLDER))
    storage.remove(storage.join(book.out, journal.FOLDER))


def _pack(book: Ledger, rows: Sequence[Row], settings: FanoutSettings) -> stored.Places:
    """Pack the pictures of these rows into further tars, and say where each of them lies."""
    first = 1 + max((_number(name) for name in _tars(book)), default=-1)
    tasks = dict(enumerate(_tables(rows), first))
    found: dict[str, tuple[str, int, str]] = {}
    with Progress("pack", len(rows)) as progress:
        work = partial(_pack_shard, book.out)
        for _, (tar, places) in fanout.run_tasks(work, tasks, settings, progress):
            found |= {image: (tar, offset, stamp) for image, offset, stamp in places}
            progress.advance(len(places))
    return found


def _tars(book: Ledger) -> set[str]:
    """The tars that the archive, as it was before, lies in."""
    return {container for container, _, _ in stored.places(book.out).values()}


def _number(tar: str) -> int:
    return int(Path(tar).name.partition("-")[0])


def _tables(rows: Sequence[Row]) -> list[pa.Table]:
    """The rows in lots of which each fills a tar."""
    lots: list[list[Row]] = []
    room, count = 0, 0
    for row in rows:
        if count == 0 or row["bytes"] > room:
            lots.append([])
            room, count = _TAR_BYTES, _TAR_PICTURES
        lots[-1].append(row)
        room, count = room - row["bytes"], count - 1
    return [pa.Table.from_pylist(lot, schema=records.COLLECTED) for lot in lots]


def _pack_shard(out: str, shard: int, inputs: pa.Table) -> tuple[str, list[tuple[str, int, str]]]:
    """Pack the pictures of these rows (records.COLLECTED) into the tar of this number."""
    return blobs.write_tar(out, shard, inputs.to_pylist())


def write_imglab(out: str, folder: str, comment: str) -> tuple[str, int]:
    """Copy the pictures that no XML in the folder names yet beside a new XML, for imglab to open
    and a person to draw on. The XML's path, "" if there is nothing new, and how many."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    known = _named(target)
    inputs = archive.plan(out).inputs
    new = inputs.filter(pa.array([name not in known for name in inputs["image"].to_pylist()]))
    if not new.num_rows:
        return "", 0
    sizes = _sizes(out)
    for member in archive.stream(out, new):
        if member.data is None:
            assert member.failure is not None
            raise ImageError(member.failure.reason, f"{member.image} of {out}")
        storage.put_quickly(target / member.image, member.data)
    storage.sync()
    names = new["image"].to_pylist()
    drawn = tuple(imglab.Image(name, (), *sizes[name]) for name in names)
    path = _free(target)
    imglab.write(imglab.Dataset(drawn, name=_XML, comment=comment, path=path), path)
    return str(path), len(names)


def _named(folder: Path) -> set[str]:
    """The pictures that the XML files of a folder name."""
    return {
        image.file for path in sorted(folder.glob("*.xml")) for image in imglab.read(path).images
    }


def _sizes(out: str) -> Mapping[str, tuple[int, int]]:
    table = stored.read(out, ["image", "width", "height"])
    return {row["image"]: (row["width"], row["height"]) for row in table.to_pylist()}


def _free(folder: Path) -> Path:
    """A name for a further XML: boxes may have been drawn in those that are there."""
    names = [f"{_XML}.xml", *(f"{_XML}-{number}.xml" for number in range(2, 10_000))]
    for name in names:
        if not (folder / name).exists():
            return folder / name
    raise InputError(f"{folder} holds {len(names)} XML files", "give another --imglab folder")
