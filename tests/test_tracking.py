"""Records in a real database and on a real server; models registered and found again."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.data import get_source

import nnst
from nnst import images, models
from nnst.detector import DetectorSettings, load_detector
from nnst.errors import InputError, TooManyBad
from nnst.records import ModelSpec
from tests.mlflow_server import Server
from workflows import provenance, tracking
from workflows.tracking import TrackingSettings, store
from workflows.tracking.opening import Maker
from workflows.tracking.outbox import Outbox

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS, EXAMPLE = "weights.safetensors", "model/input_example.json"
SPEC = ModelSpec("mlp", ("background", "pare"), window_hw=(8, 12), stride=4, widths=(4,))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the module: making MLflow's tables takes two seconds."""
    return tmp_path_factory.mktemp("here with space")


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with records in its mlruns/."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return place


@pytest.fixture
def remote(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """Records on the server, and a cache of this test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return server


def model_folder(folder: Path, seed: int) -> tuple[str, str]:
    """A small model's folder and digest."""
    return str(folder), models.save(folder, SPEC, models.build(SPEC, seed).state_dict())


@pytest.fixture(scope="module")
def stop(place: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of two versions of the model `stop`, the first of them the champion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("models")
        made = [register(folder, "stop", seed) for seed in (1, 2)]
    client = MlflowClient(made[0][0].uri)
    client.set_registered_model_alias("stop", "champion", "1")
    client.set_registered_model_alias("stop", "challenger", "2")
    return [digest for _, digest in made]


def register(folder: Path, name: str, seed: int) -> tuple[tracking.Run, str]:
    """A run with a registered model, and the model's digest."""
    with tracking.start(name, "train", params={}) as run:
        where, digest = model_folder(folder / f"{name}-{seed}", seed)
        tracking.register(name, run, where, SPEC, digest, {"ap50": "0.9"})
    return run, digest


def recorded(run: tracking.Run) -> Any:
    """What MLflow holds of the run, read by a client of our own."""
    return MlflowClient(run.uri).get_run(run.run_id)


def eventually(true: Callable[[], object]) -> None:
    """Wait until it holds."""
    for _ in range(1000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to hold")


def client_of(run: tracking.Run) -> MlflowClient:
    return MlflowClient(run.uri)


def history(run: tracking.Run, key: str) -> list[tuple[int, float]]:
    """The steps and values of a metric, in order of steps, repeats included."""
    rows = MlflowClient(run.uri).get_metric_history(run.run_id, key)
    return sorted((row.step, row.value) for row in rows)


# Where records are


def test_records_are_by_default_in_mlruns_of_the_current_folder(here: Path) -> None:
    assert tracking.tracking_uri() == f"sqlite:///{here}/mlruns/mlflow.db"
    assert tracking.artifact_folder(tracking.tracking_uri()) == f"{here}/mlruns/artifacts"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///here.db", "sqlite:///{here}/here.db"),  # relative: made absolute
        ("sqlite:////there/x.db", "sqlite:////there/x.db"),
        ("http://host:5000/", "http://host:5000"),
        ("postgresql+psycopg2://u:p@host/db", "postgresql+psycopg2://u:p@host/db"),
    ],
)
def test_an_address_that_is_given_is_taken(
    here: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert tracking.tracking_uri() == expected.format(here=here)


@pytest.mark.parametrize(
    "given", ["mlruns", "./mlruns", "file:///tmp/mlruns", "http://", "sqlite://", "ftp://host/x"]
)
def test_an_address_that_cannot_hold_records_is_refused_with_what_to_give(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    with pytest.raises(InputError, match=r"MLFLOW_TRACKING_URI.*unset it"):
        tracking.tracking_uri()


def test_a_submitted_job_does_not_record_in_its_own_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    with pytest.raises(InputError, match="lost with its folder"):
        tracking.tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://head:5000")
    assert tracking.tracking_uri() == "http://head:5000"


@pytest.mark.parametrize(
    "uri", ["http://me:secret@no-such-host.invalid:5000", "sqlite:////proc/no/such/place.db"]
)
def test_an_address_that_can_never_answer_is_an_input_error_at_the_start(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=r"unset MLFLOW_TRACKING_URI|make that file") as caught:
        tracking.start("pare", "train", params={})
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_an_input_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.db").write_text("this is not SQLite at all")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(InputError, match="not an SQLite database"):
        tracking.start("pare", "train", params={})


def test_importing_tracking_imports_no_mlflow_and_sets_nothing() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import workflows.tracking, workflows.ui; "
        "assert 'mlflow' not in sys.modules and 'torch' not in sys.modules; "
        "assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_processes_that_meet_in_a_new_folder_share_it_and_say_nothing(tmp_path: Path) -> None:
    code = (
        "from workflows import tracking\n"
        "with tracking.start('pare', 'together', params={'a': 1}) as run:\n"
        "    run.log_metrics({'loss': 1.0})\n"
        "assert not run.problems, run.problems\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.communicate(timeout=120) == (b"", b"")
        assert process.returncode == 0
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiments = [item for item in client.search_experiments() if item.name == "pare"]
    assert len(experiments) == 1
    assert len(client.search_runs([experiments[0].experiment_id])) == 3


# Runs


def test_a_run_keeps_what_it_is_told(here: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    params = {"window_hw": (22, 75), "augment": {"rotate": 5.0, "flip": False}, "seed": None}
    with tracking.start("pare", "train", params=params, tags={"stage": "first"}) as run:
        run.log_metrics({"loss": 0.5, "worst": math.nan, "far": math.inf, "none": None}, step=3)
        run.log_metrics({"ap50_a b/c\nd": 1.0})
        run.log_tags({"stage": "second"})
        run.log_file(tmp_path / "note.txt", "notes")
        run.log_bytes("plots/loss.png", b"\x89PNG")
        run.log_dataset("crops", "ab" * 32, "work/crops", {"positive": 40}, "training")
    assert run.problems == []
    kept = recorded(run)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {
        "window_hw": "[22, 75]",
        "augment.rotate": "5.0",
        "augment.flip": "false",
        "seed": "null",
    }
    assert kept.data.metrics == {"loss": 0.5, "ap50_a b/c_d": 1.0}
    assert history(run, "loss") == [(3, 0.5)]
    assert kept.data.tags["stage"] == "second"
    assert kept.data.tags["mlflow.user"]
    files = here / "mlruns" / "artifacts" / "pare" / run.run_id / "artifacts"
    assert (files / "notes" / "note.txt").read_text() == "hello"
    assert (files / "plots" / "loss.png").read_bytes() == b"\x89PNG"
    data = kept.inputs.dataset_inputs[0]
    assert data.dataset.digest == ("ab" * 32)[:36]
    assert json.loads(data.dataset.profile) == {"positive": 40}
    assert get_source(data.dataset).to_dict() == {"uri": str(here / "work" / "crops")}
    assert run.run_id in run.url


def test_a_run_says_with_what_it_was_made(here: Path) -> None:
    with tracking.start("pare", "train", params={}) as run:
        pass
    tags = recorded(run).data.tags
    made_with = {name: tags[f"version.{name}"] for name in ("torch", "mlflow", "ray", "python")}
    assert made_with["mlflow"] == mlflow.__version__
    assert made_with == {name: provenance.environment()[name] for name in made_with}
    assert all(made_with.values())


def test_the_page_of_a_run_leads_to_the_model_and_to_the_run_that_trained_it(
    here: Path, stop: list[str]
) -> None:
    model = tracking.resolve("stop/2")
    with tracking.start("stop", "scan", params={}) as run:
        tracking.link_model(run, model)
    note, trained = recorded(run).data.tags["mlflow.note.content"], MlflowClient(run.uri)
    experiment = trained.get_run(model.run_id).info.experiment_id
    assert "[stop/2](#/models/stop/versions/2)" in note
    assert f"(#/experiments/{experiment}/runs/{model.run_id})" in note


def test_what_a_run_uses_is_recorded_where_that_is_wanted(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psutil")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    wanted = {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}
    with tracking.start("pare", "train", params={}, patience=TrackingSettings(system=True)) as run:
        eventually(lambda: wanted <= recorded(run).data.metrics.keys())
    assert run.problems == []
    with tracking.start("pare", "train", params={}) as plain:
        plain.log_metrics({"loss": 1.0})
    assert recorded(plain).data.metrics == {"loss": 1.0}


def test_without_the_package_that_measures_use_that_is_refused_at_the_start(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)  # as if it were not installed
    with pytest.raises(InputError, match="pip install psutil"):
        tracking.start("pare", "train", params={}, patience=TrackingSettings(system=True))


def test_settings_beyond_mlflows_limits_are_split_and_cut(here: Path) -> None:
    many = {f"key{number}": number for number in range(250)} | {"long": "x" * 10_000}
    with tracking.start("pare", "train", params=many) as run:
        run.log_metrics({f"m{number}": number for number in range(250)})
    assert run.problems == []
    kept = recorded(run).data
    assert len(kept.params) == 251
    assert len(kept.params["long"]) == 6000
    assert len(kept.metrics) == 250


def test_a_child_run_names_its_parent(here: Path) -> None:
    with tracking.start("pare", "parent", params={}) as parent:
        child = tracking.start("pare", "child", params={}, parent=parent.run_id)
        child.finish()
    assert recorded(child).data.tags["mlflow.parentRunId"] == parent.run_id


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "KILLED"),
        (ValueError("a bug"), "FAILED"),
        (TooManyBad("5 of 9 pictures are bad"), "FINISHED"),  # the work is done and committed
    ],
)
def test_a_run_ends_as_its_work_did(here: Path, error: BaseException, status: str) -> None:
    def work() -> None:
        with tracking.start("pare", "train", params={}) as run:
            ids.append(run)
            raise error

    ids: list[tracking.Run] = []
    with pytest.raises(type(error)):
        work()
    assert recorded(ids[0]).info.status == status


def test_a_resumed_run_goes_on_where_it_was(here: Path) -> None:
    first = tracking.start("pare", "scan", params={"a": 1})
    first.log_metrics({"done": 1.0}, step=1)
    first.finish("KILLED")
    with tracking.resume(first.run_id) as second:
        assert recorded(second).info.status == "RUNNING"
        second.log_params({"a": 1})  # the same again is no conflict
        second.log_metrics({"done": 2.0}, step=2)
    assert second.problems == []
    assert history(second, "done") == [(1, 1.0), (2, 2.0)]
    assert recorded(second).info.status == "FINISHED"


def test_a_run_that_is_not_there_cannot_be_resumed(here: Path) -> None:
    with pytest.raises(InputError, match=r"no run 0000.*--fresh"):
        tracking.resume("0" * 32)


def test_what_mlflow_refuses_is_a_problem_and_stops_nothing(here: Path) -> None:
    with tracking.start("pare", "train", params={"a": 1}) as run:
        run.log_params({"a": 2})
        run.log_metrics({"loss": 1.0})
    assert len(run.problems) == 1
    assert "params" in run.problems[0]
    assert recorded(run).data.metrics == {"loss": 1.0}
    assert recorded(run).info.status == "FINISHED"


def test_an_experiment_that_was_deleted_is_brought_back(here: Path) -> None:
    run = tracking.start("once", "train", params={})
    run.finish()
    MlflowClient(run.uri).delete_experiment(run.experiment_id)
    again = tracking.start("once", "train", params={})
    again.finish()
    assert again.experiment_id == run.experiment_id


def test_a_server_that_dies_does_not_stop_the_job_and_misses_nothing(remote: Server) -> None:
    with tracking.start("pare", "train", params={"a": 1}) as run:
        run.log_metrics({"loss": 0.0}, step=0)
        remote.stop()
        for step in range(1, 6):
            run.log_metrics({"loss": float(step)}, step=step)
        run.log_bytes("plots/loss.png", b"\x89PNG")
        eventually(lambda: run.problems)
        (problem,) = run.problems
        assert "record(s) wait" in problem
        assert "Connection refused" in problem
        remote.start()
    assert run.problems == []
    assert history(run, "loss") == [(step, float(step)) for step in range(6)]
    assert recorded(run).info.status == "FINISHED"
    assert [item.path for item in run.connected().list_artifacts(run.run_id)] == ["plots"]
    assert run.url.startswith(f"{remote.uri}/#/experiments/")


def test_work_begins_while_the_server_is_away_and_the_run_is_made_when_it_answers(
    remote: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    remote.stop()
    patience = TrackingSettings(start=1)
    with tracking.start("later", "train", params={"a": 1}, patience=patience) as run:
        assert capsys.readouterr().err == (
            f"nnst: MLflow at {remote.uri} does not answer; work goes on, and is recorded when it "
            "does\n"
        )
        assert run.run_id == ""
        assert run.url == f"not recorded yet: MLflow at {remote.uri} does not answer"
        run.log_metrics({"loss": 1.0}, step=0)
        eventually(lambda: run.problems)
        remote.start()
    assert run.problems == []
    assert recorded(run).data.params == {"a": "1"}
    assert history(run, "loss") == [(0, 1.0)]
    (only,) = runs_of(run, "later")
    assert only.info.run_id == run.run_id


def test_a_server_that_never_comes_costs_no_more_than_the_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # discard: closed
    started = time.monotonic()
    patience = TrackingSettings(start=0.5, finish=1)
    with tracking.start("never", "train", params={"a": 1}, patience=patience) as run:
        run.log_metrics({"loss": 1.0})
    assert time.monotonic() - started < 80  # by default it is 100
    (problem,) = run.problems
    assert re.match(r"\d record\(s\) wait for MLflow at http://127.0.0.1:9: ", problem)


# A run is one, whatever becomes of answers and processes


def runs_of(run: tracking.Run, experiment: str) -> list[Any]:
    client = MlflowClient(run.uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def test_a_mark_that_was_kept_finds_the_run_that_a_killed_process_made(here: Path) -> None:
    mark = tracking.new_mark()
    first = tracking.start("marked", "train", params={"a": 1}, mark=mark)
    first.log_metrics({"loss": 1.0}, step=0, at=1000)
    first.finish("FAILED")
    with tracking.start("marked", "train", params={"a": 1}, mark=mark) as second:
        second.log_metrics({"loss": 1.0, "other": 2.0}, step=0, at=1000)
    assert second.run_id == first.run_id
    assert second.problems == []
    assert len(runs_of(first, "marked")) == 1
    assert history(second, "loss") == [(0, 1.0)]  # the same again is no second row
    third = tracking.resume("", mark)
    third.finish()
    assert third.run_id == first.run_id
    with pytest.raises(InputError, match=r"run the command that was to record it again"):
        tracking.resume("", "0" * 32)


def test_an_answer_that_got_lost_makes_no_second_run(here: Path) -> None:
    uri = tracking.tracking_uri()
    maker = Maker(uri, "lost", "train", tracking.new_mark(), again=False)
    client = store.connect(uri)
    first = maker(client)  # and nobody heard of it
    assert maker(client).info.run_id == first.info.run_id
    other = Maker(uri, "lost", "train", tracking.new_mark(), again=False)
    assert other(client).info.run_id != first.info.run_id


def test_many_numbers_that_wait_go_together(here: Path) -> None:
    with tracking.start("pare", "train", params={}) as run:
        for step in range(2500):
            run.log_metrics({"loss": step / 3}, step=step)
    assert run.problems == []
    assert history(run, "loss") == [(step, step / 3) for step in range(2500)]


@pytest.mark.parametrize("wrong", ["start", "finish", "register"])
def test_patience_below_zero_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        TrackingSettings(**{wrong: -1.0})


# The outbox


def refuse_values(error: Exception) -> bool:
    return isinstance(error, ValueError)


def test_sending_waits_neither_for_a_slow_service_nor_for_one_that_is_away() -> None:
    """Nor does one answer wait for the caller: a thread makes the calls, in their order."""
    made: list[int] = []
    go_on = threading.Event()

    def slow(number: int) -> None:
        go_on.wait(30)
        made.append(number)

    outbox = Outbox("it", refuse_values)
    started = time.monotonic()
    for number in range(100):
        outbox.send("slow", partial(slow, number))
    assert time.monotonic() - started < 25  # the first alone takes 30
    assert made == []
    go_on.set()
    outbox.drain(30)
    assert made == list(range(100))
    assert outbox.problems == []


def test_a_call_that_always_fails_does_not_hold_up_the_others_at_the_end() -> None:
    def fail() -> None:
        raise OSError("no space")

    done: list[int] = []
    outbox = Outbox("it", refuse_values)
    outbox.send("bad", fail)
    for number in range(3):
        outbox.send("good", partial(done.append, number))
    eventually(lambda: outbox.problems)
    assert done == []  # the service is left alone for a while
    assert outbox.problems == ["4 record(s) wait for it: no space"]
    outbox.drain(3)
    assert sorted(done) == [0, 1, 2]
    assert outbox.problems == ["1 record(s) wait for it: no space"]


def test_a_service_that_is_away_is_waited_for_only_so_long() -> None:
    def fail() -> None:
        raise OSError("away")

    outbox = Outbox("it", refuse_values)
    outbox.send("bad", fail)
    started = time.monotonic()
    outbox.drain(1.5)
    assert 1.4 < time.monotonic() - started < 60
    assert outbox.problems == ["1 record(s) wait for it: away"]


def test_a_service_that_takes_calls_slowly_is_waited_for() -> None:
    made: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.3)
        made.append(number)

    outbox = Outbox("it", refuse_values)
    for number in range(15):
        outbox.send("slow", partial(slow, number))
    outbox.drain(4)  # less than all of them take, far more than one
    assert made == list(range(15))


def test_calls_that_are_refused_are_dropped_and_counted() -> None:
    def refuse() -> None:
        raise ValueError("bad name\nand a stack")

    outbox = Outbox("it", refuse_values)
    for _ in range(3):
        outbox.send("metrics", refuse)
    outbox.drain(30)
    assert outbox.problems == ["it did not take 3 record(s): metrics: bad name"]


# Models


@pytest.mark.parametrize("name", ["pare", "VMware 2", "Škoda_1.0-b", "a"])
def test_a_name_that_can_be_found_again_is_fine(name: str) -> None:
    tracking.check_model_name(name)


@pytest.mark.parametrize("name", ["", " a", "a ", "a/b", "a:b", "a@b", "a'b", "../x", ".a", "a\nb"])
def test_a_name_that_could_not_be_found_again_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a model"):
        tracking.check_model_name(name)


def test_a_name_without_champion_is_its_newest_version(here: Path, tmp_path: Path) -> None:
    for seed in range(1, 10):
        register(tmp_path, "many", seed)
    run, digest = register(tmp_path, "many", 10)  # newest by number, not by spelling
    newest = tracking.resolve("many")
    assert (newest.version, newest.digest) == ("10", digest)
    assert (newest.run_id, str(newest)) == (run.run_id, "many/10")
    beside = ["MLmodel", "input_example.json", "picture_model.py"]  # MLflow's own way to load it
    assert sorted(os.listdir(newest.folder)) == [*beside[:2], "model.json", beside[2], WEIGHTS]
    assert client_of(run).get_model_version_by_alias("many", "challenger").version == 10


def test_a_model_is_found_by_version_and_alias(here: Path, stop: list[str]) -> None:
    assert tracking.resolve("stop").version == "1"  # the champion goes before the newest
    assert tracking.resolve("stop@challenger").version == "2"
    assert tracking.resolve("models:/stop/2").version == "2"
    assert [tracking.resolve(f"stop/{n}").digest for n in (1, 2)] == stop


def test_a_version_says_what_it_is(here: Path, tmp_path: Path) -> None:
    run, digest = register(tmp_path, "tags", 1)
    version = MlflowClient(run.uri).get_model_version("tags", "1")
    assert version.status == "READY"
    assert version.run_id == run.run_id
    assert version.tags == {
        "digest": digest,
        "architecture": "mlp",
        "labels": "pare",
        "window": "12x8",
        "ap50": "0.9",
    }


def test_the_same_model_of_the_same_run_is_one_version(here: Path, tmp_path: Path) -> None:
    with tracking.start("twice", "train", params={}) as run:
        folder, digest = model_folder(tmp_path / "model", 1)
        made = [tracking.register("twice", run, folder, SPEC, digest) for _ in range(2)]
    assert [str(version) for version in made] == ["twice/1", "twice/1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stopp", r"no model 'stopp'; did you mean stop\?"),
        ("zebra", "no model 'zebra'; train one: nnst train CROPS --name zebra"),
        ("stop/9", "no model stop/9; the newest are stop/2, stop/1"),
        ("stop@best", "no model stop@best; known: stop@challenger, stop@champion"),
        ("crops", "no model 'crops'; write ./crops for the folder"),
        ("crops/3", "no model 'crops'; write ./crops/3 for the folder"),
        ("./crops", "is not the folder of a model"),
        ("crops/3/", "is not the folder of a model"),
        ("no such: name", "cannot be the name of a model"),
    ],
)
def test_a_model_that_is_not_there_is_refused_with_the_nearest(
    here: Path, stop: list[str], text: str, message: str
) -> None:
    (here / "crops" / "3").mkdir(parents=True, exist_ok=True)
    with pytest.raises(InputError, match=message):
        tracking.resolve(text)


def test_looking_for_a_model_where_nothing_is_recorded_makes_no_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=r"nothing is recorded.*nnst train"):
        tracking.resolve("pare")
    assert os.listdir(tmp_path) == []


def test_a_plain_folder_is_a_model_without_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, digest = model_folder(tmp_path / "model", 1)
    assert tracking.resolve("./model") == tracking.ModelRef(folder, "", folder, digest, "")


def test_a_version_whose_files_were_changed_is_refused(here: Path, tmp_path: Path) -> None:
    register(tmp_path, "changed", 1)
    folder = Path(tracking.resolve("changed").folder)
    model_folder(folder, 2)
    with pytest.raises(InputError, match="not those that were registered"):
        tracking.resolve("changed")
    folder.rename(folder.with_name("away"))
    with pytest.raises(InputError, match="bring that folder back"):
        tracking.resolve("changed")


def test_a_model_on_a_server_comes_here_once_and_shows_its_signature(
    remote: Server, tmp_path: Path
) -> None:
    _, digest = register(tmp_path, "far", 1)
    found = tracking.resolve("far/1")
    assert (found.digest, Path(found.folder).name) == (digest, digest)
    assert sorted(os.listdir(found.folder)) == ["model.json", "weights.safetensors"]
    assert tracking.resolve("far") == found
    # The address from which the page of a version takes its schema.
    page = f"{remote.uri}/model-versions/get-artifact?path=MLmodel&name=far&version=1"
    with urllib.request.urlopen(page, timeout=30) as answer:
        text = answer.read().decode()
    names = ("image", "status", "boxes", "scores", "labels", "threshold")
    assert all(f'"name": "{name}"' in text for name in names)
    assert '"type": "binary"' in text


LOADED = """
import json, sys
import mlflow, pandas

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
example = model.input_example
for path in sys.argv[3:]:
    example = pandas.DataFrame({"image": [open(path, "rb").read()]})
found = [model.predict(example, params={"threshold": least}) for least in (0.0, 0.9999)]
seen = model.predict(pandas.DataFrame({"image": [b"no picture", *example["image"]]}))
try:
    model.predict(pandas.DataFrame({"image": ["text"]}))
except Exception as error:
    print(json.dumps({
        "rows": [each.to_dict("records")[0] for each in found],
        "statuses": seen["status"].tolist(),
        "refused": str(error),
    }))
"""


def loaded(uri: str, model: str, folder: Path, *pictures: Path) -> subprocess.CompletedProcess[str]:
    """What a fresh process makes of a model, by MLflow's own door, and of a picture."""
    environment = os.environ | {"PYTHONPATH": str(Path(nnst.__file__).parents[1])}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-W", "ignore", "-c", LOADED, uri, model]
    command += [str(path) for path in pictures]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_mlflow_itself_loads_a_model_and_finds_with_it(remote: Server, tmp_path: Path) -> None:
    """From code, not from a pickle; the detections are those of nnst's own detector."""
    run, digest = register(tmp_path, "pyfunc", 1)
    done = loaded(remote.uri, "models:/pyfunc@challenger", tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["statuses"] == ["not_an_image", "ok"]
    assert "image holds str, not the bytes of picture files" in told["refused"]
    every, few = told["rows"]
    ours = tracking.resolve("pyfunc")
    detector = load_detector(ours.folder, digest, DetectorSettings())
    example = json.loads(Path(client_of(run).download_artifacts(run.run_id, EXAMPLE)).read_text())
    (data,) = (base64.b64decode(row[0]) for row in example["data"])
    expected = detector.detect_stored(images.decode(data))
    assert len(expected) == len(every["boxes"]) > len(few["boxes"])
    assert every["scores"] == pytest.approx(expected.scores.tolist())
    assert set(every["labels"]) == {"pare"}


def test_mlflow_loads_a_cascade_as_well(
    remote: Server, tmp_path: Path, mark_cascade: str, scenes: Any
) -> None:
    spec, digest = models.load(mark_cascade).spec, models.load(mark_cascade).digest
    with tracking.start("stages", "train", params={}) as run:
        where = str(shutil.copytree(mark_cascade, tmp_path / "cascade"))
        tracking.register("stages", run, where, spec, digest, {"ap50": "0.9"})
    picture = scenes.folder / min(scenes.boxes)
    done = loaded(remote.uri, "models:/stages/1", tmp_path, picture)
    assert done.returncode == 0, done.stderr
    every, few = json.loads(done.stdout)["rows"]
    expected = load_detector(mark_cascade, digest).detect_stored(
        images.decode(picture.read_bytes())
    )
    assert expected.scores[0] > 0.9
    assert every["scores"] == pytest.approx(expected.scores.tolist())
    np.testing.assert_allclose(every["boxes"], expected.boxes, atol=0.01)
    assert few["scores"] == [score for score in every["scores"] if score >= 0.9999]


def test_mlflow_does_not_load_a_model_whose_weights_were_exchanged(
    here: Path, tmp_path: Path
) -> None:
    run, _ = register(tmp_path, "exchanged", 1)
    model_folder(Path(tracking.resolve("exchanged").folder), 2)
    done = loaded(run.uri, "models:/exchanged/1", tmp_path)
    assert done.returncode != 0
    assert "is not the one that was asked for" in done.stderr


# Provenance


def test_versions_are_those_of_the_installed_packages() -> None:
    import cv2
    import torch

    found: Mapping[str, str] = provenance.versions()
    assert set(found) == {"nnst", "numpy", "opencv", "pyarrow", "torch"}
    assert found["torch"] == torch.__version__
    assert found["opencv"].startswith(cv2.__version__)


def test_the_commit_is_that_of_the_checkout_and_says_when_files_differ(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert provenance.code_commit(tmp_path) is None
    git("init", "-q")
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text("1")
    assert provenance.code_commit(code) is None  # not tracked: somebody else's checkout
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert provenance.code_commit(code) == git("rev-parse", "HEAD")
    (code / "a.py").write_text("2")
    assert provenance.code_commit(code) == git("rev-parse", "HEAD") + "-dirty"
