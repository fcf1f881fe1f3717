"""`nnst bench`: it counts what it says it counts. How fast anything is, no test asserts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from nnst import archive, images, models
from nnst.detector import detector_of
from nnst.errors import ConfigError, InputError
from workflows import bench
from workflows.__main__ import dispatch

Command = Callable[..., Any]

KEYS = {
    *("model", "device", "reduction", "min_width", "threads", "repeats"),
    *("pictures", "left_out", "megapixels", "detections"),
    *("decode_s", "scan_s", "ratio", "stages", "decode_megapixels_per_s", "megapixels_per_s"),
    *("pictures_per_core_hour", "pictures_per_gpu_hour"),
    *("price_per_hour", "cost_per_million_pictures"),
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, scenes: Any, draw: Command) -> Path:
    """The ten drawn pictures as JPEGs, one that is cut short, and an empty one."""
    folder = tmp_path_factory.mktemp("mixed")
    for index, boxes in enumerate(scenes.boxes.values()):
        (folder / f"{index}.jpg").write_bytes(images.encode_jpeg(draw(boxes, seed=index)))
    (folder / "cut.jpg").write_bytes((folder / "0.jpg").read_bytes()[:3000])
    (folder / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def document(mixed: Path, mark_model: str) -> dict[str, Any]:
    """What a small run says."""
    values = {"archive": str(mixed), "model": mark_model, "repeats": 2, "price_per_hour": 0.05}
    return dict(dispatch("bench", values).document)


def test_the_keys_are_those_that_are_promised(document: dict[str, Any]) -> None:
    assert set(document) == KEYS
    assert {"decode", "pyramid", "candidates", "nms", "other"} < set(document["stages"])


def test_the_stages_are_the_whole_scan(document: dict[str, Any]) -> None:
    """`other` is the rest, so what could go wrong is a stage that is counted twice."""
    assert sum(document["stages"].values()) == pytest.approx(document["scan_s"])
    assert min(document["stages"].values()) >= 0


def test_pictures_and_megapixels_are_those_that_can_be_decoded(document: dict[str, Any]) -> None:
    assert document["pictures"] == 10
    assert document["left_out"] == {"empty": 1, "truncated": 1}
    assert document["megapixels"] == pytest.approx(10 * 160 * 220 / 1e6)


def test_rates_follow_from_the_times(document: dict[str, Any]) -> None:
    seconds = document["scan_s"]
    assert document["ratio"] == pytest.approx(seconds / document["decode_s"])
    assert document["megapixels_per_s"] == pytest.approx(document["megapixels"] / seconds)
    per_hour = document["pictures_per_core_hour"]
    assert per_hour == pytest.approx(10 * 3600 / seconds)
    assert document["cost_per_million_pictures"] == pytest.approx(1e6 / per_hour * 0.05)
    if not torch.cuda.is_available():
        assert document["pictures_per_gpu_hour"] is None


def test_an_hour_of_two_threads_is_two_core_hours(mixed: Path, mark_model: str) -> None:
    values = {"archive": str(mixed), "model": mark_model, "threads": 2, "repeats": 1}
    document = dispatch("bench", values).document
    each = document["pictures"] * 3600 / document["scan_s"] / 2
    assert document["pictures_per_core_hour"] == pytest.approx(each)
    assert document["cost_per_million_pictures"] is None  # no price was given


def test_what_is_found_is_what_the_detector_finds(
    document: dict[str, Any], mixed: Path, mark_model: str
) -> None:
    detector = detector_of(models.load(mark_model))
    files = [(mixed / f"{index}.jpg").read_bytes() for index in range(10)]
    alone = [len(detector.detect_stored(images.decode(data))) for data in files]
    assert document["detections"] == sum(alone) > 9


def test_it_uses_as_many_threads_as_were_asked_for_and_gives_them_back() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    with bench.limited_threads(3):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)
    with pytest.raises(InputError):
        _fail_with_one_thread()
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def _fail_with_one_thread() -> None:
    with bench.limited_threads(1):
        raise InputError("something")


def test_the_pictures_are_spread_over_the_archive(mixed: Path) -> None:
    inputs = archive.plan(str(mixed)).inputs
    names = inputs["image"].to_pylist()
    assert bench.choose(inputs, 3)["image"].to_pylist() == [names[0], names[6], names[-1]]
    assert bench.choose(inputs, 1)["image"].to_pylist() == names[:1]
    assert bench.choose(inputs, 99)["image"].to_pylist() == names


def test_people_get_a_table(nnst: Command, mixed: Path, mark_model: str) -> None:
    words = ("--set", "repeats=1", "--set", "price_per_hour=0.05")
    done = nnst("bench", mixed, "--model", mark_model, "--min-width", "30", *words)
    assert (done.code, done.err) == (0, "")
    for text in (
        *("10 pictures, 0.4 megapixels", "1 thread", "1 left out: the file holds no bytes"),
        *("decoding alone", "whole scan", "times the decoding", "pyramid", "other"),
        *("megapixels per second", "pictures per core hour", "cost per million pictures"),
    ):
        assert text in done.out


def test_a_dry_run_measures_nothing(nnst: Command, mixed: Path, mark_model: str) -> None:
    words = ("--model", mark_model, "--set", "pictures=5", "--dry-run", "--json")
    assert nnst("bench", mixed, *words).document == {"model": mark_model[:-1], "pictures": 5}


@pytest.mark.parametrize(
    "values", [{"threads": 0}, {"pictures": 0}, {"repeats": 0}, {"min_width": -1}], ids=str
)
def test_numbers_that_make_no_sense_are_refused(values: dict[str, int], mark_model: str) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        dispatch("bench", {"archive": "photos", "model": mark_model, **values})


def test_wrong_input_is_exit_code_2_and_one_line(
    nnst: Command, mixed: Path, mark_model: str, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "empty.jpg").write_bytes(b"")
    (tmp_path / "none").mkdir()
    for words, expected in (
        ((tmp_path / "none", "--model", mark_model), "holds no picture"),
        ((tmp_path / "bad", "--model", mark_model), "can be decoded (empty 1); give an archive"),
        ((tmp_path / "nowhere", "--model", mark_model), "nowhere"),
        ((mixed, "--model", "xyzzy"), "no model 'xyzzy'"),
        ((mixed, "--model", mark_model, "--threads", "0"), "threads"),
    ):
        done = nnst("bench", *words)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
        assert expected in done.err
