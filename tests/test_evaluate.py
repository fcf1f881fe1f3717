"""`nnst evaluate` on scans written by hand, whose figures can be worked out on paper."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from nnst import images, imglab, ledger, models, records
from nnst.ledger import Job, Ledger
from nnst.records import ModelSpec, Receipt
from workflows import learning_curve, tracking
from workflows.__main__ import config_class

Command = Callable[..., Any]
Found = tuple[float, float, float, float, float]  # x0 y0 x1 y1 score

BOX = imglab.Box(10, 10, 40, 24, "mark")
HIT, MISS = (10, 10, 50, 34), (100, 100, 140, 124)


@dataclass(frozen=True)
class Scan:
    """A scan written by hand."""

    out: Path
    run_id: str


@pytest.fixture(scope="module")
def run_id(workplace: Path) -> str:
    """A run in the workplace's MLflow, as a scan leaves it."""
    with contextlib.chdir(workplace), tracking.start("mark", "scan by hand", params={}) as run:
        return run.run_id


@pytest.fixture
def write_scan(tmp_path: Path, run_id: str) -> Callable[..., Scan]:
    """Writes a scan: for each picture what was found in it, None where it could not be read."""

    def write(
        found: dict[str, Sequence[Found] | None],
        model: str = "mark",
        labels: Sequence[str] = ("background", "mark"),
        identities: dict[str, str] | None = None,
    ) -> Scan:
        out = tmp_path / "scan"
        book = Ledger.create(str(out), job(list(found), model, labels, run_id))
        ids = {name: name.ljust(64, "0") for name in found} | (identities or {})
        rows = [image_row(name, ids[name], each) for name, each in found.items()]
        boxes = [
            dict(
                zip(records.DETECTIONS.names, (name, ids[name], *each, "mark", model), strict=True)
            )
            for name, several in found.items()
            for each in several or ()
        ]
        files = tuple(
            ledger.write_part(book.out, table, 0, pa.Table.from_pylist(some, schema=schema))
            for table, some, schema in (
                ("images", rows, records.IMAGES),
                ("detections", boxes, records.DETECTIONS),
            )
        )
        bad = sum(each is None for each in found.values())
        reasons = {"truncated": bad} if bad else {}
        book.commit(Receipt(0, len(rows), len(rows) - bad, bad, files, book.fingerprint, reasons))
        book.succeed()
        return Scan(out, run_id)

    return write


def job(names: Sequence[str], model: str, labels: Sequence[str], run_id: str) -> Job:
    inputs = [
        {"image": name, "container": name, "offset": -1, "bytes": 1, "stamp": "", "shard": 0}
        for name in names
    ]
    digest = {"digest": "0" * 64, "labels": list(labels), "threshold": 0.5, "window_hw": [24, 40]}
    return Job(
        verb="scan",
        inputs=pa.Table.from_pylist(inputs, schema=records.INPUTS),
        settings={},
        model={"name": model, "version": "", **digest},
        notes={"run_id": run_id, "skipped": {}, "boxes": "stored pixels"},
    )


def image_row(name: str, image_id: str, found: Sequence[Found] | None) -> dict[str, Any]:
    if found is None:
        return {"image": name, "image_id": image_id, "status": "truncated", "detections": 0}
    best = max((each[4] for each in found), default=None)
    size = {"width": 220, "height": 160, "status": "ok"}
    return {"image": name, "image_id": image_id, **size, "detections": len(found), "score": best}


@pytest.fixture
def write_truth(tmp_path: Path) -> Callable[..., Path]:
    """Writes an imglab file: for each picture its boxes."""

    def write(entries: dict[str, Sequence[imglab.Box]], name: str = "truth.xml") -> Path:
        found = tuple(imglab.Image(file, tuple(boxes)) for file, boxes in entries.items())
        imglab.write(imglab.Dataset(found), tmp_path / name)
        return tmp_path / name

    return write


def figures(done: Any) -> dict[str, Any]:
    """The figures of the one label."""
    assert done.code == 0, done.err
    (label,) = done.document["labels"]
    return label


