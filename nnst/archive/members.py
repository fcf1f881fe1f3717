"""What all kinds of archive share: a row a member, what counts as a picture, names, shards."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from nnst import records
from nnst.errors import ImageError
from nnst.images.headers import HEAD, SUFFIXES, sniff
from nnst.records import Failure

MAX_BYTES = 64 << 20  # of one member; no camera writes more
MAX_RATIO = 200  # inflated over packed bytes; deflate reaches 1,032 on zeros
HEAD_BYTES = HEAD

_DOCUMENTS = frozenset({"html", "xml", "pdf", "eps"})  # known by their first bytes, no pictures

# A stretch that can only be read from its start is cut into this many shards at most, as each of
# them reads all that lies before its own rows.
_SHARDS_OF_A_SEQUENCE = 16
_DRIVE = re.compile(r"[A-Za-z]:")
_PLAIN_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
# Control characters, line separators and lone surrogates (bytes of a name that are not UTF-8).
_NOT_SHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `records.INPUTS` without its shard."""

    image: str
    container: str
    offset: int
    bytes: int
    stamp: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """The bytes of one planned picture, or why there are none."""

    image: str
    data: bytes | None
    failure: Failure | None = None


Reader = Callable[[Row], bytes]
"""Gives the bytes of a row of an open container; raises ImageError, OSError."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file that holds members: its path below the source, and how it and they are shown."""

    container: str
    name: str
    prefix: str = ""  # of its members' names, where several containers make up the archive


@dataclass(slots=True)
class Stretch:
    """The members found in one container, in its own order, with what was left out."""

    rows: list[Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    sequential: bool = False  # cannot be entered in the middle
    damage: ImageError | None = None  # what kept the rest of the container from being listed

    def add(self, row: Row, head: Callable[[], bytes] | None = None) -> None:
        """Keep the member if it looks like a picture by its name or, where `head` gives the first
        bytes, by those; count it as skipped otherwise."""
        if row.reason != "unsafe_path" and is_hidden(row.image):
            self.skipped["hidden"] += 1
        elif named_like_picture(row.image) or (head is not None and begins_like_picture(head())):
            too_big = row.reason is None and row.bytes > MAX_BYTES
            self.rows.append(dataclasses.replace(row, reason="too_many_bytes") if too_big else row)
        else:
            self.skip(row)

    def skip(self, row: Row) -> None:
        """Count the member as skipped, by its suffix or what else it is."""
        self.skipped[_kind(row)] += 1


def named_like_picture(name: str) -> bool:
    """Whether the suffix is one that pictures have, also those that nnst cannot read."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def begins_like_picture(head: bytes) -> bool:
    """Whether the first bytes are those of a picture, also of a kind that nnst cannot read."""
    kind = sniff(head)
    return kind is not None and kind not in _DOCUMENTS


def is_hidden(name: str) -> bool:
    """Whether a part of the name begins with a dot, as `__MACOSX/._a.jpg` has one."""
    return "." in name and any(
        part.startswith(".") and part not in (".", "..") for part in name.split("/")
    )


def _kind(row: Row) -> str:
    """What a skipped member is counted as: `link`, `special_file` or its suffix."""
    if row.reason in ("link", "special_file"):
        return row.reason
    suffix = posixpath.splitext(row.image)[1].lower()
    if not suffix:
        return "no suffix"
    return suffix if _PLAIN_SUFFIX.fullmatch(suffix) else "other"


def packed_name(name: str) -> tuple[str, str | None]:
    """The name of a tar or zip member without empty parts, and `unsafe_path` if it is unsafe.

    Members are never written to disk. A name that would leave the folder it is unpacked in tells
    of an attack all the same, and such a member is not opened.
    """
    parts = re.split(r"[/\\]", name)
    unsafe = parts[0] == "" or parts[-1] in ("", ".") or ".." in parts or "\0" in name
    if unsafe or _DRIVE.match(name):
        return name, "unsafe_path"
    return "/".join(part for part in name.split("/") if part not in ("", ".")), None


def showable(name: str) -> str:
    """The name with `\\xNN` in place of what a terminal, a page or Arrow would stumble over."""
    return name if name.isprintable() else _NOT_SHOWABLE.sub(_escape, name)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def numbered(rows: Sequence[Row], reason: str | None) -> list[Row]:
    """The rows under names that are showable and unique: the first of a name keeps it, the others
    get `#2`, `#3` and, unless they have one, the reason."""
    rows = [dataclasses.replace(row, image=showable(row.image)) for row in rows]
    taken = {row.image for row in rows}  # so that no number takes the name of a later row
    if len(taken) == len(rows):
        return rows
    counts: Counter[str] = Counter()
    for index, row in enumerate(rows):
        counts[row.image] += 1
        if counts[row.image] > 1:
            rows[index] = dataclasses.replace(
                row, image=_free_name(row.image, counts, taken), reason=row.reason or reason
            )
    return rows


def _free_name(name: str, counts: Counter[str], taken: set[str]) -> str:
    """The name with the next number that makes it a new one."""
    while (candidate := f"{name}#{counts[name]}") in taken:
        counts[name] += 1
    taken.add(candidate)
    return candidate


def shard_numbers(stretches: Iterable[Stretch], shard_images: int) -> list[int]:
    """The shard of each row of the stretches, in order, beginning with 0.

    Small stretches share a shard; one that does not fit into what is left begins its own.
    """
    numbers: list[int] = []
    shard, room = -1, 0
    for stretch in stretches:
        count, size = len(stretch.rows), shard_images
        if stretch.sequential:
            size = max(size, -(-count // _SHARDS_OF_A_SEQUENCE))
        if count > room:
            room = 0
        for _ in range(count):
            if room == 0:
                shard, room = shard + 1, size
            numbers.append(shard)
            room -= 1
    return numbers


def to_table(rows: Sequence[Row], shards: Sequence[int]) -> pa.Table:
    """The rows as `records.INPUTS`."""
    names = [column.name for column in dataclasses.fields(Row)]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    return pa.table({**columns, "shard": shards}, schema=records.INPUTS)


def from_table(inputs: pa.Table) -> Iterator[Row]:
    """The rows of a table of `records.INPUTS`, in its order."""
    names = [column.name for column in dataclasses.fields(Row)]
    for batch in inputs.select(names).to_batches(max_chunksize=4096):
        for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            yield Row(*values)
