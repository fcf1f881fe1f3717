"""`nnst compare`: what is computed, the command over folders, runs and versions, and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from nnst.evaluation.differences import Found, differ
from tests.ports import free_port

Command = Callable[..., Any]


def found(*rows: tuple[float, float, float, float, float], label: str = "mark") -> Found:
    """Detections of one picture, at a threshold of a half: x0 y0 x1 y1 score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Found(table[:, :4], table[:, 4], np.array([label] * len(rows), np.str_), 0.5)


# What is computed


def test_boxes_of_half_overlap_are_one_object_and_change_by_their_scores() -> None:
    (pair,) = differ(found((0, 0, 30, 20, 0.9)), found((10, 0, 40, 20, 0.6)))  # IoU 0.5
    assert (pair.kind, pair.score_a, pair.score_b) == ("both", 0.9, 0.6)
    assert pair.change == pytest.approx(-0.3)
    kinds = {each.kind for each in differ(found((0, 0, 30, 20, 0.9)), found((11, 0, 41, 20, 0.6)))}
    assert kinds == {"a", "b"}


def test_what_only_one_found_has_the_score_that_the_other_gave_it_below_its_threshold() -> None:
    a, b = found((0, 0, 30, 20, 0.9), (60, 0, 90, 20, 0.2)), found((1, 0, 31, 20, 0.4))
    (pair,) = differ(a, b)
    assert (pair.kind, pair.score_a, pair.score_b) == ("a", 0.9, 0.4)
    (turned,) = differ(b, a)
    assert (turned.kind, turned.score_a, turned.score_b) == ("b", 0.4, 0.9)
    (alone,) = differ(a, found())
    assert (alone.kind, alone.score_b) == ("a", None)


def test_each_detection_is_one_object_and_labels_do_not_mix() -> None:
    twice = found((0, 0, 30, 20, 0.9), (1, 0, 31, 20, 0.8))
    assert sorted(each.kind for each in differ(twice, found((0, 0, 30, 20, 0.7)))) == ["a", "both"]
    other = found((0, 0, 30, 20, 0.9), label="other")
    assert {each.kind for each in differ(found((0, 0, 30, 20, 0.9)), other)} == {"a", "b"}
    assert differ(found(), found((0, 0, 30, 20, 0.49))) == ()


# The command


@pytest.fixture(scope="module")
def compared(nnst: Command, rivals: Any) -> Any:
    done = nnst("compare", *rivals.scans, "--json")
    assert done.code == 0, done.err
    return done.document


def test_what_one_finds_and_the_other_does_not_adds_up_to_what_each_found(
    compared: Any, rivals: Any
) -> None:
    assert compared["pictures"] == {"both": 10, "a": 0, "b": 0}
    logos, pictures = compared["logos"], compared["found"]
    assert logos["b"] > 0 == logos["a"]  # rival/1 sees less, and nothing beside
    for side, document in zip("ab", rivals.documents, strict=True):
        assert pictures["both"] + pictures[side] == document["found"]
    lonely = [pair for each in compared["differing"] for pair in each["logos"]]
    assert sum(pair["kind"] == "b" for pair in lonely) == logos["b"]
    threshold = compared["a"]["threshold"]
    for pair in lonely:
        if pair["kind"] == "b":
            assert pair["score_b"] >= threshold > (pair["score_a"] or 0)
    assert compared["change"]["mean"] > 0  # its log-odds were lowered, everywhere


def test_runs_and_versions_lead_to_the_same_comparison(
    nnst: Command, compared: Any, rivals: Any
) -> None:
    runs = [document["run_id"] for document in rivals.documents]
    for words in (runs, ["rival/1", "rival/2"], [*rivals.runs], ["rival/1", rivals.scans[1]]):
        document = nnst("compare", *words, "--json").document
        assert {**document, "problems": 0} == {**compared, "problems": 0}, words


def test_page_and_figures_are_artifacts_of_both_runs(
    compared: Any, rivals: Any, workplace: Path
) -> None:
    client = MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")
    assert compared["problems"] == []
    for document in rivals.documents:
        files = [file.path for file in client.list_artifacts(document["run_id"], "compare")]
        assert sorted(Path(name).suffix for name in files) == [".html", ".json"]
        kept = client.download_artifacts(document["run_id"], sorted(files)[0])
        assert Path(kept).read_bytes() == Path(compared["page"]).read_bytes()