# --- Figures


def test_every_box_found_and_nothing_else_is_an_average_precision_of_one(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({f"{n}.jpg": [(*HIT, 0.9)] for n in range(4)})
    truth = write_truth({f"{n}.jpg": [BOX] for n in range(4)})
    found = figures(nnst("evaluate", scan.out, truth, "--json"))
    assert (found["ap50"]["value"], found["ap30"]["value"]) == (1, 1)
    assert (found["tp"], found["fp"], found["missed"], found["truth_boxes"]) == (4, 0, 0, 4)


def test_figures_are_those_of_the_paper(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    """In order of score: true, false, true, and one box is missed.

    Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3: the area under its envelope is 1/3 + 2/9.
    """
    scan = write_scan(
        {
            "a.jpg": [(*HIT, 0.9), (*MISS, 0.8)],
            "b.jpg": [(*HIT, 0.7)],
            "c.jpg": [],
        }
    )
    truth = write_truth({f"{name}.jpg": [BOX] for name in "abc"})
    found = figures(nnst("evaluate", scan.out, truth, "--json"))
    assert found["ap50"]["value"] == pytest.approx(1 / 3 + 2 / 9)
    assert (found["tp"], found["fp"], found["missed"]) == (2, 1, 1)
    assert found["ap50"]["low"] <= found["ap50"]["value"] <= found["ap50"]["high"]


def test_a_box_that_is_half_right_counts_at_iou_03_and_not_at_05(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"a.jpg": [(10, 10, 26, 34, 0.9)]})  # 16 of 40 columns: IoU 0.4
    found = figures(nnst("evaluate", scan.out, write_truth({"a.jpg": [BOX]}), "--json"))
    assert (found["ap50"]["value"], found["ap30"]["value"]) == (0, 1)


def test_what_a_person_reads_is_what_was_computed(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9), (*MISS, 0.6)], "b.jpg": []})
    truth = write_truth({"a.jpg": [BOX], "b.jpg": [BOX], "c.jpg": [BOX]})
    done = nnst("evaluate", scan.out, truth)
    assert done.code == 0
    (path,) = (scan.out / "evaluation").glob("*.json")
    lines = done.out.splitlines()
    assert lines[:2] == ["2 pictures judged", "  mark: 2 boxes in the truth, 0 set aside"]
    assert lines[2].startswith("    average precision at IoU 0.5    0.500  (95 %: ")
    assert "    at the threshold 0.50: 1 found, 1 missed, 1 false" in lines
    assert any(line.startswith("      precision                     0.500") for line in lines)
    assert "      below 32 px                 2    0.500   0.500" in lines
    assert "      above 96 px                 0        -       -" in lines
    colons = {line.index("  (95 %") for line in lines if "(95 %" in line}
    assert len(colons) == 1  # the figures stand below each other
    assert "  1 pictures of the truth were not scanned" in lines
    assert lines[-2:] == [f"evaluation: {path}", f"next:       nnst report {scan.out}"]


def test_a_picture_that_could_not_be_read_costs_its_boxes(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9)], "b.jpg": None})
    truth = write_truth({"a.jpg": [BOX], "b.jpg": [BOX]})
    done = nnst("evaluate", scan.out, truth, "--json")
    assert figures(done)["missed"] == 1
    assert done.document["unreadable"] == 1


def test_ignore_boxes_are_neither_found_nor_missed(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    ignored = imglab.Box(100, 100, 40, 24, "mark", ignore=True)
    scan = write_scan({"a.jpg": [(*HIT, 0.9), (*MISS, 0.8)]})
    found = figures(nnst("evaluate", scan.out, write_truth({"a.jpg": [BOX, ignored]}), "--json"))
    assert (found["ap50"]["value"], found["fp"], found["ignored_boxes"]) == (1, 0, 1)


# --- Which pictures


def test_a_picture_that_the_truth_does_not_list_is_skipped_or_counts_as_negative(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.7)], "b.jpg": [(*HIT, 0.9)]})
    truth = write_truth({"a.jpg": [BOX]})
    skipped = nnst("evaluate", scan.out, truth, "--json")
    assert figures(skipped)["fp"] == 0
    assert (skipped.document["skipped"], skipped.document["pictures"]) == (1, 1)
    assert (
        "1 scanned pictures are not in the truth: skipped" in nnst("evaluate", scan.out, truth).out
    )
    negative = nnst("evaluate", scan.out, truth, "--unlisted", "negative", "--json")
    assert (figures(negative)["fp"], figures(negative)["ap50"]["value"]) == (1, 0.5)
    assert (negative.document["skipped"], negative.document["unlisted"]) == (0, 1)


