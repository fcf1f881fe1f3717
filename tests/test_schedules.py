"""The ledger alone, in a store in memory: thousands of schedules of drivers that meet and die.

A schedule is drawn from a seed. Two drivers at a time do one job; at every request to the store the
one or the other goes on, or is killed, before the request or right after it. What a worker answers
is committed at once, or later, or twice, or by the other driver, or never. In between readers look.
In the end one more driver does what is missing, and every byte is that of an undisturbed job.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nnst import records, storage
from nnst.errors import InputError, JobFailed
from nnst.ledger import Job, Ledger, write_part
from nnst.records import Receipt

SCHEDULES = int(os.environ.get("NNST_SCHEDULES", "1000"))
SHARDS, ROWS = 2, 2
DRIVERS = 3  # that begin one after another, two at a time
KILLED = 0.04  # of the requests of a driver


class Killed(BaseException):
    """The process is gone; no code of ours may catch it."""


class Actor(threading.Thread):
    """A driver, which runs from one request to the next whenever it is told to."""

    def __init__(self, task: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._task = task
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self.over = self.killed = False
        self.fault: BaseException | None = None
        self.dies: str = ""  # at the next request: "before" or "after" it

    def run(self) -> None:
        self._go.acquire()
        try:
            self._task()
        except Killed:
            self.killed = True
        except BaseException as error:
            self.fault = error
        self.over = True
        self._back.release()

    def request(self, ask: Callable[[], Any]) -> Any:
        """The store's answer, when this actor's turn comes again."""
        self._back.release()
        self._go.acquire()
        if self.dies == "before":
            raise Killed
        answer = ask()
        if self.dies == "after":
            raise Killed
        return answer

    def step(self) -> None:
        """Let it go on to its next request, or its end."""
        self._go.release()
        self._back.acquire()


class StagedStore(MemoryFileSystem):
    """A store, `staged://`, whose requests wait for their turn where an actor makes them."""

    protocol = "staged"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("staged://", "memory://", 1))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **named: Any) -> None:
        kind = "xb" if mode == "create" else "wb"
        _asked(lambda: MemoryFileSystem._open(self, path, kind, data=value))

    def open(self, path: str, mode: str = "rb", **named: Any) -> Any:
        return _asked(lambda: MemoryFileSystem.open(self, path, mode))

    def ls(self, path: str, detail: bool = True, **named: Any) -> Any:
        return _asked(lambda: MemoryFileSystem.ls(self, path, detail=detail))


def _asked(ask: Callable[[], Any]) -> Any:
    actor = threading.current_thread()
    return actor.request(ask) if isinstance(actor, Actor) else ask()


# --- One job


def inputs() -> pa.Table:
    rows = [
        {"image": f"{shard}-{row}.jpg", "container": "", "offset": -1, "bytes": 1, "stamp": "",
         "shard": shard}
        for shard in range(SHARDS)
        for row in range(ROWS)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=records.INPUTS)


JOB = Job("scan", inputs(), settings={})
IMAGES = [f"{shard}-{row}.jpg" for shard in range(SHARDS) for row in range(ROWS)]


def work(book: Ledger, shard: int) -> Receipt:
    rows = [{"image": f"{shard}-{row}.jpg", "status": "ok", "detections": 0} for row in range(ROWS)]
    table = pa.Table.from_pylist(rows, schema=records.IMAGES)
    empty = records.DETECTIONS.empty_table()
    files = (
        write_part(book.out, "images", shard, table),
        write_part(book.out, "detections", shard, empty),
    )
    return Receipt(shard, ROWS, ROWS, 0, files, book.fingerprint)


def bytes_of(book: Ledger) -> dict[str, bytes]:
    """Every byte that a reader can reach."""
    found = {"_SUCCESS": storage.read(storage.join(book.out, "_SUCCESS"))}
    for number, receipt in book.receipts().items():
        found[f"{number}"] = storage.read(storage.join(book.out, "receipts", f"{number:05}.json"))
        for file in receipt.files:
            found[file.name] = storage.read(storage.join(book.out, file.table, file.name))
    return found


class Schedule:
    """One history of the job, as its seed has it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.out = f"staged://{uuid.uuid4().hex}"
        self.mail: list[Receipt] = []  # answers that were not lost
        self.met = Counter[str]()

    def drive(self) -> None:
        """A driver's life."""
        book = Ledger.create(self.out, JOB)
        shards = [*range(SHARDS)]
        self.rng.shuffle(shards)
        for shard in shards:
            if shard not in book.receipts():
                self.mail.append(work(book, shard))
            for _ in range(self.rng.choice((0, 1, 1, 2))):
                book.commit(self.rng.choice(self.mail) if self.mail else work(book, shard))
        with contextlib.suppress(JobFailed):  # some were committed by nobody
            book.succeed()

    def play(self) -> None:
        """Let drivers meet and die, with readers between their requests."""
        begun, actors = 0, list[Actor]()
        while begun < DRIVERS or actors:
            if begun < DRIVERS and len(actors) < 2:
                actors.append(Actor(self.drive))
                actors[-1].start()
                begun += 1
            actor = self.rng.choice(actors)
            if self.rng.random() < KILLED:
                actor.dies = self.rng.choice(("before", "after"))
            actor.step()
            if self.rng.random() < 0.1:
                self.look()
            if actor.over:
                actor.join()
                actors.remove(actor)
                self.met["killed" if actor.killed else "ended"] += 1
                if actor.fault is not None:
                    raise actor.fault

    def look(self) -> None:
        """What a reader reaches is whole, at any time, and a job that is done is read."""
        try:
            book = Ledger.open(self.out)
        except InputError:
            self.met["looked in vain"] += 1
            return
        if book.is_done():
            assert book.read("images", ["image"])["image"].to_pylist() == IMAGES
            self.met["read"] += 1
            return
        with pytest.raises(InputError, match=r"is not finished|without its inputs"):
            book.read("images")
        self.met["looked in vain"] += 1

    def finish(self) -> dict[str, bytes]:
        """The bytes of the job, once a driver that nobody disturbs has been there."""
        book = Ledger.create(self.out, JOB)
        for shard in set(range(SHARDS)) - book.receipts().keys():
            book.commit(work(book, shard))
        book.succeed()
        self.look()
        found = bytes_of(book)
        storage.remove(self.out)
        return found


@pytest.fixture(autouse=True, scope="module")
def staged() -> None:
    fsspec.register_implementation("staged", StagedStore, clobber=True)


def test_whatever_drivers_do_and_whenever_they_die_the_job_ends_in_the_same_bytes() -> None:
    expected, met = Schedule(0).finish(), Counter[str]()
    for seed in range(SCHEDULES):
        schedule = Schedule(seed)
        try:
            schedule.play()
            found = schedule.finish()
        except BaseException as error:
            raise AssertionError(f"schedule {seed}") from error
        assert found == expected, f"schedule {seed}"
        met += schedule.met
    for kind in ("killed", "ended", "read", "looked in vain"):  # each of it a good deal
        assert met[kind] > SCHEDULES / 2, met
