"""`nnst evaluate` on scans written by hand, whose figures can be worked out on paper."""

from __future__ import annotations

import contextlib
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
from workflows import tracking

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
