"""`nnst mine`: what a model takes for a logo in pictures without one becomes a crop set.

The models are not trained here: `mark_model` knows the drawn mark, so pictures whose marks nobody
told it of give hard negatives at known places.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from nnst import boxes as boxes_
from nnst import crops, images, mining, models, records
from nnst.ledger import Ledger
from nnst.training.stores import CropData, read_stores

Command = Callable[..., Any]


def rows_of(book: Ledger, table: str) -> list[dict[str, Any]]:
    return list(book.read(table).to_pylist())


def tables(out: Path) -> dict[str, bytes]:
    """Every file that decides what the crop set says, by its path."""
    kept = ("crops/", "pictures/", "receipts/", "plan/", "_SUCCESS")
    files = [path for path in sorted(out.rglob("[!.]*")) if path.is_file()]
    inside = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in inside.items() if name.startswith(kept)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw: Command, scenes: Any) -> Path:
    """The scenes without their truth, and files that are no pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for name in scenes.boxes:
        shutil.copy(scenes.folder / name, folder / name)
    data = images.encode_jpeg(draw([]))
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def mined(
    nnst: Command, photos: Path, mark_model: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ledger, Any]:
    """What is mined in the folder, and what the command said."""
    out = tmp_path_factory.mktemp("mined") / "photos"
    words = ("--model", mark_model, "--out", out, "--set", "shard_images=3")
    done = nnst("mine", photos, *words, "--set", "fanout.max_bad=0.5", "--json")
    assert done.code == 0, done.err
    return Ledger.open(str(out), "crop"), done


# --- A folder of pictures


def test_every_picture_has_a_row_and_those_that_cannot_be_read_have_a_reason(
    mined: tuple[Ledger, Any], photos: Path
) -> None:
    book, done = mined
    rows = {row["image"]: row for row in rows_of(book, "pictures")}
    assert list(rows) == book.inputs()["image"].to_pylist()
    assert len(rows) == 12
    bad = {name: row["status"] for name, row in rows.items() if row["status"] != "ok"}
    assert bad == {"cut.jpg": "truncated", "empty.png": "empty"}
    assert done.document["bad"] == {"truncated": 1, "empty": 1}
    assert done.document["pictures"] == 12
    for name in set(rows) - set(bad):
        row = rows[name]
        assert row["image_id"] == images.content_hash((photos / name).read_bytes())
        assert (row["width"], row["height"], row["orientation"]) == (220, 160, 1)
        assert row["boxes"] == []


def test_what_the_model_takes_for_a_logo_is_cut_best_first(
    mined: tuple[Ledger, Any], scenes: Any
) -> None:
    """The marks, of which nobody told it here, come before anything else."""
    book, done = mined
    assert book.read("crops").schema == records.CROPS
    every = rows_of(book, "crops")
    assert len(every) == done.document["crops"] > 20
    assert {(row["label"], row["origin"]) for row in every} == {("", "hard_negative")}
    for name, truth in scenes.boxes.items():
        mine = [row for row in every if row["image"] == name]
        assert len(mine) <= 12
        if truth:
            boxes = boxes_.as_boxes([row["box"] for row in mine[: len(truth)]])
            overlap = boxes_.pairwise_iou(boxes, boxes_.as_boxes(truth))
            assert (overlap.max(axis=0) > 0.5).all(), name


def test_it_splits_as_crop_does_and_training_reads_it(
    mined: tuple[Ledger, Any], crop_set: Path
) -> None:
    """A picture is on one side, by its content; beside crop sets it adds hard background."""
    book, _ = mined
    sides = {row["image_id"]: row["split"] for row in rows_of(book, "pictures") if row["image_id"]}
    assert sides == {image_id: crops.side_of(image_id, 0.2) for image_id in sides}
    assert all(row["split"] == sides[row["image_id"]] for row in rows_of(book, "crops"))
    labels = ("background", "mark")
    plain = read_stores(CropData((str(crop_set),)), labels)
    more = read_stores(CropData((str(crop_set),), mined=(book.out,)), labels)
    # All these pictures are annotated: what is mined in them elsewhere may be their logos.
    assert len(more.train.background) == len(plain.train.background)
    assert len(more.train.logos) == len(plain.train.logos)


def test_the_plan_names_model_window_and_settings(
    mined: tuple[Ledger, Any], mark_model: str, photos: Path
) -> None:
    book, done = mined
    identity = book.plan["identity"]
    assert identity["settings"]["kind"] == "mined"
    assert identity["settings"]["per_picture"] == 12
    assert identity["model"]["digest"] == models.digest(mark_model)
    spec = models.load(mark_model).spec
    assert identity["settings"]["window_hw"] == list(mining.crop_window(spec))
    assert book.source == str(photos)
    assert book.notes["skipped"] == {".txt": 1}
    assert done.document["fingerprint"] == book.fingerprint


