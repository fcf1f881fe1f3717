"""Fatal pictures, killed workers, drivers that meet: the rows are the same bytes."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from nnst import records
from nnst.errors import JobBusy
from nnst.ledger import Ledger
from nnst.records import Receipt
from tests import fatal_decoder
from tests.drills.ground import (
    BROKEN,
    FATAL,
    LARGE,
    PICTURES,
    ROOT,
    Work,
    book,
    reading,
    rows_of,
    tables,
)
from workflows import fanout
from workflows.__main__ import exit_code
from workflows.fanout import FanoutSettings

KILLS = 20 if LARGE else 8

pytestmark = [pytest.mark.drill, pytest.mark.usefixtures("cluster")]


def with_fatal_decoder(work: Work) -> Work:
    """The same work with a decoder that some pictures kill and others hold up."""

    def fatal(shard: int, rows: pa.Table) -> Receipt:
        from dataclasses import replace

        sys.path.insert(0, str(ROOT))
        from nnst.images import decoding, guarding
        from tests import fatal_decoder

        if guarding._guard is not None:
            settings = guarding._guard.settings
            guarding._guard.settings = replace(settings, module=fatal_decoder.__name__)
        before, decoding.decode = decoding.decode, fatal_decoder.decode
        try:
            return work(shard, rows)
        finally:
            decoding.decode = before
            sys.path.remove(str(ROOT))

    return fatal


def test_poison_costs_its_own_rows_alone(pictures: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Pictures that kill or hold up the decoder are rows with that reason; no other row changes."""
    opened = book(tmp_path / "out", pictures)
    settings = FanoutSettings(stall=8, decode=2)
    fanout.fan_out(opened, with_fatal_decoder(reading(opened)), settings, "drill")
    assert opened.is_done()
    plain, found = rows_of(Ledger.open(str(undisturbed))), rows_of(opened)
    counts: dict[object, int] = {}
    for name, row in found.items():
        expected = plain[name]
        if expected["width"] == fatal_decoder.WIDTH:
            _, reason = FATAL[int(str(expected["height"]))]
            expected = expected | {"width": None, "height": None, "status": reason}
        assert row == expected
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    fatal = {reason: count for count, reason in FATAL.values()}
    bad = sum(fatal.values()) + BROKEN
    assert counts == {records.OK: PICTURES - bad, "truncated": BROKEN} | fatal
    assert bad == 130
    told = fanout.too_many_bad(opened.totals(), FanoutSettings(max_bad=0.01))
    assert told is not None
    assert exit_code(told) == 3


def contents(mark: Path) -> str:
    """Which shard a worker is at; "" where it has just done it."""
    try:
        return mark.read_text()
    except FileNotFoundError:
        return ""


def test_killed_workers_change_no_byte(pictures: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A busy worker is killed every second, eight times at least (the large form: twenty).

    No shard loses its worker more than twice, as the fourth time would be the end of it.
    """
    opened = book(tmp_path / "out", pictures)
    work, marks = reading(opened), tmp_path / "busy"
    marks.mkdir()

    def slow(shard: int, rows: pa.Table) -> Receipt:
        mark = marks / str(os.getpid())
        mark.write_text(str(shard))
        try:
            time.sleep(0.8)
            return work(shard, rows)
        finally:
            mark.unlink()

    killed: dict[int, str] = {}  # the shard that each worker was at
    over = threading.Event()

    def kill() -> None:
        chosen = random.Random(0)
        while not over.wait(1.0):
            deaths = Counter(killed.values())
            busy = {int(mark.name): contents(mark) for mark in sorted(marks.iterdir())}
            alive = [p for p in busy if busy[p] and p not in killed and deaths[busy[p]] < 2]
            if alive and len(killed) < KILLS + 2:
                pid = chosen.choice(alive)
                killed[pid] = busy[pid]
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        fanout.fan_out(opened, slow, FanoutSettings(), "drill")
    finally:
        over.set()
        killer.join()
    assert len(killed) >= KILLS
    assert opened.is_done()
    assert tables(tmp_path / "out") == tables(undisturbed)


def test_of_two_drivers_the_second_is_refused_or_told_to_go_on_and_changes_no_byte(
    pictures: Path, undisturbed: Path, tmp_path: Path
) -> None:
    opened, again = (book(tmp_path / "out", pictures) for _ in range(2))
    work, begun = reading(opened), tmp_path / "begun"

    def slow(shard: int, rows: pa.Table) -> Receipt:
        begun.touch()
        time.sleep(0.2)
        return work(shard, rows)

    failed: list[BaseException] = []

    def first() -> None:
        try:
            fanout.fan_out(opened, slow, FanoutSettings(), "first")
        except BaseException as error:
            failed.append(error)

    driver = threading.Thread(target=first)
    driver.start()
    while not begun.exists():
        time.sleep(0.05)
    with pytest.raises(JobBusy, match=r"take over with --set fanout\.take_over=true") as refused:
        fanout.fan_out(again, reading(again), FanoutSettings(), "second")
    assert exit_code(refused.value) == 2
    assert not opened.is_done()
    fanout.fan_out(again, reading(again), FanoutSettings(take_over=True), "second")
    driver.join()
    assert failed == []
    assert tables(tmp_path / "out") == tables(undisturbed)
    assert not (tmp_path / "out" / "lease.json").exists()