def test_what_a_person_reads_names_both_and_the_pictures(nnst: Command, rivals: Any) -> None:
    told = nnst("compare", *rivals.scans).out
    assert told.startswith("A: rival/1, from a score of 0.50 on\nB: rival/2, from")
    assert "only B" in told
    assert ".png: only B 0." in told
    assert "page: " in told


@pytest.fixture(scope="module")
def unseen(register_doubter: Callable[[str, float], str]) -> str:
    """The run of a version that has scanned nothing."""
    return register_doubter("unseen", 0.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rival/2", "rival/2"), "are the same scan"),
        (("rival/9", "rival/2"), "no model rival/9"),
        (("unseen/1", "rival/2"), "run nnst scan ARCHIVE --model unseen/1"),
        (("0" * 32, "rival/2"), f"no run {'0' * 32}"),
        (("no/such/folder/", "rival/2"), "is no scan folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_to_run(
    nnst: Command, rivals: Any, unseen: str, words: tuple[str, str], message: str
) -> None:
    done = nnst("compare", *words)
    assert done.code == 2
    assert message in done.err


def test_a_dry_run_writes_nothing(nnst: Command, rivals: Any, tmp_path: Path) -> None:
    done = nnst("compare", *rivals.scans, "--out", tmp_path / "page", "--dry-run")
    assert done.out.startswith("would compare ")
    assert not (tmp_path / "page").exists()


# The page


@pytest.fixture
def page(compared: Any, open_file: Callable[[Path], Any]) -> Any:
    """The page, without a network."""
    return open_file(Path(compared["page"]))


def test_the_page_shows_each_picture_that_differs_with_a_box_for_each_logo(
    compared: Any, page: Any
) -> None:
    differing = compared["differing"]
    assert page.locator(".card").count() == len(differing) > 0
    boxes = sum(len(each["logos"]) for each in differing)
    assert page.locator(".overlay .box").count() == boxes
    assert page.locator(".logos tr").count() == boxes
    loaded = page.eval_on_selector_all(".card img", "all => all.map(img => img.naturalWidth > 0)")
    assert loaded == [True] * len(differing)
    page.locator("label", has_text="found by both").click()
    assert page.locator(".card").count() == compared["found"]["both"]
    page.locator("label", has_text="only A").click()
    assert page.locator("#none").is_visible()
    row = page.locator("#counts tr", has_text="logos").text_content()
    assert row == "logos" + "".join(str(compared["logos"][kind]) for kind in ("both", "a", "b"))


# MLflow's own page of two runs


@pytest.fixture
def ui(rivals: Any, workplace: Path) -> Iterator[str]:
    """The address of MLflow's pages over what is recorded in the workplace."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "workflows", "ui", "--port", str(port)],
        cwd=workplace,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    assert server.stderr.readline().startswith("runs and models: http://127.0.0.1:")
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.communicate(timeout=60)


def test_mlflows_compare_page_shows_both_evaluations_side_by_side(
    nnst: Command, rivals: Any, scenes: Any, workplace: Path, ui: str, chromium: Any, tmp_path: Path
) -> None:
    for out in rivals.scans:
        assert nnst("evaluate", out, scenes.truth).code == 0
    client = MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("rival").experiment_id
    wanted = f"tags.verb = 'evaluate' and params.truth = '{scenes.truth}'"
    found = client.search_runs([experiment], filter_string=wanted)
    assert {run.data.tags["model"] for run in found} == {"rival/1", "rival/2"}
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(120_000)
    shown = context.new_page()
    runs = json.dumps([run.info.run_id for run in found])
    shown.goto(f'{ui}/#/compare-runs?runs={runs}&experiments=["{experiment}"]')
    for run in found:
        shown.get_by_text(run.info.run_name).first.wait_for()
    shown.get_by_text("map50").first.wait_for()
    text = shown.text_content("body")
    assert "Comparing 2 Runs" in text
    for name, value in {each for run in found for each in run.data.tags.items()}:
        if name in ("model", "model_digest", "truth_digest"):
            assert value in text, name
    shown.screenshot(path=tmp_path / "compare-runs.png", full_page=True)
    context.close()
    assert (tmp_path / "compare-runs.png").stat().st_size > 10_000


def test_the_document_beside_the_page_is_what_was_printed(compared: Any) -> None:
    kept = json.loads((Path(compared["page"]).parent / "comparison.json").read_text())
    assert kept == {name: value for name, value in compared.items() if name in kept}
    assert kept.keys() == compared.keys() - {"page", "problems"}
