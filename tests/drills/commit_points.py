"""Kills a small job at every step of the code that commits, and does it again: a script.

    python -m tests.drills.commit_points FOLDER SHARDS

A step is a call to the system: half of a file is written, a file or a folder is synced, a name is
replaced, linked or removed; the job ends before it or after it. Each time a child does the job and
is killed at one step, and another child looks at what readers see, does the job to its end and
compares every byte. Prints how often each step was met, as JSON. Without threads before a fork, and
without Ray: thousands of steps take seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from nnst import ledger, records, storage
from nnst.errors import InputError
from nnst.ledger import Job, Ledger
from nnst.records import Receipt
from nnst.storage import disk
from tests.drills.ground import do_here, tables

ROWS = 3  # of a shard


def job(shards: int) -> Job:
    rows = [
        {"image": f"{shard}-{row}.jpg", "container": "", "offset": -1, "bytes": 1, "stamp": "",
         "shard": shard}
        for shard in range(shards)
        for row in range(ROWS)
    ]  # fmt: skip
    return Job("scan", pa.Table.from_pylist(rows, schema=records.INPUTS), settings={})


def work_on(opened: Ledger) -> None:
    """The whole job, as a fan-out does it."""

    def work(shard: int, rows: pa.Table) -> Receipt:
        seen = [{"image": name, "status": "ok", "detections": 1} for name in _names(rows)]
        found = [
            {"image": name, "image_id": "", "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0,
             "score": 0.5, "label": "mark", "model": "m/1"}
            for name in _names(rows)
        ]  # fmt: skip
        files = tuple(
            ledger.write_part(opened.out, name, shard, pa.Table.from_pylist(rows_, schema=schema))
            for name, rows_, schema in (
                ("images", seen, records.IMAGES),
                ("detections", found, records.DETECTIONS),
            )
        )
        return Receipt(shard, len(seen), len(seen), 0, files, opened.fingerprint)

    with ledger.held(opened.out):
        do_here(opened, work)


def _names(rows: pa.Table) -> list[str]:
    return rows["image"].to_pylist()


class Steps:
    """Counts the steps of this process, and ends it at one of them."""

    def __init__(self, out: Path, last: int, told: Path) -> None:
        self._out, self._last, self._told = out, last, told
        self._count = itertools.count()
        self._temporary: dict[Path, str] = {}  # what will become of files under other names

    def install(self) -> None:
        """From now on, every step of a commit is one of these."""
        for name in ("fsync", "replace", "link", "unlink"):
            setattr(os, name, self._around(name, getattr(os, name)))
        setattr(disk, "open", self._open)  # noqa: B010 (it shadows the built-in one)

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*words: Any, **named: Any) -> Any:
            what = self._kind(_path_of(words[0]) if name == "fsync" else Path(words[-1]))
            self.step(f"before {name} of {what}")
            answer = call(*words, **named)
            self.step(f"after {name} of {what}")
            return answer

        return stepped

    def _open(self, name: str, mode: str) -> Any:
        path = Path(name)
        self._temporary[path] = what = self._kind_of_new(path.relative_to(self._out))
        return _Half(open(path, mode), lambda: self.step(f"mid write of {what}"))

    def _kind(self, path: Path) -> str:
        """What a file, or the temporary file of one, or its folder is to the ledger."""
        if path in self._temporary:
            return self._temporary[path]
        inside = path.relative_to(self._out)
        if path.is_dir():
            return f"folder {inside}"
        kinds = {"plan.json": "plan", "_SUCCESS": "success", "lease.json": "lease"}
        return kinds.get(str(inside)) or self._kind_of_new(inside)

    def _kind_of_new(self, inside: Path) -> str:
        """What a temporary file will be, by where it lies and what is there already."""
        if len(inside.parts) > 1:
            return {"plan": "inputs", "receipts": "receipt"}.get(inside.parts[0], "part")
        if not (self._out / "plan.json").exists():
            return "plan"
        return "success" if (self._out / "receipts").exists() else "lease"

    def step(self, name: str) -> None:
        """Die here, if this is the step, and leave a word of which it was."""
        if next(self._count) == self._last:
            self._told.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)


def _path_of(handle: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{handle}"))


class _Half:
    """A new file, of whose bytes one half is written a step before the other."""

    def __init__(self, inner: Any, between: Callable[[], None]) -> None:
        self._inner, self._between = inner, between
        self.flush, self.fileno = inner.flush, inner.fileno

    def write(self, data: bytes) -> None:
        self._inner.write(data[: len(data) // 2])
        self._inner.flush()
        self._between()
        self._inner.write(data[len(data) // 2 :])

    def __enter__(self) -> _Half:
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.close()


def in_child(task: Callable[[], None]) -> int:
    """The status, as os.wait gives it, of a child that does the task."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        task()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def check_readers(out: Path) -> None:
    """Whatever a reader can reach is whole."""
    try:
        opened = Ledger.open(str(out))
        opened.inputs()
    except InputError:  # it is not there yet
        return
    for receipt in opened.receipts().values():
        for file in receipt.files:
            data = storage.read(storage.join(str(out), file.table, file.name))
            assert storage.sha256(data) == file.sha256
    if opened.is_done():
        assert opened.read("images").num_rows == opened.inputs().num_rows


def end(out: Path, reference: Path, planned: Job) -> None:
    """Do what is missing, and compare."""
    check_readers(out)
    work_on(Ledger.create(str(out), planned))
    assert tables(out) == tables(reference), "other bytes than those of the undisturbed job"
    hidden = [path for path in out.rglob(".*") if not path.name.startswith(".put-")]
    assert hidden == []


def sweep(folder: Path, shards: int) -> Counter[str]:
    """The steps of a job of so many shards at which it was killed, all of them once."""
    reference, met = folder / "reference", Counter[str]()
    planned = job(shards)  # here, as making the first one imports half a second's worth of modules

    def undisturbed() -> None:
        work_on(Ledger.create(str(reference), planned))

    assert in_child(undisturbed) == 0
    for last in itertools.count():
        out, told = folder / f"{last:04}", folder / f"{last:04}.step"
        steps = Steps(out, last, told)

        def disturbed(out: Path = out, steps: Steps = steps) -> None:
            steps.install()
            work_on(Ledger.create(str(out), planned))

        status = in_child(disturbed)
        if status == 0:  # there are no more steps
            return met
        assert status == signal.SIGKILL, f"step {last} of {shards} shards"
        name = told.read_text()
        assert in_child(lambda out=out: end(out, reference, planned)) == 0, f"after a kill {name}"
        met[name] += 1
    raise AssertionError("unreachable")


if __name__ == "__main__":
    print(json.dumps(sweep(Path(sys.argv[1]), int(sys.argv[2]))))
