"""`nnst crop` as a person runs it; what a crop looks like is in test_crops."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nnst import archive, boxes, crops, images, imglab, records
from nnst.ledger import Ledger
from tests.stderr import without_progress

Command = Callable[..., Any]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file that counts, by its path."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in found
        if "attempts" not in path.parts and not path.name.startswith(".")
    }


def write_truth(folder: Path, entries: dict[str, list[imglab.Box]]) -> Path:
    """An imglab file of these pictures and boxes."""
    found = tuple(imglab.Image(name, tuple(drawn)) for name, drawn in entries.items())
    imglab.write(imglab.Dataset(found), folder / "truth.xml")
    return folder / "truth.xml"


# --- What comes out


def test_a_crop_set_holds_every_box_every_picture_and_its_truth(
    crop_set: Path, scenes: Any
) -> None:
    """It is whole: training needs neither the XML nor the folder of pictures any more."""
    book = Ledger.open(str(crop_set), "crop")
    pictures = {row["image"]: row for row in book.read("pictures").to_pylist()}
    assert list(pictures) == list(scenes.boxes)
    for name, row in pictures.items():
        assert row["status"] == "ok"
        assert row["bytes"] == (scenes.folder / name).read_bytes()
        assert row["boxes"] == [list(map(float, box)) for box in scenes.boxes[name]]
        assert row["split"] in ("train", "validation")
    assert {row["split"] for row in pictures.values()} == {"train", "validation"}
    found = book.read("crops").to_pylist()
    marks = [row for row in found if row["label"] == "mark"]
    assert [(row["image"], row["box"]) for row in marks] == [
        (name, list(map(float, box))) for name, each in scenes.boxes.items() for box in each
    ]
    # A picture is on one side with all that was cut from it.
    assert all(row["split"] == pictures[row["image"]]["split"] for row in found)
    assert {row["origin"] for row in found} == {"positive", "negative"}
    for row in found:
        if row["label"] == "":
            shared = boxes.pairwise_iou(
                boxes.as_boxes([row["box"]]), boxes.as_boxes(scenes.boxes[row["image"]])
            )
            assert shared.max(initial=0) < 0.3


def test_the_tables_have_the_types_that_are_promised(crop_set: Path) -> None:
    book = Ledger.open(str(crop_set), "crop")
    assert book.read("crops").schema == records.CROPS
    assert book.read("pictures").schema == records.PICTURES


def test_small_pictures_lie_in_a_folder_for_each_label(crop_set: Path) -> None:
    book = Ledger.open(str(crop_set), "crop")
    window_hw = tuple(book.plan["identity"]["settings"]["window_hw"])
    assert sorted(path.name for path in (crop_set / "look").iterdir()) == ["background", "mark"]
    pngs = list((crop_set / "look" / "mark").iterdir())
    assert len(pngs) == 10
    sizes = {images.decode(path.read_bytes()).pixels.shape[:2] for path in pngs}
    assert sizes == {window_hw}
    assert len(list((crop_set / "look" / "background").iterdir())) + 10 == len(book.read("crops"))


def test_the_result_is_told_with_the_next_command(
    nnst: Command, scenes: Any, tmp_path: Path
) -> None:
    out = tmp_path / "crops"
    done = nnst("crop", scenes.truth, "--out", out)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("10 pictures, window ")
    assert any(line.split(" of ")[-1] == "mark (train)" for line in lines)
    assert lines[-2:] == [f"crop set: {out}", f"next:     nnst train {out} --name NAME"]
    document = nnst("crop", scenes.truth, "--out", out, "--json").document
    assert document["pictures"] == 10
    assert document["bad"] == {}
    totals = sum(count for name, count in document["crops"].items() if name.startswith("mark"))
    assert totals == 10


def test_the_window_is_the_boxes_own_or_the_one_that_is_given(
    nnst: Command, scenes: Any, tmp_path: Path
) -> None:
    plan = nnst("crop", scenes.truth, "--out", tmp_path / "a", "--dry-run", "--json").document
    width, height = map(int, plan["window"].split("x"))
    assert width / height == pytest.approx(5 / 3, abs=0.05)
    assert width * height == pytest.approx(crops.WINDOW_AREA, rel=0.05)
    words = ("crop", scenes.truth, "--out", tmp_path / "a", "--window", "75x22")
    assert nnst(*words, "--dry-run", "--json").document["window"] == "75x22"


def test_pictures_that_exif_turns_count_with_the_aspect_that_people_see(
    nnst: Command, draw: Command, with_orientation: Command, tmp_path: Path
) -> None:
    """Each box is 24 wide and 40 high as stored, in pictures that lie on their side."""
    for index in range(3):
        jpeg = images.encode_jpeg(draw([], seed=index))
        (tmp_path / f"{index}.jpg").write_bytes(with_orientation(jpeg, 6))
    box = imglab.Box(20, 20, 24, 40, "mark")
    truth = write_truth(tmp_path, {f"{index}.jpg": [box] for index in range(3)})
    plan = nnst("crop", truth, "--out", tmp_path / "out", "--dry-run", "--json").document
    width, height = map(int, plan["window"].split("x"))
    assert width / height == pytest.approx(5 / 3, abs=0.05)


def test_a_dry_run_writes_nothing(nnst: Command, scenes: Any, tmp_path: Path) -> None:
    done = nnst("crop", scenes.truth, "--out", tmp_path / "crops", "--dry-run")
    assert done.code == 0
    assert "would cut crops from 10 pictures with 10 boxes" in done.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", [("--negative-label",), ("--set",)], ids=["flag", "set"])
def test_boxes_of_a_negative_label_are_background(
    nnst: Command, scenes: Any, tmp_path: Path, flag: tuple[str]
) -> None:
    """As the talk drew boxes that are not the logo."""
    dataset = imglab.read(scenes.truth)
    other = imglab.Box(150, 100, 40, 24, "not logo")
    first = replace(dataset.images[0], boxes=(*dataset.images[0].boxes, other))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in scenes.boxes:
        (folder / name).write_bytes((scenes.folder / name).read_bytes())
    imglab.write(imglab.Dataset((first, *dataset.images[1:])), folder / "truth.xml")
    value = "not logo" if flag == ("--negative-label",) else "crop.negative_label=not logo"
    out = tmp_path / "crops"
    assert nnst("crop", folder / "truth.xml", "--out", out, *flag, value).code == 0
    found = Ledger.open(str(out)).read("crops").to_pylist()
    (cut,) = [row for row in found if row["box"] == [150, 100, 190, 124]]
    assert (cut["label"], cut["origin"]) == ("", "negative")
    assert {row["label"] for row in found} == {"", "mark"}
    wrong = nnst("crop", folder / "truth.xml", "--out", tmp_path / "b", "--negative-label", "logo")
    assert wrong.code == 2
    assert "no label 'logo' in" in wrong.err
    assert "it has mark, not logo" in wrong.err


def test_a_background_archive_needs_no_truth(nnst: Command, draw: Command, tmp_path: Path) -> None:
    """Its bytes stay where they are, so that a large archive is not copied."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(4):
        (photos / f"{index}.png").write_bytes(images.encode_png(draw([], seed=index)))
    out = tmp_path / "crops"
    assert nnst("crop", "--background", photos, "--out", out).code == 2  # what window?
    done = nnst("crop", "--background", photos, "--out", out, "--window", "40x24")
    assert done.code == 0
    book = Ledger.open(str(out), "crop")
    assert {row["label"] for row in book.read("crops").to_pylist()} == {""}
    assert set(book.read("pictures")["bytes"].to_pylist()) == {None}
    assert not (out / "look").exists()


