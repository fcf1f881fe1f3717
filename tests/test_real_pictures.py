"""The commands of the README on real pictures, which are no part of the project.

Where they are absent the tests skip. The training is far too short to be good: what holds here is
that every command takes what the one before it wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnst import records
from nnst.archive import plan
from nnst.ledger import Ledger

Command = Callable[..., Any]

SHORT = (
    *("--epochs", "2", "--set", "training.steps=8", "--set", "background_crops=4"),
    *("--set", "training.logos=16", "--rounds", "1", "--workers", "1"),
)


def few_photos(shared_data: Path, folder: Path) -> Path:
    """Every fiftieth of the photographs, copied for the time of the test."""
    folder.mkdir()
    photos = sorted((shared_data / "negatives" / "photos").iterdir())
    for path in photos[::50]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.slow
def test_from_boxes_to_a_page_in_five_commands(
    nnst: Command, shared_data: Path, tmp_path: Path
) -> None:
    data, crops, scan = shared_data / "pare", tmp_path / "crops", tmp_path / "scan"
    done = nnst("crop", data / "training.xml", "--out", crops, "--json")
    assert done.code == 0, done.err  # slow machines are told how far it is
    assert done.document["pictures"] == 37
    assert done.document["bad"] == {}
    photos = few_photos(shared_data, tmp_path / "photos")
    done = nnst("train", crops, "--name", "pare", "--background", photos, *SHORT, "--json")
    assert done.code == 0, done.err
    assert done.document["model"] == "pare/1"
    words = ("--model", "pare", "--set", "levels_per_octave=1", "--out", scan, "--json")
    done = nnst("scan", data / "train", *words)
    assert done.code == 0, done.err
    assert done.document["pictures"] == 42
    done = nnst("evaluate", scan, data / "training.xml", "--json")
    assert done.code == 0, done.err
    assert (done.document["pictures"], done.document["skipped"]) == (37, 5)
    assert done.document["not_scanned"] == 0
    assert 0 < done.document["held_out"]["pictures"] < 37
    done = nnst("report", scan, "--set", "thumbnails=5")
    assert done.code == 0, done.err
    assert (scan / "report" / "index.html").stat().st_size > 20_000


def test_every_hostile_file_is_one_row_with_a_reason_or_a_picture(
    nnst: Command, shared_data: Path, mark_model: str, tmp_path: Path
) -> None:
    hostile = shared_data / "hostile"
    done = nnst("scan", hostile, "--model", mark_model, "--out", tmp_path / "scan", "--json")
    assert done.code == 3
    book = Ledger.open(str(tmp_path / "scan"))
    rows = {row["image"]: row for row in book.read("images").to_pylist()}
    assert list(rows) == plan(str(hostile)).inputs["image"].to_pylist()
    files = [path for path in hostile.rglob("*") if path.is_file()]
    assert len(rows) + done.document["skipped"] == len(files)
    assert {row["status"] for row in rows.values()} <= {"ok", *records.REASONS}
    expected = {
        "zero_bytes.jpg": "empty",
        "html_as.jpg": "unsupported_format",
        "text_as.webp": "not_an_image",
        "trunc_baseline_50pct.jpg": "truncated",
        "header_65535x65535_no_data.png": "too_many_pixels",
        "good_8x8.png": "ok",
    }
    assert {name: rows[name]["status"] for name in expected} == expected
    assert nnst("report", tmp_path / "scan").code == 0


@pytest.mark.parametrize(
    "name", ["tar_links_devices.tar", "zip_abs_and_dotdot.zip", "zip_bomb_50MB_in_50KB.zip",
             "zip_symlink.zip"]
)  # fmt: skip
def test_a_hostile_archive_is_scanned_or_refused_in_one_line(
    name: str, nnst: Command, shared_data: Path, mark_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "scan"
    done = nnst("scan", shared_data / "hostile" / name, "--model", mark_model, "--out", out)
    assert done.code in (2, 3)
    assert len(done.err.splitlines()) == 1
    if done.code == 2:
        assert not out.exists()
    else:
        rows = Ledger.open(str(out)).read("images").to_pylist()
        assert rows
        assert {row["status"] for row in rows} <= {"ok", *records.REASONS}