def test_people_are_told_what_was_cut(
    nnst: Command, mined: tuple[Ledger, Any], photos: Path, mark_model: str
) -> None:
    """The same command again does nothing again, and says the same."""
    book, done = mined
    words = ("--model", mark_model, "--out", book.out, "--set", "shard_images=3")
    again = nnst("mine", photos, *words)
    assert again.code == 3  # two of twelve cannot be read
    assert f"{done.document['crops']:>8} hard negatives cut" in again.out
    assert records.REASONS["truncated"] in again.out
    assert again.out.endswith(f"crop set: {book.out}\n")


def test_per_picture_bounds_what_is_cut_of_each(
    nnst: Command, photos: Path, mark_model: str, mined: tuple[Ledger, Any], tmp_path: Path
) -> None:
    words = ("--model", mark_model, "--out", tmp_path, "--set", "fanout.max_bad=1")
    assert nnst("mine", photos, *words, "--set", "per_picture=1").code == 0
    one = rows_of(Ledger.open(str(tmp_path)), "crops")
    names = [row["image"] for row in one]
    assert len(set(names)) == len(names)
    best: dict[str, Any] = {}
    for row in rows_of(mined[0], "crops"):
        best.setdefault(row["image"], row)
    assert {row["image"]: row["box"] for row in one} == {n: row["box"] for n, row in best.items()}


# --- A crop set


