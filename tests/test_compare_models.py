"""`nnst compare-models`: one table, one parent run, and a child run for each model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from nnst import images, models
from workflows import compare_models, comparison, family, tracking

BASE = """
background_judged = 2
[training]
steps = 4
logos = 8
background = 8
"""
MODELS = ("mlp", "lenet")
COMPARED = (  # metrics that MLflow's compare page sets side by side
    *("parameters", "first_layer_weights", "multiply_adds_per_window"),
    *("multiply_adds_per_megapixel", "training_seconds", "average_precision"),
    *("megapixels_per_s", "validation_map50"),
)


@pytest.fixture(scope="module")
def words(crop_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    base = tmp_path_factory.mktemp("base") / "base.toml"
    base.write_text(BASE)
    named = [word for model in MODELS for word in ("--models", model)]
    flags = ("--workers", "1", "--epochs", "1", "--base", base)
    return ("compare-models", crop_set, "--name", "talk", *named, *flags)


@pytest.fixture(scope="module")
def compared(nnst: Callable[..., Any], words: tuple[Any, ...]) -> Any:
    done = nnst(*words, "--json")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def client(workplace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")


def test_each_model_is_trained_on_the_same_split_and_its_costs_are_those_of_its_network(
    compared: Any, client: MlflowClient
) -> None:
    rows = {row["model"]: row for row in compared.document["models"]}
    assert tuple(rows) == MODELS
    assert len({(row["judged"], row["boxes"]) for row in rows.values()}) == 1
    for name, row in rows.items():
        model, number = row["version"].split("/")
        assert (model, number) == (f"talk-{name}", "1")
        source = client.get_model_version_download_uri(model, number)
        spec = models.load(source.removeprefix("file://")).spec
        assert spec.architecture == name
        assert row["parameters"] == models.count_parameters(spec)
        assert row["multiply_adds_per_window"] == models.multiply_adds(spec)
        assert row["multiply_adds_per_megapixel"] == models.multiply_adds(spec, (1000, 1000))
        assert row["training_seconds"] > 0
        assert row["megapixels_per_s"] > 0
        assert 0 <= row["average_precision"] <= 1
    height, width = models.load(source.removeprefix("file://")).spec.window_hw
    assert rows["mlp"]["first_layer_weights"] == 3 * height * width * 1000


def test_the_runs_are_children_of_one_and_hold_the_same_figures(
    compared: Any, client: MlflowClient
) -> None:
    parent = client.get_run(compared.document["run_id"])
    wanted = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], filter_string=wanted)
    assert {run.info.run_id for run in children} == {
        row["run_id"] for row in compared.document["models"]
    }
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    for run in children:
        assert set(COMPARED) <= set(run.data.metrics)
        assert run.data.params["model"] == run.data.tags["architecture"]
    names = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert set(names) == {"comparison.json", "comparison.txt", "plots"}
    path = client.download_artifacts(parent.info.run_id, "comparison.json")
    table = json.loads(Path(path).read_text())
    assert table["columns"][:3] == ["model", "parameters", "first_layer_weights"]
    assert [row[0] for row in table["data"]] == [*MODELS]
    figure = Path(client.download_artifacts(parent.info.run_id, "plots/comparison.png"))
    assert images.decode(figure.read_bytes()).pixels.std() > 1  # something is drawn


def test_the_same_command_again_trains_nothing_and_prints_the_table(
    compared: Any, nnst: Callable[..., Any], words: tuple[Any, ...], client: MlflowClient
) -> None:
    again = nnst(*words)
    assert again.code == 0, again.err
    head, mlp, lenet, *rest = again.out.splitlines()
    assert head.split()[:3] == ["model", "parameters", "first"]
    assert mlp.split()[0] == "mlp"
    assert lenet.split()[0] == "lenet"
    weights = compared.document["models"][0]["first_layer_weights"]
    assert f"{weights:,}" in mlp
    assert "with nnst crop --window 75x22 mlp's first layer has 4,950,000" in rest
    for model in MODELS:
        assert len(client.search_model_versions(f"name='talk-{model}'")) == 1


def test_the_talks_first_layer_has_as_many_weights_as_the_talk_says() -> None:
    assert compare_models.talk_weights() == 4_950_000


def test_what_would_be_trained_is_told_and_nothing_is_done(
    nnst: Callable[..., Any], words: tuple[Any, ...], tmp_path: Path
) -> None:
    told = nnst(*words, "--dry-run", "--json", at=tmp_path)
    assert told.code == 0, told.err
    assert [*told.document["models"]] == [*MODELS]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = 'other'", "sets name; leave it out"),
        ("epoch = 3", "no setting 'epoch' in "),
        ("[training]\nsteps = 0", "steps must be 1 or more"),
    ],
)
def test_a_file_that_nnst_train_would_not_take_is_refused_before_anything_is_trained(
    nnst: Callable[..., Any], crop_set: Path, tmp_path: Path, text: str, told: str
) -> None:
    base = tmp_path / "base.toml"
    base.write_text(text)
    done = nnst("compare-models", crop_set, "--name", "refused", "--base", base)
    assert done.code == 2
    assert told in done.err


def test_without_mlflow_no_child_is_left_without_its_parent(
    nnst: Callable[..., Any], crop_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    words = ("--name", "alone", "--set", "tracking.start=0.1")
    done = nnst("compare-models", crop_set, *words, at=tmp_path)
    assert done.code == 1
    assert "a child run has to name its parent; run the same command again" in done.err


def test_what_is_not_known_is_a_dash_and_large_numbers_are_short() -> None:
    row = {"model": "mlp", "parameters": 4_953_002, "multiply_adds_per_window": 4_952_000}
    line = comparison.as_text([row])[1]
    assert line.split() == ["mlp", "4,953,002", "-", "4.95", "M", "-", "-", "-", "-"]


def test_without_a_name_models_are_called_after_the_logo(
    nnst: Callable[..., Any], crop_set: Path, tmp_path: Path
) -> None:
    told = nnst("compare-models", crop_set, "--dry-run", "--json", at=tmp_path).document["models"]
    assert len(told) == 3
    for model, plan in told.items():
        (logo,) = plan["labels"]
        assert plan["name"] == f"{logo}-{model}"


@pytest.mark.parametrize(
    ("logos", "name"),
    [
        (("PARE",), "PARE"),
        (("Coca Cola", "ä/b"), "Coca_Cola-ä_b"),
        (("..",), "logo"),
        (("x" * 500,), "x" * 60),
    ],
)
def test_a_name_of_logos_is_one_that_a_model_may_have(logos: tuple[str, ...], name: str) -> None:
    assert family.called_after(logos) == name
    tracking.check_model_name(name)
