"""How far an output folder is, told by the folder alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nnst import records
from nnst.ledger import Job, Ledger, held, standing, write_part
from nnst.records import Receipt


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    """Three shards of ten, of which none is done."""
    rows = [
        {"image": f"{n}.jpg", "container": f"{n}.jpg", "offset": -1, "bytes": 1, "stamp": ""}
        | {"shard": n // 10}
        for n in range(30)
    ]
    inputs = pa.Table.from_pylist(rows, schema=records.INPUTS)
    return Ledger.create(str(tmp_path / "out"), Job("scan", inputs, {}))


def do(book: Ledger, shard: int) -> None:
    """A shard of which one picture is bad."""
    images = [
        {"image": f"{n}.jpg", "detections": 0, "status": "ok" if n % 10 else "truncated"}
        for n in range(10 * shard, 10 * shard + 10)
    ]
    part = write_part(book.out, "images", shard, pa.Table.from_pylist(images, records.IMAGES))
    book.commit(Receipt(shard, 10, 9, 1, (part,), book.fingerprint, {"truncated": 1}))


def test_status_tells_what_is_done_what_is_bad_and_who_is_at_work(
    book: Ledger, nnst: Callable[..., Any]
) -> None:
    do(book, 0)
    idle = nnst("status", book.out)
    assert idle.code == 0
    assert "10 of 30 inputs have their row (33.3%), 1 of 3 shards are done" in idle.out
    assert "1 bad: truncated" in idle.out
    assert "nobody is at work" in idle.out
    with held(book.out):
        assert "at work: process" in nnst("status", book.out).out
    do(book, 1)
    do(book, 2)
    book.succeed()
    whole = nnst("status", book.out, "--json").document
    assert (whole["is_done"], whole["done"], whole["bad"]) == (True, 30, {"truncated": 3})
    assert whole["seconds_left"] is None


def test_the_rate_is_that_of_the_shards_between_the_first_and_the_last(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard, when in ((0, 100.0), (1, 105.0)):
        do(book, shard)
        monkeypatch.setattr("time.time", lambda when=when: when)
        book.note(shard=shard, seconds=4.0, host="a")
    book.note(shard=2, cause="worker crashed")  # no shard done
    book.flush_notes()
    found = standing(book)
    assert found.rate == pytest.approx(2.0)
    assert found.seconds_left == pytest.approx(5.0)


def test_status_of_what_is_no_output_folder_is_wrong_input(
    nnst: Callable[..., Any], tmp_path: Path
) -> None:
    done = nnst("status", tmp_path)
    assert done.code == 2
    assert "no output folder of nnst" in done.err
