"""`nnst convert` and `nnst export` as a person runs them; test_formats looks into the formats."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nnst import formats, imglab, records
from nnst.ledger import Job, Ledger, write_part
from nnst.records import Receipt
from workflows.__main__ import dispatch

Command = Callable[..., Any]


def test_truth_goes_through_every_format_and_comes_back(
    nnst: Command, scenes: Any, tmp_path: Path
) -> None:
    for form, out in (("coco", "t.json"), ("voc", "voc"), ("yolo", "yolo")):
        done = nnst("convert", scenes.truth, tmp_path / out, "--to", form)
        assert (done.code, done.err.count("lost:")) == (0, 0), done.err
        assert done.out.startswith("wrote 10 pictures with 10 boxes from imglab to ")
        words = () if form == "yolo" else ("--pictures", scenes.folder)
        back = tmp_path / f"{form}.xml"
        assert nnst("convert", tmp_path / out, back, *words).code == 0
        found = {Path(image.file).name: image.boxes for image in imglab.read(back).images}
        assert found == {image.file: image.boxes for image in imglab.read(scenes.truth).images}


def test_what_is_lost_is_counted_on_stderr_and_in_the_document(
    nnst: Command, tmp_path: Path
) -> None:
    drawn = imglab.Box(1, 1, 9, 9, difficult=True, parts=(imglab.Part("p", 2, 2),))
    imglab.write(imglab.Dataset((imglab.Image("a.png", (drawn,), 64, 48),)), tmp_path / "t.xml")
    done = nnst("convert", tmp_path / "t.xml", tmp_path / "y", "--to", "yolo", "--json")
    assert done.document["lost"] == {"unlabelled": 1, "difficult": 1, "details": 1}
    assert done.err.splitlines() == [
        "lost: boxes without a label that are called 'logo' now: 1",
        "lost: boxes no longer marked as difficult: 1",
        "lost: boxes without their angle, pose, age, gender or parts: 1",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("t.json",), "is not empty|is there already"),
        (("new",), "no format for"),
        (("new.xml", "--boxes-upright"), "cannot be opened, so how it lies"),
        (("new", "--to", "yolo"), "the sizes of 1 pictures are not known"),
        (("new", "--to", "tar"), "one of , imglab, voc, coco, yolo"),
    ],
    ids=["there", "format", "upright", "sizes", "to"],
)
def test_what_cannot_be_converted_is_one_line_and_writes_nothing(
    nnst: Command, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    document = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}
    (tmp_path / "t.json").write_text(json.dumps(document))
    done = nnst("convert", tmp_path / "t.json", tmp_path / words[0], *words[1:])
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert any(part in done.err for part in said.split("|"))
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_a_dry_run_says_what_would_be_lost_and_writes_nothing(
    nnst: Command, scenes: Any, tmp_path: Path
) -> None:
    done = nnst("convert", scenes.truth, tmp_path / "t.json", "--dry-run")
    assert done.out.startswith("would write 10 pictures with 10 boxes")
    assert list(tmp_path.iterdir()) == []


def test_pictures_above_the_truth_get_names_below_one_folder(
    nnst: Command, scenes: Any, tmp_path: Path
) -> None:
    """An imglab file beside its pictures, not above them: only where one trusts it."""
    (tmp_path / "xml").mkdir()
    (tmp_path / "a.png").write_bytes((scenes.folder / "scene0.png").read_bytes())
    imglab.write(imglab.Dataset((imglab.Image("../a.png"),)), tmp_path / "xml" / "t.xml")
    words = (tmp_path / "xml" / "t.xml", tmp_path / "t.json")
    assert "leaves the folder" in nnst("convert", *words).err
    assert nnst("convert", *words, "--set", "allow_outside=true").code == 0
    (picture,) = formats.read(tmp_path / "t.json").pictures
    assert picture.file == "a.png"


def test_evaluate_and_crop_take_truth_in_any_format(
    nnst: Command, scan: Path, scenes: Any, tmp_path: Path
) -> None:
    wanted = nnst("evaluate", scan, scenes.truth, "--json").document
    for form, out in (("coco", "t.json"), ("voc", "voc"), ("yolo", "yolo")):
        assert nnst("convert", scenes.truth, tmp_path / out, "--to", form).code == 0
        found = nnst("evaluate", scan, tmp_path / out, "--json").document
        assert (found["map50"], found["pictures"]) == (wanted["map50"], wanted["pictures"])
    done = nnst("crop", tmp_path / "yolo", "--out", tmp_path / "crops", "--dry-run")
    assert done.out.startswith("would cut crops from 10 pictures with 10 boxes")


# --- What a scan found


@pytest.fixture(scope="module")
def scan(
    nnst: Command, scenes: Any, mark_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A scan of the drawn pictures."""
    out = tmp_path_factory.mktemp("export") / "scan"
    assert nnst("scan", scenes.folder, "--model", mark_model, "--out", out).code == 0
    return out


