"""Whole commands: a driver that is killed again and again, and how the work is spread.

Whatever of it, the tables of a scan are the same bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nnst.ledger import Ledger
from tests.drills.ground import LIMIT, PICTURES, SHARD, tables, workers
from workflows.scoring import ScanTask, scan_shard

SHARDS = -(-PICTURES // SHARD)
IN_FLIGHT = 2  # for each slot

pytestmark = pytest.mark.drill

Command = Callable[..., Any]


def names(folder: Path) -> set[str]:
    """The files of a folder, without those that are being written."""
    return {path.name for path in folder.glob("[!.]*")} if folder.is_dir() else set()


def written(out: Path) -> dict[str, int]:
    """When each part was written."""
    parts = [path for table in ("images", "detections") for path in (out / table).glob("[!.]*")]
    return {path.name: path.stat().st_mtime_ns for path in parts}


def kill_at(out: Path, share: float, driver: subprocess.Popen[str]) -> None:
    """Kill the driver when so large a share of the shards is done."""
    end = time.monotonic() + LIMIT
    while len(names(out / "receipts")) < share * SHARDS:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    driver.kill()
    driver.communicate(timeout=60)


def test_a_driver_killed_five_times_loses_no_more_than_was_in_flight(
    words: Any,
    scanned: Path,
    start_driver: Callable[..., subprocess.Popen[str]],
    nnst: Command,
    tmp_path: Path,
) -> None:
    import ray

    out = tmp_path / "out"
    most = IN_FLIGHT * int(ray.cluster_resources()["CPU"])
    lost = []
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        kill_at(out, share, start_driver(*words, out))
        begun = Ledger.open(str(out))
        assert not begun.is_done()
        done = begun.receipts()
        assert share * SHARDS <= len(done) < SHARDS
        kept = {file.name for receipt in done.values() for file in receipt.files}
        parts = written(out)
        lost.append({name.split("-")[1] for name in parts.keys() - kept})
        assert len(lost[-1]) <= most
    before = {name: when for name, when in parts.items() if name in kept}
    assert nnst(*words, out).code == 0
    after = written(out)
    assert {name: after[name] for name in before} == before  # nothing that was done is done again
    assert tables(out) == tables(scanned)


# --- Order


@pytest.mark.parametrize("count", [1, 4])
def test_one_worker_and_four_give_the_bytes_of_two(
    count: int, words: Any, scanned: Path, nnst: Command, tmp_path: Path
) -> None:
    assert nnst(*words, tmp_path / "out", *workers(count)).code == 0
    assert tables(tmp_path / "out") == tables(scanned)


def test_shards_done_in_reverse_change_no_byte(
    scanned: Path, mark_model: str, tmp_path: Path
) -> None:
    opened = Ledger.open(str(scanned))
    backwards = Ledger(str(tmp_path), opened.plan)
    (tmp_path / "plan").mkdir()
    for name in ("plan.json", "plan/inputs.parquet"):
        (tmp_path / name).write_bytes((scanned / name).read_bytes())
    task = ScanTask(
        out=backwards.out,
        source=backwards.source,
        fingerprint=backwards.fingerprint,
        model_folder=mark_model,
        model_digest=backwards.plan["identity"]["model"]["digest"],
        model_name=mark_model.rstrip("/"),
        min_width=0,
        levels_per_octave=8,
        iou_threshold=0.3,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        for number, rows in reversed(list(backwards.shards().items())):
            backwards.commit(scan_shard(task, number, rows))
    finally:
        torch.set_num_threads(threads)
    backwards.succeed()
    assert tables(tmp_path) == tables(scanned)


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder for temporary files with a short name, as Ray puts sockets there."""
    with tempfile.TemporaryDirectory(prefix="d", ignore_cleanup_errors=True) as folder:
        yield folder


def other_locale() -> str:
    """A locale of this machine that is not the usual one."""
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout
    others = [name for name in listed.split() if not name.startswith(("C.", "en_US"))]
    return max(others, key=len, default="POSIX")


def test_another_place_language_and_time_change_no_byte(
    words: Any, scanned: Path, workplace: Path, short_folder: str, tmp_path: Path
) -> None:
    """A Ray of its own, with another time zone, locale, umask and folder for temporary files."""
    places = {"TMPDIR": short_folder, "HOME": str(tmp_path), "TZ": "Asia/Kathmandu"}
    environment = os.environ | places | {"LC_ALL": other_locale(), "PYTHONHASHSEED": "7"}
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "workflows", *map(str, words), str(tmp_path / "out")]
    done = subprocess.run(
        command,
        cwd=workplace,
        env=environment,
        umask=0o077,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path / "out") == tables(scanned)
    (part, *_) = (tmp_path / "out" / "images").iterdir()
    assert part.stat().st_mode & 0o777 == 0o600  # the umask did hold