def test_pictures_meet_by_content_whatever_they_are_called(
    nnst: Command, write_scan: Command, write_truth: Command, tmp_path: Path
) -> None:
    for name, shade in (("a.png", 10), ("b.png", 200)):
        pixels = np.full((40, 60, 3), shade, np.uint8)
        (tmp_path / name).write_bytes(images.encode_png(pixels))
    content = {name: images.content_hash((tmp_path / name).read_bytes()) for name in
               ("a.png", "b.png")}  # fmt: skip
    # In the scan the names stand the other way round.
    scan = write_scan(
        {"x/b.png": [(*HIT, 0.9)], "x/a.png": []},
        identities={"x/b.png": content["a.png"], "x/a.png": content["b.png"]},
    )
    truth = write_truth({"a.png": [BOX], "b.png": []})
    assert figures(nnst("evaluate", scan.out, truth, "--json"))["ap50"]["value"] == 1


def test_pictures_that_are_not_at_hand_meet_by_the_end_of_their_paths(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"one/a.jpg": [(*HIT, 0.9)], "two/a.jpg": []})
    truth = write_truth({"data/two/a.jpg": [], "data/one/a.jpg": [BOX]})
    assert figures(nnst("evaluate", scan.out, truth, "--json"))["ap50"]["value"] == 1


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"other.jpg": [BOX]}, "names no picture of"),
        ({}, "lists no picture; give the truth of the scanned pictures"),
    ],
    ids=["other pictures", "no picture"],
)
def test_truth_of_other_pictures_is_refused(
    nnst: Command,
    write_scan: Command,
    write_truth: Command,
    entries: dict[str, Any],
    told: str,
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9)]})
    done = nnst("evaluate", scan.out, write_truth(entries))
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert not (scan.out / "evaluation").exists()


def test_truth_with_other_labels_only_is_refused(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    """An average precision of nothing cannot be said, and both sides are named."""
    scan = write_scan({"a.jpg": [(*HIT, 0.9)]})
    done = nnst("evaluate", scan.out, write_truth({"a.jpg": [imglab.Box(10, 10, 40, 24, "cat")]}))
    assert (done.code, done.out) == (2, "")
    assert "boxes of cat" in done.err
    assert "finds mark" in done.err
    assert len(done.err.splitlines()) == 1


# --- Pictures that the model has seen


def test_held_out_pictures_are_told_apart_when_the_model_names_those_it_learnt_from(
    nnst: Command, write_scan: Command, write_truth: Command, tmp_path: Path
) -> None:
    spec = ModelSpec("mlp", ("background", "mark"), (24, 40), 4, widths=(1,))
    seen = {"trained_on": ["a.jpg".ljust(64, "0"), "b.jpg".ljust(64, "0")]}
    models.save(tmp_path / "model", spec, models.build(spec).state_dict(), seen)
    found = {"a.jpg": [(*HIT, 0.9)], "b.jpg": [(*HIT, 0.9)], "c.jpg": [(*HIT, 0.9)], "d.jpg": []}
    scan = write_scan(found, model=str(tmp_path / "model"))
    truth = write_truth({name: [BOX] for name in found})
    done = nnst("evaluate", scan.out, truth, "--json")
    assert figures(done)["ap50"]["value"] == 0.75
    held_out = done.document["held_out"]
    assert held_out["pictures"] == 2
    assert held_out["labels"][0]["ap50"]["value"] == 0.5
    assert "of these, 2 that the model was not trained on" in nnst("evaluate", scan.out, truth).out


@pytest.mark.parametrize("model", ["mark", "/nowhere/model"], ids=["unknown", "gone"])
def test_nothing_is_said_of_held_out_pictures_when_that_is_not_known(
    nnst: Command, write_scan: Command, write_truth: Command, model: str
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9)]}, model=model)
    done = nnst("evaluate", scan.out, write_truth({"a.jpg": [BOX]}), "--json")
    assert figures(done)["ap50"]["value"] == 1
    assert done.document["held_out"] is None


