"""One trial: a training with settings of its own, done in a process of its own.

    FOLDER/00007/rows.json      the metrics of its epochs so far
    FOLDER/00007/done.json      what nnst train said, once it is done
    FOLDER/00007/stopped.json   after how many epochs it was stopped, as others were better

A trial that was interrupted goes on from its checkpoints; one that is done, or was stopped, is told
again.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nnst import config, storage
from nnst.errors import NnstError
from workflows import family
from workflows.commands import Options
from workflows.family import Shared
from workflows.trainer import Row, overheard
from workflows.tuner.space import Point


@dataclass(frozen=True, slots=True)
class Trials:
    """What all trials of a search have in common."""

    folder: str
    shared: Shared
    points: tuple[Point, ...]
    parent: str  # id of the run whose children they are
    tracking_uri: str

    def place(self, number: int) -> str:
        """The folder of one of them."""
        return storage.join(self.folder, f"{number:05}")

    def values(self, number: int) -> dict[str, Any]:
        """The settings of nnst train that are its own."""
        point = self.points[number]
        nested = config.nested(point)
        return nested | {"parent": self.parent, "storage": storage.join(self.folder, "training")}


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial has come to so far."""

    number: int
    point: Point
    rows: tuple[Row, ...]  # of the epochs that it had
    document: Mapping[str, Any] | None  # what nnst train said; None when it did not get so far
    stopped: bool = False  # early, as others were better
    failed: str = ""  # why it came to nothing

    @property
    def average_precision(self) -> float | None:
        """On the held-out pictures; None where it is not done, or there is no box."""
        found = (self.document or {}).get("validation")
        return None if found is None else found["map50"]["value"]


def tried(trials: Trials, number: int) -> Tried:
    """What is known of a trial."""
    names = ("rows.json", "done.json", "stopped.json")
    rows, done, stopped = (_read(trials, number, name) for name in names)
    told = tuple((rows or {"epochs": []})["epochs"])
    if stopped is not None:  # its training may have had one more before it heard of that
        told, done = told[: stopped["epochs"]], None
    return Tried(number, trials.points[number], told, done, stopped is not None)


def stop(trials: Trials, number: int, epochs: int) -> None:
    """Leave a trial at so many epochs for good, unless it is done."""
    if tried(trials, number).document is None:
        _write(trials, number, "stopped.json", {"epochs": epochs})


def study(trials: Trials, number: int) -> Iterator[dict[str, Any]]:
    """Train, and tell of each epoch as it ends; `failed` at the end if it came to nothing.

    In a worker. Epochs of an earlier attempt are told first.
    """
    before = tried(trials, number)
    yield from ({"epoch": index + 1, **row} for index, row in enumerate(before.rows))
    if before.document is not None or before.stopped:
        return
    os.environ["MLFLOW_TRACKING_URI"] = trials.tracking_uri
    heard: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_train, args=(trials, number, heard), daemon=True).start()
    while (row := heard.get()) is not None:
        if "failed" in row or row["epoch"] > len(before.rows):
            yield row


def _train(trials: Trials, number: int, heard: queue.Queue[dict[str, Any] | None]) -> None:
    rows: list[dict[str, Any]] = []

    def hear(row: Row) -> None:
        rows.append(dict(row))
        if len(rows) > len(tried(trials, number).rows):
            _write(trials, number, "rows.json", {"epochs": rows})
        heard.put({"epoch": len(rows), **row})

    try:
        with overheard(hear):
            name = f"{trials.shared.name}-tune"
            document = family.trained(trials.shared, name, trials.values(number), Options())
        _write(trials, number, "done.json", document)
    except NnstError as error:
        heard.put({"failed": str(error)})
    except BaseException as error:  # whatever it is, the other trials go on
        heard.put({"failed": f"{type(error).__name__}: {error}"})
    finally:
        heard.put(None)


def _read(trials: Trials, number: int, name: str) -> Any:
    path = storage.join(trials.place(number), name)
    return storage.read_json(path) if storage.exists(path) else None


def _write(trials: Trials, number: int, name: str, document: Mapping[str, Any]) -> None:
    storage.put(storage.join(trials.place(number), name), storage.to_json(document))
