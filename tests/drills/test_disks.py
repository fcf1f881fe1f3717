"""A store that fails and lies, and a disk that is full: the job goes on to the same bytes."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nnst import archive, storage
from nnst.ledger import Job, Ledger
from tests import flaky_store
from tests.drills.ground import LIMIT, PICTURES, SHARD, do_here, reading, rows_of, tables

pytestmark = pytest.mark.drill

FAILING, LYING = 0.1, 0.01  # shares of all requests
ROOM = PICTURES * 300  # bytes of a disk that a scan of the set fills more than half-way through


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty folder of a store whose faults are chosen, without pauses between tries."""
    monkeypatch.setattr(storage.store, "PATIENCE", storage.store.Patience(pause=0.0))
    where = f"flaky://{uuid.uuid4().hex}"
    with flaky_store.faults(0, 0):
        yield where
        storage.remove(where)


def as_tar(pictures: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(pictures.iterdir()):
            tar.add(path, path.name)
    return packed.getvalue()


def read_all(source: str, out: str) -> Ledger:
    """The finished job of reading all pictures of the source."""
    planned = archive.plan(source, SHARD)
    opened = Ledger.create(out, Job("scan", planned.inputs, {}, source=source))
    do_here(opened, reading(opened))
    return opened


@pytest.mark.parametrize("kind", ["a folder", "a tar"])
def test_a_store_that_fails_and_lies_gets_and_gives_the_same_bytes(
    kind: str, pictures: Path, undisturbed: Path, store: str
) -> None:
    """What is read and what is written lie there both, the plan is made there too."""
    source = storage.join(store, "pictures")
    if kind == "a tar":
        source += ".tar"
        storage.put(source, as_tar(pictures))
    else:
        for path in pictures.iterdir():
            storage.put(storage.join(source, path.name), path.read_bytes())
    read_all(source, storage.join(store, "calm"))
    with flaky_store.faults(FAILING, LYING) as faults:
        found = read_all(source, storage.join(store, "out"))
    assert tables(found.out) == tables(storage.join(store, "calm"))
    assert faults.failed > 0.08 * faults.requests > 5
    assert faults.lied > 0
    plain = rows_of(Ledger.open(str(undisturbed)))
    rows = rows_of(found)
    assert {name.rpartition("/")[2]: row["status"] for name, row in rows.items()} == {
        name: row["status"] for name, row in plain.items()
    }


FULL_THEN_FREED = """
mount -t tmpfs -o size={room} tmpfs {disk} || exit 99
{scan}
echo $? > {codes}
ls {disk}/out/receipts | wc -l >> {codes}
mount -o remount,size=1g {disk}
{scan}
echo $? >> {codes}
cp -r {disk}/out {kept}
"""


@pytest.fixture
def can_mount(tmp_path: Path) -> None:
    """Skips where this user may not have a disk of its own."""
    words = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here, so no small disk of one's own")
    if done.returncode:
        pytest.skip(f"no small disk of one's own can be mounted here: {done.stderr.strip()}")


@pytest.mark.usefixtures("can_mount")
def test_a_full_disk_is_told_by_its_path_and_once_it_is_freed_the_scan_goes_on(
    words: tuple[Any, ...], scanned: Path, workplace: Path, tmp_path: Path
) -> None:
    """A Ray of its own, whose workers see the small disk as the driver does."""
    disk, codes, kept = tmp_path / "disk", tmp_path / "codes", tmp_path / "kept"
    disk.mkdir()
    command = [sys.executable, "-m", "workflows", *map(str, words), str(disk / "out")]
    script = FULL_THEN_FREED.format(
        room=ROOM, disk=disk, codes=codes, kept=kept, scan=shlex.join(command)
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=workplace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    first, shards, second = map(int, codes.read_text().split())
    assert (first, second) == (1, 0), done.stderr
    assert 0 < shards < PICTURES // SHARD
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("nnst: ")]
    assert f"No space left on device: '{disk}/out/" in told
    assert "run the same command again" in told
    assert tables(kept) == tables(scanned)