# --- Where the figures go


def test_the_figures_land_beside_the_scan_and_in_its_run(
    nnst: Command, write_scan: Command, write_truth: Command, workplace: Path
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9)], "b.jpg": []})
    truth = write_truth({"a.jpg": [BOX], "b.jpg": [BOX]})
    done = nnst("evaluate", scan.out, truth, "--json")
    (path,) = (scan.out / "evaluation").glob("*.json")
    stored = json.loads(path.read_text())
    assert stored["labels"] == done.document["labels"]
    assert (stored["truth"], stored["scan"]) == (str(truth), str(scan.out))
    assert done.document["evaluation"] == str(path)
    client = MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")
    run = client.get_run(scan.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["ap50_mark"] == 0.5
    assert run.data.metrics["map50"] == 0.5
    assert run.data.metrics["recall_mark"] == 0.5
    assert "evaluation.json" in [file.path for file in client.list_artifacts(scan.run_id)]


def test_each_truth_has_an_evaluation_of_its_own_and_the_same_one_is_written_over(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9)]})
    first = write_truth({"a.jpg": [BOX]})
    other = write_truth({"a.jpg": []}, "other.xml")
    for truth in (first, other, first):
        assert nnst("evaluate", scan.out, truth).code == 0
    assert len(list((scan.out / "evaluation").iterdir())) == 2


def test_mlflow_that_is_gone_is_a_note_and_no_failure(
    nnst: Command, write_scan: Command, write_truth: Command, tmp_path: Path
) -> None:
    """Run from another folder, where the run is not recorded."""
    scan = write_scan({"a.jpg": [(*HIT, 0.9)]})
    truth = write_truth({"a.jpg": [BOX]})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = nnst("evaluate", scan.out, truth, at=elsewhere)
    assert (done.code, done.err) == (0, "")
    assert f"note: no run {scan.run_id} in MLflow" in done.out
    assert len(list((scan.out / "evaluation").iterdir())) == 1


def test_a_dry_run_writes_nothing(nnst: Command, write_scan: Command, write_truth: Command) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9)]})
    truth = write_truth({"a.jpg": [BOX]})
    done = nnst("evaluate", scan.out, truth, "--dry-run")
    assert done.out.startswith("would judge 1 pictures and write ")
    assert not (scan.out / "evaluation").exists()


def test_the_output_of_another_verb_is_no_scan(
    nnst: Command, crop_set: Path, write_truth: Command
) -> None:
    done = nnst("evaluate", crop_set, write_truth({"a.jpg": [BOX]}))
    assert done.code == 2
    assert "was written by nnst crop, not by nnst scan" in done.err


