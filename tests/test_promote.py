"""`nnst promote`: the gate in front of the alias, over scans and evaluations that were made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from nnst.evaluation import JudgedPicture
from nnst.records import Annotation
from workflows.pairing import Judged

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def rivals(make_rivals: Callable[[str], Any]) -> Any:
    """`boxer/1` and `boxer/2`, which nothing else scans with or judges."""
    return make_rivals("boxer")


@pytest.fixture
def client(workplace: Path) -> MlflowClient:
    """What is recorded in the workplace."""
    return MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")


def aliases(client: MlflowClient) -> dict[str, str]:
    found = client.get_registered_model("boxer").aliases
    return {alias: str(version) for alias, version in found.items()}


def test_only_a_better_version_becomes_the_champion(
    nnst: Command, rivals: Any, scenes: Any, client: MlflowClient, tmp_path: Path
) -> None:
    """From the first champion over what is missing and refused to the second, and back by force."""
    assert aliases(client) == {"challenger": "2"}  # training never promotes
    assert nnst("promote", "boxer", "1").out.startswith("boxer/1 is the champion of boxer now")
    assert aliases(client) == {"challenger": "2", "champion": "1"}

    missing = nnst("promote", "boxer", "challenger")
    assert missing.code == 2
    assert "there is no evaluation of boxer/2 nor of boxer/1" in missing.err
    assert "nnst evaluate SCAN TRUTH" in missing.err
    assert nnst("evaluate", rivals.scans[1], scenes.truth).code == 0
    assert "no evaluation of boxer/1;" in nnst("promote", "boxer", "2").err

    other = tmp_path / "other.xml"  # the same boxes, and yet another truth
    other.write_text(scenes.truth.read_text().replace("scene9.png", "./scene9.png"))
    (tmp_path / "x").mkdir()
    for name in scenes.boxes:
        (tmp_path / name).write_bytes((scenes.folder / name).read_bytes())
    assert nnst("evaluate", rivals.scans[0], other).code == 0
    assert nnst("promote", "boxer", "2").code == 2

    worse = nnst("evaluate", rivals.scans[0], scenes.truth, "--json").document
    assert nnst("promote", "boxer", "2", "--dry-run").out.startswith("would make boxer/2 the")
    assert aliases(client)["champion"] == "1"
    better = nnst("promote", "boxer", "2", "--json").document
    figures = better["challenger"]["map50"], better["champion"]["map50"]
    assert figures[0] > figures[1] == pytest.approx(worse["map50"]["value"])
    assert aliases(client) == {"champion": "2"}
    assert "better than boxer/1" in client.get_model_version("boxer", "2").tags["promoted"]

    refused = nnst("promote", "boxer", "1")
    assert refused.code == 1
    assert f"{figures[1]:.4f}" in refused.err
    assert f"{figures[0]:.4f}" in refused.err
    assert aliases(client) == {"champion": "2"}
    forced = nnst("promote", "boxer", "1", "--force", "--json").document
    assert (forced["forced"], aliases(client)) == (True, {"champion": "1"})
    assert nnst("promote", "boxer", "1").out == "boxer/1 is the champion already\n"


def test_a_version_or_alias_that_is_not_there_is_refused(nnst: Command, rivals: Any) -> None:
    assert "no model boxer/9" in nnst("promote", "boxer", "9").err
    assert "no model boxer@best" in nnst("promote", "boxer", "best").err
    assert nnst("promote", "boxers", "1").code == 2


def test_an_evaluation_is_a_run_below_the_scans(
    nnst: Command, rivals: Any, scenes: Any, client: MlflowClient
) -> None:
    """The same evaluation again is the same run; what it was judged by is its data."""
    for _ in range(2):
        done = nnst("evaluate", rivals.scans[1], scenes.truth, "--json")
        assert done.document["problems"] == []
    scan_run = rivals.documents[1]["run_id"]
    experiment = client.get_experiment_by_name("boxer").experiment_id
    wanted = f"tags.`mlflow.parentRunId` = '{scan_run}'"
    (own,) = client.search_runs([experiment], filter_string=wanted)
    assert own.info.status == "FINISHED"
    assert (own.data.tags["model"], own.data.tags["verb"]) == ("boxer/2", "evaluate")
    assert own.data.metrics["map50"] == pytest.approx(done.document["map50"]["value"])
    assert own.data.metrics["unseen_map50"] == own.data.metrics["map50"]
    (truth,) = own.inputs.dataset_inputs
    assert own.data.tags["truth_digest"].startswith(truth.dataset.digest)
    files = {file.path for file in client.list_artifacts(own.info.run_id, "plots")}
    assert files == {f"plots/{n}.png" for n in ("calibration", "precision_recall", "scores")}


def test_pictures_that_taught_a_version_do_not_speak_for_it() -> None:
    """Two versions can be compared only where the same pictures are new to both."""
    none = np.zeros(0, bool)
    truth = Annotation("", "", np.zeros((0, 4), np.float32), (), none, none)
    listed = [JudgedPicture(name, [], [], [], truth) for name in "abc"]
    pictures = (*listed, JudgedPicture("d", [], [], [], None))  # not in the truth
    judged = Judged(pictures, ("id-a", "id-b", None, "id-d"), 0)
    everything, whole = judged.unseen_digest(set(), False)
    assert whole
    assert judged.unseen_digest({"id-d", "elsewhere"}, False) == (everything, True)
    taught, whole = judged.unseen_digest({"id-a"}, False)
    assert (taught != everything, whole) == (True, False)
    assert judged.unseen_digest({"id-b"}, False)[0] != taught
    assert judged.unseen_digest({"id-d"}, True)[1] is False  # where unlisted pictures count
