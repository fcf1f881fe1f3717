"""Tracking drills: MLflow is away, slow or busy, and no job stops, waits or loses a number.

The servers are real ones on loopback. The large form (`NNST_DRILL=10000 pytest -m drill`) has a
server away for a minute, and a database locked for longer than MLflow itself waits.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

import nnst as package
from nnst import models
from tests.mlflow_server import Server
from workflows import tracking
from workflows.tracking import TrackingSettings

LARGE = int(os.environ.get("NNST_DRILL", "1000")) >= 10_000
AWAY_S = 60 if LARGE else 6  # how long a server is away
LOCKED_S = 25 if LARGE else 4  # how long a database is locked; MLflow waits for 20 s by itself
SLOW_S = 5.0 if LARGE else 2.0  # what a slow server takes for each request
SLOWED = 12  # epochs that it is told of
PROCESSES, BATCHES = 8, 200

pytestmark = [pytest.mark.drill, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started yet."""
    made = Server(tmp_path)
    yield made
    made.stop()


class Slow:
    """A server before another one, that keeps every request for some seconds."""

    def __init__(self, uri: str, seconds: float) -> None:
        import http.server
        import urllib.error
        import urllib.request

        self.requests = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                outer.requests += 1
                time.sleep(seconds)
                size = int(self.headers.get("Content-Length") or 0)
                kept = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                request = urllib.request.Request(
                    uri + self.path, self.rfile.read(size) or None, kept, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=60) as found:
                        self.reply(found.status, found.read(), found.headers["Content-Type"])
                except urllib.error.HTTPError as error:
                    self.reply(error.code, error.read(), error.headers["Content-Type"])

            def reply(self, status: int, body: bytes, kind: str | None) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind or "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.httpd.server_address[1]}"
        self.thread = threading.Thread(target=self.httpd.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own to work in, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def points(client: Any, run_id: str, key: str) -> list[int]:
    """The steps of a metric, in order, repeats included."""
    return sorted(row.step for row in client.get_metric_history(run_id, key))


def runs_of(client: Any, experiment: str) -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def all_experiments(client: Any) -> list[str]:
    return [each.experiment_id for each in client.search_experiments()]


def folder_of(client: Any, name: str) -> str:
    """The files of a model's first version, downloaded."""
    source = client.get_model_version_download_uri(name, "1")
    return str(mlflow.artifacts.download_artifacts(source, tracking_uri=client.tracking_uri))


def wait_for(true: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    for _ in range(4000):
        if true():
            return
        if process is not None:
            assert process.poll() is None, process.communicate()
        time.sleep(0.03)
    raise AssertionError("it never came to hold")


# The server is away


def test_a_server_gone_in_the_midst_of_training_misses_nothing(
    start_driver: Callable[..., subprocess.Popen[str]],
    server: Server,
    elsewhere: Path,
    crop_set: Path,
    train_flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does one that was not there when it began: one run, and each number once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    flags = (*train_flags, "--epochs", "12", "--set", "tracking.start=1")
    process = start_driver("train", crop_set, "--name", "mark", *flags, "--json", at=elsewhere)
    done = elsewhere / "mlruns" / "training"
    wait_for(lambda: list(done.glob("mark-*/fit/checkpoints/0000[2-9]/DONE.json")), process)
    server.start()
    wait_for(lambda: runs_of(server.client(), "mark"), process)
    server.stop()
    time.sleep(AWAY_S)
    server.start()
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    document = json.loads(out)
    assert document["problems"] == []
    client = server.client()
    (run,) = runs_of(client, "mark")
    assert run.info.run_id == document["run_id"]
    assert run.info.status == "FINISHED"
    for metric in ("loss", "learning_rate", "validation_loss"):
        assert points(client, run.info.run_id, metric) == list(range(12)), metric
    assert run.data.params["training.steps"] == "6"
    assert client.get_model_version("mark", "1").run_id == run.info.run_id


def test_a_model_that_cannot_be_registered_is_kept_and_registered_by_the_same_command(
    nnst: Callable[..., Any],
    server: Server,
    elsewhere: Path,
    crop_set: Path,
    scenes: Any,
    train_flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)  # it is not there at all
    short = ("start", "finish", "register")
    patience = [word for name in short for word in ("--set", f"tracking.{name}=1")]
    words = ("train", crop_set, "--name", "kept", *train_flags)
    done = nnst(*words, *patience, at=elsewhere)
    assert (done.code, done.out) == (1, "")
    line = done.err.splitlines()[-1]
    assert "the model is trained and could not be registered as kept" in line
    assert "Connection refused" in line
    assert "run the same command again when MLflow answers" in line
    folder = line.rpartition("scan with --model ")[2]
    digest = models.load(folder).digest
    out = elsewhere / "early"
    words_of_scan = ("scan", scenes.folder, "--model", folder, "--out", out)
    looked = nnst(*words_of_scan, *patience[:4], "--json")
    assert looked.code == 0, looked.err
    assert looked.document["run_id"] == ""
    (problem,) = looked.document["problems"]
    assert "record(s) wait for MLflow" in problem
    server.start()
    again = nnst(*words, "--json", at=elsewhere)
    assert again.code == 0, again.err
    assert again.document["problems"] == []
    client = server.client()
    (run,) = runs_of(client, "kept")
    assert client.get_model_version("kept", "1").tags["digest"] == digest
    assert points(client, run.info.run_id, "loss") == [0, 1, 2, 3]
    assert run.data.params["model"] == "lenet"
    assert [item.dataset.name for item in run.inputs.dataset_inputs] == ["crops-truth"]
    shutil.copytree(folder_of(client, "kept"), folder)  # where the scan's model was
    assert nnst("evaluate", out, scenes.truth, "--json").document["problems"] != []
    assert nnst(*words_of_scan).code == 0  # which scores nothing, and makes the run
    evaluated = nnst("evaluate", out, scenes.truth, "--json")
    assert (evaluated.code, evaluated.document["problems"]) == (0, [])
    (run,) = [each for each in client.search_runs(all_experiments(client))
              if each.data.tags.get("verb") == "scan"]  # fmt: skip
    assert run.data.metrics["pictures"] == len(scenes.boxes)
    assert "map50" in run.data.metrics


def test_a_killed_driver_leaves_no_number_behind_that_waited(
    start_driver: Callable[..., subprocess.Popen[str]],
    nnst: Callable[..., Any],
    server: Server,
    elsewhere: Path,
    crop_set: Path,
    train_flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it had told of is told again, with the times that it had: no number comes twice."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.start()
    words = ("train", crop_set, "--name", "mark", *train_flags, "--epochs", "8")
    process = start_driver(*words, at=elsewhere)
    folder = elsewhere / "mlruns" / "training"
    wait_for(lambda: runs_of(server.client(), "mark"), process)
    (run,) = runs_of(server.client(), "mark")
    wait_for(lambda: points(server.client(), run.info.run_id, "loss"), process)
    server.stop()
    wait_for(lambda: list(folder.glob("mark-*/fit/checkpoints/0000[5-8]/DONE.json")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    server.start()
    again = nnst(*words, "--json", at=elsewhere)
    assert again.code == 0, again.err
    client = server.client()
    assert [each.info.run_id for each in runs_of(client, "mark")] == [run.info.run_id]
    for metric in ("loss", "validation_loss"):
        assert points(client, run.info.run_id, metric) == list(range(8)), metric


# The server is slow


def test_a_slow_server_slows_neither_training_nor_a_scan(
    nnst: Callable[..., Any],
    server: Server,
    elsewhere: Path,
    crop_set: Path,
    scenes: Any,
    mark_model: str,
    train_flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each request takes seconds. What is recorded is complete all the same."""
    server.start()
    slow = Slow(server.uri, SLOW_S)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", slow.uri)
    out, ended = elsewhere / "scan", []
    patience = ("--set", "tracking.start=1", "--set", "tracking.finish=60", "--json")
    words = ("scan", scenes.folder, "--model", mark_model, "--out", out, *patience)
    try:
        scan = threading.Thread(target=lambda: ended.append(nnst(*words)))
        scan.start()
        wait_for(lambda: (out / "_SUCCESS").exists())
        asked = slow.requests
        scan.join()
        flags = (*train_flags, "--epochs", SLOWED, *patience)
        words = ("train", crop_set, "--name", "mark", *flags)
        done = nnst(*words, at=elsewhere)
    finally:
        slow.close()
    (scanned,) = ended
    assert (scanned.code, done.code) == (0, 0), scanned.err + done.err
    assert scanned.document["problems"] == done.document["problems"] == []
    client = server.client()
    run = client.get_run(scanned.document["run_id"])
    assert run.data.metrics["pictures"] == len(scenes.boxes)
    assert asked < slow.requests  # the work was done before the records were
    history = client.get_metric_history(done.document["run_id"], "loss")
    assert [row.step for row in history] == list(range(SLOWED))
    times = [row.timestamp / 1000 for row in history]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    assert gaps[len(gaps) // 2] < SLOW_S  # no epoch waited for a request


# Many at once


HAMMER = """
import sys, time
from workflows import tracking
with tracking.start("together", sys.argv[1], params={"number": sys.argv[1]}) as run:
    for step in range(int(sys.argv[2])):
        run.log_metrics({"loss": step / 7}, step=step)
        time.sleep(0.002)  # so that they come in many batches
assert run.problems == [], run.problems
print(run.run_id)
"""


def test_eight_runs_at_once_share_a_new_database(elsewhere: Path) -> None:
    """Tables and experiment are made by whoever comes first, and none finds the database locked."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(Path(package.__file__).parents[1])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(number), str(BATCHES)],
            cwd=elsewhere,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    ids = []
    for process in started:
        out, err = process.communicate(timeout=280)
        assert (process.returncode, err) == (0, "")
        ids.append(out.strip())
    client = MlflowClient(f"sqlite:///{elsewhere}/mlruns/mlflow.db")
    assert len([each for each in client.search_experiments() if each.name == "together"]) == 1
    assert {run.info.run_id for run in runs_of(client, "together")} == set(ids)
    with sqlite3.connect(elsewhere / "mlruns" / "mlflow.db") as database:
        rows = database.execute("select run_uuid, step from metrics where key = 'loss'").fetchall()
    assert Counter(rows) == {(run_id, step): 1 for run_id in ids for step in range(BATCHES)}


def test_a_locked_database_is_waited_for(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = elsewhere / "mlruns" / "mlflow.db"
    with tracking.start("locked", "train", params={}, patience=TrackingSettings()) as run:
        run.log_metrics({"loss": 0.0}, step=0)
        locker = sqlite3.connect(file, isolation_level=None, timeout=30)
        locker.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        for step in range(1, 5):
            run.log_metrics({"loss": float(step)}, step=step)
        assert time.monotonic() - started < 15  # nobody waits for it; MLflow would, for 20 s
        unlock = threading.Timer(LOCKED_S, lambda: over.set())
        over = threading.Event()
        unlock.start()
        over.wait()
        locker.execute("ROLLBACK")
        locker.close()
    assert run.problems == []
    client = MlflowClient(f"sqlite:///{file}")
    assert points(client, run.run_id, "loss") == [0, 1, 2, 3, 4]
    assert client.get_run(run.run_id).info.status == "FINISHED"