def test_a_scan_and_its_truth_go_through_the_whole_path(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "real"
    assert nnst("scan", scenes.folder, "--model", mark_model, "--out", out).code == 0
    found = figures(nnst("evaluate", out, scenes.truth, "--json"))
    assert (found["ap50"]["value"], found["tp"], found["missed"]) == (1, 10, 0)


# --- Rates, sizes, thresholds


def test_recall_at_a_rate_of_megapixels_counts_those_that_were_read(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    """Two pictures of 220 x 160 have 0.0704 MP: 100 / 0.0704 false a 100 MP allow one."""
    scan = write_scan(
        {"a.jpg": [(*MISS, 0.9), (*HIT, 0.8)], "b.jpg": [(*HIT, 0.95)], "c.jpg": None}
    )
    truth = write_truth({f"{name}.jpg": [BOX] for name in "abc"})
    done = nnst("evaluate", scan.out, truth, "--json")
    assert done.document["megapixels"] == pytest.approx(0.0704)
    found = figures(done)
    assert found["recall50_at_megapixel_rate"]["value"] == pytest.approx(1 / 3)
    assert done.document["mean_recall30_at_megapixel_rate"]["value"] == pytest.approx(1 / 3)
    rate = ("--set", f"false_positives_per_100_megapixels={100 / 0.0704}")
    more = figures(nnst("evaluate", scan.out, truth, "--json", *rate))
    assert more["recall50_at_megapixel_rate"]["value"] == pytest.approx(2 / 3)


def test_the_threshold_of_a_wanted_precision_replaces_the_models(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    """Down to 0.3 three of four are true; down to the model's 0.5 two of three."""
    scan = write_scan(
        {"a.jpg": [(*HIT, 0.9), (*MISS, 0.6)], "b.jpg": [(*HIT, 0.7)], "c.jpg": [(*HIT, 0.3)]}
    )
    truth = write_truth({f"{name}.jpg": [BOX] for name in "abc"})
    own = nnst("evaluate", scan.out, truth, "--json")
    assert (own.document["threshold"], own.document["threshold_from"]) == (0.5, "model")
    assert figures(own)["precision"] == pytest.approx(2 / 3)
    wanted = ("--target-precision", "0.75")
    done = nnst("evaluate", scan.out, truth, "--json", *wanted)
    document = done.document
    assert (document["threshold"], document["threshold_from"]) == (0.3, "target precision 0.75")
    assert (figures(done)["precision"], figures(done)["recall"]) == (0.75, 1)
    low, high = figures(done)["precision_interval"]
    assert low <= 0.75 <= high
    told = nnst("evaluate", scan.out, truth, *wanted).out
    assert "threshold 0.3: the least with a precision of 0.75 (0.750, recall 1.000)" in told
    assert told.splitlines()[-1].endswith(f"nnst report {scan.out} --threshold 0.3")


def test_a_precision_that_no_threshold_reaches_is_no_failure(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"a.jpg": [(*MISS, 0.9), (*HIT, 0.8)], "b.jpg": []})
    truth = write_truth({"a.jpg": [BOX], "b.jpg": [BOX]})
    done = nnst("evaluate", scan.out, truth, "--target-precision", "0.95", "--json")
    assert done.code == 0
    assert done.document["threshold"] is None
    assert (figures(done)["precision"], figures(done)["recall"]) == (None, None)
    told = nnst("evaluate", scan.out, truth, "--target-precision", "0.95").out
    assert "no threshold has a precision of 0.95: the best is 0.500, recall 0.500" in told
    assert told.splitlines()[-1] == f"next:       nnst report {scan.out}"


@pytest.mark.parametrize("precision", ["0", "1.5", "much"])
def test_a_precision_that_cannot_be_is_refused(
    nnst: Command, write_scan: Command, write_truth: Command, precision: str
) -> None:
    scan = write_scan({"a.jpg": []})
    truth = write_truth({"a.jpg": [BOX]})
    done = nnst("evaluate", scan.out, truth, "--target-precision", precision)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "target_precision" in done.err


def test_sizes_are_told_apart_in_the_figures_and_in_the_run(
    nnst: Command, write_scan: Command, write_truth: Command, workplace: Path
) -> None:
    large = imglab.Box(60, 10, 150, 140, "mark")
    scan = write_scan({"a.jpg": [(*HIT, 0.9), (*MISS, 0.8)]})
    done = nnst("evaluate", scan.out, write_truth({"a.jpg": [BOX, large]}), "--json")
    sizes = {each["size"]: each for each in figures(done)["slices"]}
    assert sizes["small"] == {"size": "small", "boxes": 1, "recall": 1, "ap50": 1}
    assert sizes["medium"] == {"size": "medium", "boxes": 0, "recall": None, "ap50": None}
    assert sizes["large"] == {"size": "large", "boxes": 1, "recall": 0, "ap50": 0}
    metrics = MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db").get_run(scan.run_id).data
    assert metrics.metrics["boxes_large_mark"] == 1
    assert metrics.metrics["ap50_small_mark"] == 1


# --- The learning curve


def test_a_learning_curve_needs_to_know_how_the_model_was_trained(
    nnst: Command, write_scan: Command, write_truth: Command
) -> None:
    scan = write_scan({"a.jpg": [(*HIT, 0.9)]})
    done = nnst("evaluate", scan.out, write_truth({"a.jpg": [BOX]}), "--learning-curve")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "how it was trained is not recorded" in done.err


@pytest.fixture
def scan_of_trained(nnst: Command, trained: Any, scenes: Any, tmp_path: Path) -> Path:
    """A scan of the drawn pictures by a model that was trained on some of them."""
    if "share" not in {field.name for field in dataclasses.fields(config_class("train"))}:
        pytest.skip("nnst train cannot yet learn from a share of its pictures")
    out = tmp_path / "scan"
    assert nnst("scan", scenes.folder, "--model", trained.document["model"], "--out", out).code == 0
    return out


@pytest.mark.slow
def test_a_learning_curve_from_the_scan_to_the_plot(
    nnst: Command, scan_of_trained: Path, scenes: Any, workplace: Path
) -> None:
    """Two points; the pictures judged are the four that training held out, and no other."""
    words = ("evaluate", scan_of_trained, scenes.truth, "--learning-curve", "--json")
    shares = ("--set", "learning_curve_shares=1.0,0.5")
    done = nnst(*words, *shares)
    assert done.code == 0, done.err
    half, whole = done.document["learning_curve"]
    assert (half["share"], whole["share"]) == (0.5, 1)
    assert 0 < half["boxes"] < whole["boxes"]
    assert half["judged"] == whole["judged"] == done.document["held_out"]["pictures"]
    assert 0 <= half["ap50"]["value"] <= 1
    client = MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")
    (run,) = client.search_runs(
        [client.get_experiment_by_name("mark").experiment_id],
        f"tags.out = '{scan_of_trained}'",
    )
    plots = [file.path for file in client.list_artifacts(run.info.run_id, "plots")]
    assert "plots/learning_curve.png" in plots
    versions = len(client.search_model_versions("name='mark-curve'"))
    again = nnst(*words, *shares)
    assert again.document["learning_curve"] == done.document["learning_curve"]
    assert len(client.search_model_versions("name='mark-curve'")) == versions  # none made anew
    told = nnst(*words[:-1], *shares).out
    assert "learning curve, on " in told
    assert nnst("report", scan_of_trained).code == 0  # it reads what lies beside the curve


def test_a_learning_curve_without_its_crops_is_refused_in_one_line(
    nnst: Command, scan_of_trained: Path, scenes: Any, crop_set: Path
) -> None:
    aside = crop_set.with_name("aside")
    crop_set.rename(aside)
    try:
        done = nnst("evaluate", scan_of_trained, scenes.truth, "--learning-curve")
    finally:
        aside.rename(crop_set)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert f"{crop_set} is gone" in done.err


def point(boxes: int, value: float, half: float) -> dict[str, Any]:
    return {"boxes": boxes, "ap50": {"value": value, "low": value - half, "high": value + half}}


@pytest.mark.parametrize(
    ("before", "last", "half", "told"),
    [
        (0.5, 0.8, 0.1, "it still rises, by 0.300 from 10 to 20 boxes: draw more boxes"),
        (0.5, 0.55, 0.1, "less than its interval tells: judge more pictures"),
        (0.9, 0.91, 0.0, "more boxes of the same kind promise little"),
        (0.9, 0.85, 0.1, "more boxes of the same kind promise little"),
    ],
)
def test_advice_follows_the_last_step_of_the_curve(
    before: float, last: float, half: float, told: str
) -> None:
    assert told in learning_curve.advice([point(10, before, half), point(20, last, half)])
    assert learning_curve.advice([point(20, last, half)]) == ""