# --- Bad pictures


def test_a_bad_picture_is_a_row_with_its_reason_and_costs_no_other(
    nnst: Command, scenes: Any, tmp_path: Path
) -> None:
    drawn = imglab.Box(10, 10, 40, 24, "mark")
    good = sorted(scenes.boxes)[:5]
    for name in good:
        (tmp_path / name).write_bytes((scenes.folder / name).read_bytes())
    jpeg = images.encode_jpeg(np.full((90, 90, 3), 90, np.uint8))
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_bytes(b"<!DOCTYPE html><html></html>")
    names = [*good, "cut.jpg", "empty.jpg", "page.jpg", "gone.jpg", "../out.jpg"]
    truth = write_truth(tmp_path, {name: [drawn] for name in names})
    out = tmp_path / "crops"
    done = nnst("crop", truth, "--out", out)
    assert done.code == 3
    assert "5 of 10 pictures could not be used" in done.err
    assert len(done.err.splitlines()) == 1
    book = Ledger.open(str(out), "crop")
    status = {row["image"]: row["status"] for row in book.read("pictures").to_pylist()}
    assert status == dict.fromkeys(good, "ok") | {
        "cut.jpg": "truncated",
        "empty.jpg": "empty",
        "page.jpg": "unsupported_format",
        "gone.jpg": "missing",
        "../out.jpg": "unsafe_path",
    }
    assert "pictures not used: the file holds no bytes" in done.out
    assert nnst("crop", truth, "--out", out, "--set", "fanout.max_bad=0.5").code == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<dataset><images></images></dataset>", "lists no picture; draw boxes with imglab first"),
        ("<dataset><images><image file='a.jpg'/></images></dataset>", "none of the 1 pictures of"),
        ("<dataset><images>", "truth.xml"),
        ("{}", "truth.xml"),
    ],
    ids=["no picture", "no picture there", "cut off", "no XML"],
)
def test_truth_that_gives_nothing_is_refused(
    nnst: Command, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "truth.xml").write_text(text)
    done = nnst("crop", tmp_path / "truth.xml", "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_truth_without_a_box_needs_a_window(nnst: Command, scenes: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes((scenes.folder / "scene9.png").read_bytes())
    truth = write_truth(tmp_path, {"a.png": []})
    done = nnst("crop", truth, "--out", tmp_path / "out")
    assert done.code == 2
    assert "draw boxes with imglab, or give --window WIDTHxHEIGHT" in done.err
    assert nnst("crop", truth, "--out", tmp_path / "out", "--window", "40x24").code == 0


# --- Again, otherwise, interrupted


def test_the_same_command_again_changes_nothing(
    nnst: Command, scenes: Any, crop_set: Path, crop_flags: tuple[str, ...]
) -> None:
    before = files_of(crop_set)
    times = {path: path.stat().st_mtime_ns for path in crop_set.rglob("*")}
    assert nnst("crop", scenes.truth, "--out", crop_set, *crop_flags).code == 0
    assert files_of(crop_set) == before
    assert {path: path.stat().st_mtime_ns for path in crop_set.rglob("*")} == times


def test_other_boxes_are_another_job(nnst: Command, scenes: Any, tmp_path: Path) -> None:
    """And --fresh does it, with nothing left of the old one."""
    folder, out = tmp_path / "pictures", tmp_path / "crops"
    folder.mkdir()
    for name in scenes.boxes:
        (folder / name).write_bytes((scenes.folder / name).read_bytes())
    imglab.write(imglab.read(scenes.truth), folder / "truth.xml")
    assert nnst("crop", folder / "truth.xml", "--out", out).code == 0
    before = files_of(out)
    moved = imglab.read(scenes.truth)
    first = replace(moved.images[0], boxes=(imglab.Box(22, 30, 40, 24, "mark"),))
    imglab.write(imglab.Dataset((first, *moved.images[1:])), folder / "truth.xml")
    done = nnst("crop", folder / "truth.xml", "--out", out)
    assert (done.code, done.out) == (2, "")
    assert "holds another job" in done.err
    assert "--fresh" in done.err
    assert "--out" in done.err
    assert files_of(out) == before
    assert nnst("crop", folder / "truth.xml", "--out", out, "--fresh").code == 0
    marks = [row["box"] for row in Ledger.open(str(out)).read("crops").to_pylist() if row["label"]]
    assert marks[0] == [22, 30, 62, 54]
    assert len(list((out / "look" / "mark").iterdir())) == 10


def test_a_folder_that_is_not_ours_is_left_alone(
    nnst: Command, scenes: Any, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for more in ((), ("--fresh",)):
        done = nnst("crop", scenes.truth, "--out", tmp_path, *more)
        assert done.code == 2
        assert "is not empty and is no output folder of nnst" in done.err
    assert files_of(tmp_path) == {"thesis.txt": b"years of work"}


def test_ctrl_c_leaves_a_job_that_goes_on_and_ends_as_if_undisturbed(
    nnst: Command,
    start_driver: Callable[..., subprocess.Popen[str]],
    draw: Command,
    tmp_path: Path,
) -> None:
    entries = {}
    for index in range(14):
        pixels = cv2.resize(draw([(20, 30, 60, 54)], seed=index), (880, 640))
        (tmp_path / f"{index:02d}.png").write_bytes(images.encode_png(pixels))
        entries[f"{index:02d}.png"] = [imglab.Box(80, 120, 160, 96, "mark")]
    truth = write_truth(tmp_path, entries)
    words = ("crop", truth, "--set", "shard_images=1", "--out")
    process = start_driver(*words, tmp_path / "out")
    receipts = tmp_path / "out" / "receipts"
    while not (receipts.is_dir() and len(list(receipts.glob("[!.]*"))) >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert without_progress(err) == "nnst: interrupted; run the same command again to go on\n"
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert nnst(*words, tmp_path / "out").code == 0
    assert nnst(*words, tmp_path / "undisturbed").code == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_a_crop_set_is_an_archive_of_its_pictures(crop_set: Path, scenes: Any) -> None:
    plan = archive.plan(str(crop_set))
    members = list(archive.stream(str(crop_set), plan.inputs))
    assert {member.image.rpartition("/")[2]: member.data for member in members} == {
        name: (scenes.folder / name).read_bytes() for name in scenes.boxes
    }


def test_the_result_and_nothing_else_is_on_stdout(
    start_driver: Callable[..., subprocess.Popen[str]], scenes: Any, tmp_path: Path
) -> None:
    """Of a real process: neither Ray nor OpenCV may add a line."""
    process = start_driver("crop", scenes.truth, "--out", tmp_path / "crops", "--json")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, without_progress(err)) == (0, "")
    assert json.loads(out)["pictures"] == 10
