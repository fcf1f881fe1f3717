"""Journals and blobs: what a killed shard leaves, and what a later pass begins with."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nnst import storage
from nnst.web import blobs
from nnst.web.journal import Journal, seed

NAME = f"{'ab' * 32}.jpg"


def row(number: int, status: str = "not_found", **facts: Any) -> dict[str, Any]:
    return {"url": f"http://example.org/{number}", "status": status, **facts}


@pytest.fixture(params=["local", "remote"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A local folder, and one of a store."""
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_a_row_outlives_its_process_as_soon_as_it_is_added(out: str) -> None:
    with Journal(out, 3) as journal:
        for number in range(20):
            journal.add(row(number, detail="ä\n\u2028"))
            if number == 10:  # not closed: its process might be killed here
                found = _copy(journal, out)
                assert len(found) == 11
    with Journal(out, 3) as journal:
        assert list(journal.rows.values()) == [row(n, detail="ä\n\u2028") for n in range(20)]
    with Journal(out, 4) as journal:
        assert journal.rows == {}


def _copy(journal: Journal, out: str) -> dict[str, Any]:
    """What another process would read now."""
    for name in storage.names(storage.join(out, "journal")):
        if name.endswith(".jsonl"):
            data = storage.read(storage.join(out, "journal", name))
            storage.put(storage.join(out, "journal", "00099.jsonl"), data)
            with Journal(out, 99) as other:
                return other.rows
    with Journal(out, 3) as other:
        return other.rows


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_cut_short_costs_its_own_row_alone(tmp_path: Path, cut: int) -> None:
    with Journal(str(tmp_path), 0) as journal:
        journal.add(row(1))
        journal.add(row(2))
    path = tmp_path / "journal" / "00000.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(str(tmp_path), 0) as journal:
        kept = set(journal.rows)
        assert row(1)["url"] in kept
        journal.add(row(3))
    with Journal(str(tmp_path), 0) as journal:
        assert set(journal.rows) == kept | {row(3)["url"]}


def test_a_picture_counts_as_fetched_only_while_its_bytes_are_there(out: str) -> None:
    stored = row(1, "ok", image=NAME, bytes=4)
    with Journal(out, 0) as journal:
        journal.add(stored)
    with Journal(out, 0) as journal:
        assert journal.rows == {}  # the machine died before they were on disk
    blobs.write(out, NAME, b"abc")  # cut short
    with Journal(out, 0) as journal:
        assert journal.rows == {}
    blobs.write(out, NAME, b"abcd")
    with Journal(out, 0) as journal:
        assert list(journal.rows.values()) == [stored]


def test_a_later_pass_begins_with_the_rows_of_the_one_before(out: str) -> None:
    with Journal(out, 0) as journal:
        journal.add(row(9))
    seed(out, 0, [row(1), row(2), row(3, "ok", image=NAME, bytes=4)], {row(2)["url"]: True})
    with Journal(out, 0) as journal:
        # A kept row needs no blob: its picture may lie in a tar by now.
        assert [each["url"] for each in journal.rows.values()] == [row(1)["url"], row(3)["url"]]
        assert list(journal.before.values()) == [row(2)]
        journal.add(row(2, "refused"))
    with Journal(out, 0) as journal:
        assert journal.rows[row(2)["url"]] == row(2, "refused")


HOLDER = """
import json, sys
from nnst.web.journal import Journal

with Journal(sys.argv[1], 0) as journal:
    for line in sys.stdin:  # a row to add, as one is sent
        journal.add(json.loads(line))
        print("added", flush=True)
"""


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdin is not None
    assert first.stdout is not None
    with first, first.stdin:
        print(json.dumps(row(1)), file=first.stdin, flush=True)
        assert first.stdout.readline() == "added\n"

        def end() -> None:
            print(json.dumps(row(2)), file=first.stdin, flush=True)
            first.stdin.close()

        threading.Timer(0.5, end).start()
        started = time.monotonic()
        with Journal(str(tmp_path), 0) as journal:
            assert time.monotonic() - started > 0.3
            assert len(journal.rows) == 2


def test_bytes_are_written_once(tmp_path: Path) -> None:
    blobs.write(str(tmp_path), NAME, b"abcd")
    path = tmp_path / blobs.path_of(NAME)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    blobs.write(str(tmp_path), NAME, b"abcd")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


def test_a_tar_depends_on_its_rows_alone_and_any_reader_opens_it(tmp_path: Path) -> None:
    rows = []
    for number in range(3):
        image_id = f"{number:02d}" * 32
        name = blobs.name_of(image_id, "jpeg")
        blobs.write(str(tmp_path), name, b"picture %d" % number)
        rows.append(
            {
                "image": name,
                "image_id": image_id,
                "url": f"http://example.org/{number}",
                "licence": "CC0" if number else None,
                "carried": '{"caption": "ä"}',
            }
        )
    first = blobs.write_tar(str(tmp_path), 0, rows)
    again = blobs.write_tar(str(tmp_path), 0, rows)
    assert first == again
    name, places = first
    data = (tmp_path / name).read_bytes()
    for (image, offset, _), number in zip(places, range(3), strict=True):
        assert data[offset : offset + 9] == b"picture %d" % number
        assert image == rows[number]["image"]
    with tarfile.open(tmp_path / name) as tar:
        members = tar.getmembers()
        assert [member.name.partition(".")[2] for member in members] == ["jpg", "json"] * 3
        assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
        told = tar.extractfile(members[3])
        assert told is not None
        assert storage.sha256(told.read()) == storage.sha256(
            storage.to_json(
                {
                    "url": "http://example.org/1",
                    "licence": "CC0",
                    "carried": {"caption": "ä"},
                }
            )
        )
