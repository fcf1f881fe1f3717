"""`nnst tune`: real trials on a small Ray, all of whose CPUs a trial's training takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from nnst import config
from nnst.errors import ConfigError
from workflows.__main__ import config_class
from workflows.family import Shared
from workflows.tuner import DEFAULT_SPACE, Trials, points, read_space, trial

BASE = """
background_judged = 2
[training]
steps = 6
logos = 8
background = 8
"""
HOPELESS = "training.learning_rate = [1e-9]\n"  # learns nothing


@pytest.fixture(scope="module")
def words(cluster: str, crop_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Two trials, the second of which learns nothing; each with a worker on every CPU."""
    import ray

    folder = tmp_path_factory.mktemp("tune")
    (folder / "base.toml").write_text(BASE)
    (folder / "space.toml").write_text(HOPELESS)
    workers = int(ray.cluster_resources()["CPU"])
    flags = ["--model", "lenet", "--trials", 2, "--workers", workers, "--epochs", 3]
    files = ["--base", folder / "base.toml", "--space", folder / "space.toml"]
    rule = ["--set", "grace=2", "--set", "scheduler=asha"]
    return ["tune", crop_set, "--name", "tuned", *flags, *files, *rule]


@pytest.fixture(scope="module")
def searched(nnst: Callable[..., Any], words: list[Any]) -> Any:
    done = nnst(*words, "--json")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def client(workplace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")


def children_of(client: MlflowClient, run_id: str) -> dict[str, str]:
    """The status of each child run, by its id."""
    parent = client.get_run(run_id)
    wanted = f"tags.`mlflow.parentRunId` = '{run_id}'"
    found = client.search_runs([parent.info.experiment_id], filter_string=wanted)
    return {run.info.run_id: run.info.status for run in found}


@pytest.mark.slow
def test_trainings_get_all_cpus_as_their_trials_hold_none(searched: Any) -> None:
    """A training with a worker on every CPU would else wait for ever."""
    first, second = searched.document["trials"]
    assert first["model"] == "tuned-tune/1"
    assert first["epochs"] == 3
    assert first["failed"] is second["failed"] is None
    assert second["training.learning_rate"] == 1e-9


@pytest.mark.slow
def test_what_is_worse_after_its_grace_is_stopped_and_its_run_says_so(
    searched: Any, client: MlflowClient
) -> None:
    document = searched.document
    assert [each["stopped_early"] for each in document["trials"]] == [False, True]
    assert document["trials"][1]["epochs"] == 2
    assert document["best"]["trial"] == 0
    children = children_of(client, document["run_id"])
    assert sorted(children.values()) == ["FINISHED", "KILLED"]
    assert children[document["best"]["run_id"]] == "FINISHED"
    (killed,) = (run_id for run_id, status in children.items() if status == "KILLED")
    assert client.get_run(killed).data.tags["stopped_early"] == "true"
    assert client.get_run(killed).data.params["training.learning_rate"] == "1e-09"


@pytest.mark.slow
@pytest.mark.usefixtures("searched", "idle")
def test_what_was_stopped_gives_its_cpus_back() -> None:
    """They are waited for, two minutes at most."""
    import ray

    assert ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"]


@pytest.mark.slow
def test_the_best_settings_are_a_file_that_nnst_train_takes(
    nnst: Callable[..., Any], searched: Any, crop_set: Path, client: MlflowClient
) -> None:
    path = searched.document["config"]
    kept = client.download_artifacts(searched.document["run_id"], "best.toml")
    assert Path(kept).read_text() == Path(path).read_text()
    planned = nnst("train", crop_set, "--name", "best", "--config", path, "--dry-run", "--json")
    assert planned.code == 0, planned.err
    assert planned.document["epochs"] == 3
    assert config.read(path)["training"] == {"steps": 6, "logos": 8, "background": 8}


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_stops_what_was_stopped(
    nnst: Callable[..., Any], searched: Any, words: list[Any], client: MlflowClient
) -> None:
    before = children_of(client, searched.document["run_id"])
    again = nnst(*words, "--json")
    assert again.code == 0, again.err
    assert again.document == searched.document
    assert children_of(client, searched.document["run_id"]) == before
    assert len(client.search_model_versions("name='tuned-tune'")) == 1
    assert json.loads(again.out)  # Ray has not said a word on stdout


def test_what_was_stopped_stays_where_it_was_and_what_is_done_stays_done(tmp_path: Path) -> None:
    """Its training may write one more epoch before it hears of that."""
    trials = Trials(str(tmp_path), Shared(("crops",), "name", {}), ({}, {}), "run", "")
    for number in (0, 1):
        (tmp_path / f"{number:05}").mkdir()
        rows = [{"validation_loss": 0.5}] * 2
        (tmp_path / f"{number:05}" / "rows.json").write_text(json.dumps({"epochs": rows}))
    (tmp_path / "00000" / "done.json").write_text('{"validation": null}')
    for number in (0, 1):
        trial.stop(trials, number, 1)
    done, stopped = (trial.tried(trials, number) for number in (0, 1))
    assert (len(done.rows), done.stopped, done.document) == (2, False, {"validation": None})
    assert (len(stopped.rows), stopped.stopped, stopped.document) == (1, True, None)
    assert list(trial.study(trials, 1)) == [{"epoch": 1, "validation_loss": 0.5}]


def test_every_point_of_the_default_space_is_one_that_nnst_train_takes() -> None:
    drawn = points(DEFAULT_SPACE, 40, seed=0)
    assert drawn[0] == {}
    for point in drawn:
        values = {"crops": ("crops",), "name": "name", **config.nested(point)}
        built = config.build(config_class("train"), values)
        for name, value in point.items():
            assert DEFAULT_SPACE[name].low <= value <= DEFAULT_SPACE[name].high
            found: Any = built
            for part in name.split("."):
                found = getattr(found, part)
            assert found == value


def test_more_trials_begin_with_the_same_ones_and_another_seed_with_others() -> None:
    few, many = points(DEFAULT_SPACE, 4, seed=0), points(DEFAULT_SPACE, 9, seed=0)
    assert many[:4] == few
    assert points(DEFAULT_SPACE, 4, seed=1)[1:] != few[1:]
    assert len({tuple(point.values()) for point in many}) == 9


def test_a_space_is_read_and_drawn_from_evenly(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        """
rounds = [1, 2, 3]
"cascade.mined" = {low = 4, high = 8, whole = true}
[training]
learning_rate = {low = 1e-4, high = 1e-2, log = true}
augment.rotate = {low = 0, high = 20}
"""
    )
    drawn = points(read_space(str(path)), 400, seed=0)[1:]
    columns = {name: np.array([point[name] for point in drawn]) for name in drawn[0]}
    assert set(columns["rounds"]) == {1, 2, 3}
    assert set(columns["cascade.mined"]) == {4, 5, 6, 7, 8}
    assert np.median(columns["training.learning_rate"]) == pytest.approx(1e-3, rel=0.3)
    assert np.median(columns["training.augment.rotate"]) == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no setting"),
        ("rounds = []", "rounds in .* has no values"),
        ("rounds = 3", "rounds in .* has no values"),
        ("seed = {low = 3}", "needs a low that is less than its high"),
        ("seed = {low = 3, high = 3}", "needs a low that is less than its high"),
        ("seed = {low = 0, high = 3, log = true}", "needs a low above 0"),
        ("seed = {low = 0, high = 3, lag = true}", "no setting 'lag'.*did you mean 'log'"),
    ],
)
def test_what_is_no_space_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_space(str(path))


def test_a_setting_that_there_is_not_ends_before_anything_is_trained(
    nnst: Callable[..., Any], crop_set: Path, tmp_path: Path
) -> None:
    path = tmp_path / "space.toml"
    path.write_text("training.learning_rat = [1e-3]")
    done = nnst("tune", crop_set, "--name", "refused", "--space", path, at=tmp_path)
    assert done.code == 2
    assert "no setting 'learning_rat'" in done.err
    assert "did you mean 'learning_rate'?" in done.err
    assert {each.name for each in tmp_path.iterdir()} == {"space.toml"}