def reaching(scan: Path, threshold: float) -> list[dict[str, Any]]:
    rows = Ledger.open(str(scan), "scan").read("detections").to_pylist()
    return [row for row in rows if row["score"] >= threshold]


@pytest.mark.parametrize("form", ["imglab", "coco", "voc", "yolo"])
def test_every_format_holds_the_detections_that_count(
    nnst: Command, scan: Path, scenes: Any, tmp_path: Path, form: str
) -> None:
    out = tmp_path / {"imglab": "t.xml", "coco": "t.json"}.get(form, "t")
    words = ("--to", form, "--out", out, "--threshold", "0.3", "--json")
    document = nnst("export", scan, *words).document
    wanted = reaching(scan, 0.3)
    assert document["detections"] == len(wanted) > 5
    reading = formats.Reading("" if form == "yolo" else str(scenes.folder), allow_outside=True)
    found = formats.read(out, reading)
    assert sum(len(picture.marks) for picture in found.pictures) == len(wanted)
    best = max(wanted, key=lambda row: row["score"])
    first = next(p for p in found.pictures if Path(p.file).name == best["image"]).marks[0]
    least = 0.01 if form in ("coco", "yolo") else 0.5  # whole pixels
    assert abs(first.x0 - best["x0"]) <= least
    assert abs(first.y1 - best["y1"]) <= least
    assert (first.score is None) == (form == "yolo")
    assert {mark.label for picture in found.pictures for mark in picture.marks} == {"mark"}


def test_a_csv_has_the_rows_of_the_table_best_picture_first(
    nnst: Command, scan: Path, tmp_path: Path
) -> None:
    done = nnst("export", scan, "--to", "csv", "--out", tmp_path / "t.csv", "--threshold", "0.3")
    assert done.code == 0
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    wanted = reaching(scan, 0.3)
    assert sorted((row["image"], row["x0"]) for row in rows) == sorted(
        (row["image"], str(np.float32(row["x0"]))) for row in wanted
    )
    assert float(rows[0]["score"]) == pytest.approx(max(row["score"] for row in wanted))
    again = nnst("export", scan, "--to", "csv", "--out", tmp_path / "t.csv")
    assert (again.code, "is there already" in again.err) == (2, True)


def test_pictures_of_a_collection_are_named_by_their_files(tmp_path: Path) -> None:
    """There a picture's name is its hash, and its file lies elsewhere; a packed one has none."""
    digest = "ab" * 32
    row = {"bytes": 1, "stamp": "", "reason": None, "shard": 0}
    rows = [
        row | {"image": "ab.jpg", "container": "blobs/ab/ab.jpg", "offset": -1},
        row | {"image": "cd.jpg", "container": "tars/0.tar", "offset": 512},
    ]
    planned = pa.Table.from_pylist(rows, records.INPUTS)
    model = {"name": "a", "version": "1", "digest": "", "threshold": 0.5, "labels": ["", "x"]}
    book = Ledger.create(
        str(tmp_path / "scan"), Job("scan", planned, {}, model, source=str(tmp_path))
    )
    looked = [
        {"image": each["image"], "image_id": digest, "width": 9, "height": 9, "score": 0.9}
        | {"status": "ok", "detections": 1}
        for each in rows
    ]
    box = {"x0": 1, "y0": 1, "x1": 5, "y1": 5, "score": 0.9, "label": "x", "model": "a/1"}
    found = [{"image": each["image"], "image_id": digest} | box for each in rows]
    tables = {
        "images": pa.Table.from_pylist(looked, records.IMAGES),
        "detections": pa.Table.from_pylist(found, records.DETECTIONS),
    }
    files = tuple(write_part(book.out, name, 0, table) for name, table in tables.items())
    book.commit(Receipt(0, 2, 2, 0, files, book.fingerprint, {}))
    book.succeed()
    dispatch("export", {"scan": book.out, "to": "imglab", "out": str(tmp_path / "t.xml")})
    names = [image.file for image in imglab.read(tmp_path / "t.xml").images]
    assert names == ["blobs/ab/ab.jpg", "cd.jpg"]


def test_an_export_of_nothing_is_a_file_without_boxes(
    nnst: Command, scan: Path, tmp_path: Path
) -> None:
    words = ("--to", "coco", "--out", tmp_path / "t.json", "--threshold", "1")
    assert nnst("export", scan, *words).code == 0
    assert formats.read(tmp_path / "t.json").pictures == ()
