"""Fault drills: whatever dies, every picture ends in one row, and the rows are the same bytes.

The set is a thousand small JPEGs made from a seed (the large form: `NNST_DRILL=10000 pytest -m
drill`). The work reads and decodes, which is all that a fault of a picture or a worker needs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ray import cloudpickle

from nnst import archive, images, ledger, records
from nnst.errors import ImageError, JobBusy
from nnst.ledger import Job, Ledger
from nnst.records import Receipt
from tests import fatal_decoder
from workflows import fanout
from workflows.fanout import FanoutSettings

ROOT = Path(__file__).resolve().parents[1]
PICTURES = int(os.environ.get("NNST_DRILL", "1000"))
SHARD = 32
FATAL = {  # how many of each size, and what becomes of them
    fatal_decoder.CRASHES: (20, "decoder_crash"),
    fatal_decoder.HANGS: (5, "decoder_timeout"),
}
BROKEN = 105  # cut short

pytestmark = [pytest.mark.drill, pytest.mark.usefixtures("cluster")]

Work = Callable[[int, pa.Table], Receipt]


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Functions of this file travel with their code."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small JPEGs, some of them cut short, some of a size that is fatal to the test's decoder."""
    folder = tmp_path_factory.mktemp("drill")
    rng, chosen = np.random.default_rng(0), random.Random(0)
    special = [height for height, (count, _) in FATAL.items() for _ in range(count)]
    special += [0] * BROKEN
    places = chosen.sample(range(PICTURES), len(special))
    kinds = dict(zip(places, special, strict=True))
    for number in range(PICTURES):
        kind = kinds.get(number)
        hw = (kind, fatal_decoder.WIDTH) if kind else (48, 64)
        data = images.encode_jpeg(rng.integers(0, 256, (*hw, 3), dtype=np.uint8))
        (folder / f"{number:05}.jpg").write_bytes(data[:200] if kind == 0 else data)
    return folder


def book(out: Path, pictures: Path) -> Ledger:
    plan = archive.plan(str(pictures), SHARD)
    return Ledger.create(str(out), Job("scan", plan.inputs, {}, source=str(pictures)))


def reading(opened: Ledger) -> Work:
    """Decodes every picture of a shard, and writes a row for each."""
    out, source, fingerprint = opened.out, opened.source, opened.fingerprint

    def work(shard: int, rows: pa.Table) -> Receipt:
        found, bad = [], {}
        for member in archive.stream(source, rows):
            assert member.data is not None
            row = {"image": member.image, "image_id": images.content_hash(member.data)}
            try:
                header = images.decode(member.data).header
                row |= {"width": header.width, "height": header.height, "status": records.OK}
            except ImageError as error:
                row["status"] = error.reason
                bad[error.reason] = bad.get(error.reason, 0) + 1
            found.append(row | {"detections": 0})
        table = pa.Table.from_pylist(found, schema=records.IMAGES)
        part = ledger.write_part(out, "images", shard, table)
        count = sum(bad.values())
        return Receipt(shard, len(found), len(found) - count, count, (part,), fingerprint, bad)

    return work


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


def rows_of(opened: Ledger) -> dict[str, dict[str, object]]:
    rows = opened.read("images").to_pylist()
    found = {row["image"]: row for row in rows}
    assert len(rows) == len(found) == PICTURES  # none lost, none twice
    return found


def tables(out: Path) -> dict[str, bytes]:
    """Every file that counts, by its path."""
    kept = ("plan", "images", "receipts", "_SUCCESS")
    files = [path for path in sorted(out.rglob("[!.]*")) if path.is_file()]
    inside = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in inside.items() if name.startswith(kept)}


@pytest.fixture(scope="module")
def undisturbed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    opened = book(out, pictures)
    fanout.fan_out(opened, reading(opened), FanoutSettings(), "drill")
    return out


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


def test_killed_workers_change_no_byte(pictures: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A busy worker is killed every second, eight times at least."""
    opened = book(tmp_path / "out", pictures)
    work, marks = reading(opened), tmp_path / "busy"
    marks.mkdir()

    def slow(shard: int, rows: pa.Table) -> Receipt:
        mark = marks / str(os.getpid())
        mark.touch()
        try:
            time.sleep(0.8)
            return work(shard, rows)
        finally:
            mark.unlink()

    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        chosen = random.Random(0)
        while not over.wait(1.0):
            busy = sorted(int(path.name) for path in marks.iterdir())
            alive = [pid for pid in busy if pid not in killed]
            if alive and len(killed) < 10:
                killed.append(chosen.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        fanout.fan_out(opened, slow, FanoutSettings(), "drill")
    finally:
        over.set()
        killer.join()
    assert len(killed) >= 8
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
    with pytest.raises(JobBusy, match=r"take over with --set fanout\.take_over=true"):
        fanout.fan_out(again, reading(again), FanoutSettings(), "second")
    assert not opened.is_done()
    fanout.fan_out(again, reading(again), FanoutSettings(take_over=True), "second")
    driver.join()
    assert failed == []
    assert tables(tmp_path / "out") == tables(undisturbed)
    assert not (tmp_path / "out" / "lease.json").exists()