@pytest.fixture(scope="module")
def beside(
    nnst: Command, crop_set: Path, mark_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Ledger:
    """What is mined beside the boxes of the crop set."""
    out = tmp_path_factory.mktemp("mined") / "beside"
    done = nnst("mine", crop_set, "--model", mark_model, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.document["pictures"] == 10
    return Ledger.open(str(out), "crop")


def test_the_logos_of_a_crop_set_are_never_cut(beside: Ledger, scenes: Any) -> None:
    """Though the model takes them for what they are."""
    every = rows_of(beside, "crops")
    assert every
    for row in every:
        known = boxes_.as_boxes(scenes.boxes[row["image"]])
        overlap = boxes_.pairwise_iou(boxes_.as_boxes([row["box"]]), known)
        assert overlap.max(initial=0) < 0.25


def test_the_split_of_a_crop_set_is_kept(beside: Ledger, crop_set: Path) -> None:
    """It was made with another share, and a picture may never change sides."""
    book = Ledger.open(str(crop_set))
    known = {item.image: side for side, item in crops.read_truth(book)}
    assert set(known.values()) == {"train", "validation"}
    by_content = {
        item.image: crops.side_of(item.image_id, 0.2) for _, item in crops.read_truth(book)
    }
    assert known != by_content  # else this would not be seen
    found = {row["image"]: row["split"] for row in rows_of(beside, "pictures")}
    assert found == known
    assert all(row["split"] == known[row["image"]] for row in rows_of(beside, "crops"))


def test_what_is_mined_beside_the_boxes_is_learnt_from(beside: Ledger, crop_set: Path) -> None:
    labels = ("background", "mark")
    plain = read_stores(CropData((str(crop_set),)), labels)
    more = read_stores(CropData((str(crop_set),), mined=(beside.out,)), labels)
    hard = [crop for crop in more.train.background if crop.origin == "hard_negative"]
    assert len(hard) == len(more.train.background) - len(plain.train.background) > 0
    half = read_stores(CropData((str(crop_set),), mined=(beside.out,), share=0.5), labels)
    left_out = {crop.image_id for crop in plain.train.logos} - {
        crop.image_id for crop in half.train.logos
    }
    assert left_out
    assert not any(crop.image_id in left_out for crop in half.train.background)


def test_boxes_with_a_negative_label_are_mined(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    """A mark that is no logo is exactly what the model has to see."""
    text = scenes.truth.read_text().replace("<label>mark</label>", "<label>other</label>", 2)
    assert text.count("other") == 2
    for name in scenes.boxes:
        shutil.copy(scenes.folder / name, tmp_path / name)
    (tmp_path / "truth.xml").write_text(text)
    words = ("--out", tmp_path / "crops", "--negative-label", "other", "--window", "40x24")
    assert nnst("crop", tmp_path / "truth.xml", *words).code == 0
    done = nnst("mine", tmp_path / "crops", "--model", mark_model, "--out", tmp_path / "hard")
    assert done.code == 0, done.err
    every = rows_of(Ledger.open(str(tmp_path / "hard")), "crops")
    for name in ("scene0.png", "scene1.png"):  # the first two boxes
        boxes = boxes_.as_boxes([row["box"] for row in every if row["image"] == name])
        known = boxes_.as_boxes(scenes.boxes[name])
        assert boxes_.pairwise_iou(boxes, known).max() > 0.5
    named = Ledger.open(str(tmp_path / "hard")).plan["identity"]["settings"]["crop"]
    assert named["negative_label"] == ["other"]


def test_a_cascade_is_asked_as_well(
    nnst: Command, photos: Path, mark_cascade: str, tmp_path: Path, scenes: Any
) -> None:
    """It gives each suspect twice: where its scout pointed, and where its judge moved the box."""
    words = ("--model", mark_cascade, "--out", tmp_path, "--min-width", "20")
    done = nnst("mine", photos, *words, "--set", "fanout.max_bad=1", "--json")
    assert done.code == 0, done.err
    every = rows_of(Ledger.open(str(tmp_path)), "crops")
    assert len(every) == done.document["crops"] >= 20
    for name, truth in scenes.boxes.items():
        if truth:
            boxes = boxes_.as_boxes([row["box"] for row in every if row["image"] == name])
            overlap = boxes_.pairwise_iou(boxes, boxes_.as_boxes(truth))
            assert (overlap.max(axis=0) > 0.7).all(), name


# --- Interrupted


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, draw: Command) -> Path:
    """Ten pictures that take a while each."""
    folder = tmp_path_factory.mktemp("large")
    for index in range(10):
        pixels = cv2.resize(draw([(20 + index, 30, 60 + index, 54)], seed=index), (880, 640))
        (folder / f"{index:02d}.png").write_bytes(images.encode_png(pixels))
    return folder


def test_killed_it_goes_on_and_ends_in_the_same_bytes(
    nnst: Command,
    start_driver: Callable[..., subprocess.Popen[str]],
    large: Path,
    mark_model: str,
    tmp_path: Path,
) -> None:
    words = ("mine", large, "--model", mark_model, "--set", "shard_images=1")
    assert nnst(*words, "--out", tmp_path / "undisturbed").code == 0
    out = tmp_path / "mined"
    process = start_driver(*words, "--out", out)
    receipts = out / "receipts"
    while not (receipts.is_dir() and len(list(receipts.glob("[!.]*"))) >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    begun = Ledger.open(str(out))
    assert not begun.is_done()
    assert 2 <= len(begun.receipts()) < 10
    kept = {path: path.stat().st_mtime_ns for path in receipts.glob("[!.]*")}
    assert nnst(*words, "--out", out).code == 0
    assert tables(out) == tables(tmp_path / "undisturbed")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # these were not done again


# --- Wrong use


def test_a_folder_with_another_job_is_refused_unless_it_may_begin_anew(
    nnst: Command, crop_set: Path, mark_model: str, tmp_path: Path
) -> None:
    words = ("mine", crop_set, "--model", mark_model, "--out", tmp_path)
    assert nnst(*words).code == 0
    before = tables(tmp_path)
    done = nnst(*words, "--set", "per_picture=3")
    assert (done.code, done.out) == (2, "")
    assert "per_picture" in done.err
    assert tables(tmp_path) == before
    assert nnst(*words, "--set", "per_picture=3", "--fresh").code == 0
    assert tables(tmp_path) != before


def test_a_dry_run_tells_the_plan_and_leaves_no_trace(
    nnst: Command, photos: Path, mark_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "hard"
    words = ("mine", photos, "--model", mark_model, "--out", out, "--dry-run")
    done = nnst(*words)
    assert done.code == 0
    assert done.out.startswith("would look for hard negatives in 12 pictures with ")
    assert nnst(*words, "--json").document["pictures"] == 12
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere", "--model", "{model}"), "there is no file or folder"),
        (("{photos}", "--model", "nowhere/"), "is not the folder of"),
        (("{photos}", "--model", "nobody"), "no model 'nobody'"),
        (("{photos}", "--model", "{model}", "--set", "per_picture=0"), "per_picture"),
        (("{photos}", "--model", "{model}", "--set", "validation_share=1"), "validation_share"),
        (("{photos}",), "nnst mine lacks --model"),
    ],
    ids=["no archive", "no folder of a model", "no model", "nothing to cut", "no share", "no flag"],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    words: tuple[str, ...],
    told: str,
    nnst: Command,
    photos: Path,
    mark_model: str,
    tmp_path: Path,
) -> None:
    given = [word.format(photos=photos, model=mark_model) for word in words]
    done = nnst("mine", *given, "--out", tmp_path / "out", at=tmp_path)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert told in line
    assert not (tmp_path / "out").exists()
