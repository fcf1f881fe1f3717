"""What lies at a source: which kind of archive it is, and the members found in it."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from nnst import records, storage
from nnst.archive import folder, members, parquet, tar
from nnst.archive import zip as zip_
from nnst.archive.members import Place, Row, Stretch
from nnst.errors import InputError
from nnst.ledger import Ledger
from nnst.storage import Entry

_WHAT_TO_GIVE = "give a folder of pictures, a tar, zip or Parquet file, or one picture"
_HEAD_BYTES = 512  # a tar header

STORED_FILE = "stored.parquet"  # of a collection: every distinct picture once (records.STORED)
STORED_KEY = b"nnst.receipts_sha256"  # in its metadata: which state of the collection it tells of


def find(source: str) -> list[Stretch]:
    """The members of an archive, container by container. Raises InputError, OSError."""
    if not storage.exists(source):
        raise InputError(f"there is no file or folder {source}", "check the path")
    if not storage.is_folder(source):
        return _in_file(source)
    if storage.exists(storage.join(source, "plan", "inputs.parquet")):
        return _in_ledger(source)
    return _in_folder(source, list(storage.walk(source)))


def _in_folder(source: str, entries: Sequence[Entry]) -> list[Stretch]:
    """Pictures of a folder or, where there are none, those in its tar or else its Parquet files."""
    packs, find_in_pack = _ending(entries, tar.SUFFIXES), _in_tar
    if not packs:
        packs, find_in_pack = _ending(entries, parquet.SUFFIXES), _in_parquet
    left = {entry.name for entry in packs}
    pictures = folder.find([entry for entry in entries if entry.name not in left])
    if pictures.rows or not packs:
        for entry in packs:
            pictures.skip(Row(entry.name, "", -1, 0, ""))
        return [pictures]
    found = [pictures]
    for entry in packs:
        place = Place(entry.name, entry.name, f"{entry.name}/")
        with storage.open_stream(entry.path) as stream:
            found += find_in_pack(stream, place)
    return found


def _ending(entries: Sequence[Entry], suffixes: tuple[str, ...]) -> list[Entry]:
    files = [entry for entry in entries if entry.kind == "file"]
    return [entry for entry in files if entry.name.lower().endswith(suffixes)]


def _in_tar(stream: IO[bytes], place: Place) -> list[Stretch]:
    """The pictures of a tar; what keeps its rest from being listed becomes a row of its own."""
    stretch = tar.find(stream, place)
    if stretch.damage is not None:
        lost = Row(place.name, place.container, 0, 0, "", stretch.damage.reason)
        stretch.rows.append(lost)
    return [stretch]


def _in_parquet(stream: IO[bytes], place: Place) -> list[Stretch]:
    return parquet.find(stream, place)


def _in_ledger(source: str) -> list[Stretch]:
    """The rows of the table `pictures` of an output folder."""
    ledger = Ledger.open(source)
    verb = ledger.plan["identity"]["verb"]
    if verb == "scan":
        raise InputError(
            f"{source} holds a scan, not pictures", f"give the archive it scanned: {ledger.source}"
        )
    if not ledger.is_done():
        raise InputError(
            f"{source} is not finished", f"run the same nnst {verb} again; it does what is missing"
        )
    if verb == "collect":
        return _in_collection(ledger)
    found = []
    for receipt in ledger.receipts().values():
        for file in receipt.files:
            if file.table == "pictures":
                container = f"pictures/{file.name}"
                with storage.open_stream(storage.join(source, container)) as stream:
                    found += parquet.find(stream, Place(container, container))
    return found


def _in_collection(ledger: Ledger) -> list[Stretch]:
    """The pictures that a collection stored, each once: files, or members of its tars."""
    path = storage.join(ledger.out, STORED_FILE)
    success = storage.read_json(storage.join(ledger.out, "_SUCCESS"))
    data = storage.read(path) if storage.exists(path) else b""
    table = pq.read_table(pa.BufferReader(data)) if data else records.STORED.empty_table()
    state = (table.schema.metadata or {}).get(STORED_KEY, b"").decode()
    if state != success["receipts_sha256"]:
        raise InputError(
            f"{ledger.out} is not finished", "run the same nnst collect again; it does what is left"
        )
    found: dict[str, Stretch] = {}
    for row in table.select([field.name for field in dataclasses.fields(Row)[:-1]]).to_pylist():
        container = row["container"] if row["offset"] >= 0 else ""
        found.setdefault(container, Stretch()).add(Row(**row), None)
    return list(found.values())


def _in_file(source: str) -> list[Stretch]:
    place = Place("", posixpath.basename(source.replace("\\", "/")))
    with storage.open_stream(source) as stream:
        head = stream.read(_HEAD_BYTES)
        stream.seek(0)
        if head.startswith(zip_.MAGICS):
            return [zip_.find(stream, place)]
        if head.startswith(parquet.MAGIC):
            return parquet.find(stream, place)
        if head.startswith(tar.GZIP_MAGIC) or tar.is_tar(head):
            return _in_single_tar(stream, place, source)
    if members.named_like_picture(source) or members.begins_like_picture(head):
        return [_single_picture(source, place.name)]
    what = "is no archive that nnst can read" if head else "is empty"
    raise InputError(f"{source} {what}", _WHAT_TO_GIVE)


def _in_single_tar(stream: IO[bytes], place: Place, source: str) -> list[Stretch]:
    found = _in_tar(stream, place)
    if found[0].damage is not None and len(found[0].rows) == 1:
        raise InputError(
            f"cannot read {source} as a tar file: {found[0].damage.detail}",
            "fetch or pack it again, or unpack it and give the folder",
        )
    return found


def _single_picture(source: str, name: str) -> Stretch:
    """One picture as an archive of its own; its content is what tells a change."""
    stretch = Stretch()
    data = storage.read(source, members.MAX_BYTES + 1)
    row = Row(name, "", -1, storage.size(source), storage.sha256(data))
    stretch.add(row, lambda: data[: members.HEAD_BYTES])
    return stretch
