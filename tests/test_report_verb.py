"""`nnst report` as a person runs it; what the page holds and does is in test_report."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture
def scan(nnst: Command, scenes: Any, mark_model: str, tmp_path: Path) -> Path:
    """A scan of the drawn pictures."""
    pictures = tmp_path / "pictures"
    shutil.copytree(scenes.folder, pictures)
    out = tmp_path / "scan"
    assert nnst("scan", pictures, "--model", mark_model, "--out", out).code == 0
    return out


def test_a_page_and_a_csv_are_written_into_the_scan(nnst: Command, scan: Path) -> None:
    done = nnst("report", scan)
    assert (done.code, done.err) == (0, "")
    page, table = scan / "report" / "index.html", scan / "report" / "detections.csv"
    assert done.out.splitlines() == [f"page: {page}", f"csv:  {table}"]
    text = page.read_text(encoding="utf-8")
    assert "scene3.png" in text
    assert "data:image/jpeg;base64," in text
    assert 'src="http' not in text  # it asks for nothing outside itself
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["image"] for row in rows} == {f"scene{n}.png" for n in range(9)}


def test_counts_are_those_of_the_scan(nnst: Command, scan: Path) -> None:
    document = nnst("report", scan, "--json").document
    assert document["page"] == str(scan / "report" / "index.html")
    assert document["counts"]["thumbnails"] == 10
    few = nnst("report", scan, "--thumbnails", "3", "--json").document
    assert few["counts"] == document["counts"] | {"thumbnails": 3}


def test_the_same_scan_gives_the_same_page(nnst: Command, scan: Path) -> None:
    assert nnst("report", scan).code == 0
    first = (scan / "report" / "index.html").read_bytes()
    assert nnst("report", scan).code == 0
    assert (scan / "report" / "index.html").read_bytes() == first


def test_pictures_that_are_gone_cost_their_thumbnails_only(nnst: Command, scan: Path) -> None:
    shutil.rmtree(scan.parent / "pictures")
    done = nnst("report", scan, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.document["counts"]["thumbnails"] == 0
    assert "scene3.png" in (scan / "report" / "index.html").read_text(encoding="utf-8")


def test_an_evaluation_is_on_the_page(nnst: Command, scan: Path, scenes: Any) -> None:
    assert nnst("evaluate", scan, scenes.truth).code == 0
    assert nnst("report", scan).code == 0
    assert "truth.xml" in (scan / "report" / "index.html").read_text(encoding="utf-8")


def test_a_dry_run_writes_nothing(nnst: Command, scan: Path) -> None:
    done = nnst("report", scan, "--dry-run")
    assert done.out == f"would write {scan / 'report' / 'index.html'}\n"
    assert not (scan / "report").exists()


def test_a_report_is_no_part_of_the_scan(nnst: Command, scan: Path, mark_model: str) -> None:
    """The scan is still done, and --fresh takes the page away with it."""
    assert nnst("report", scan).code == 0
    words = ("scan", scan.parent / "pictures", "--model", mark_model, "--out", scan)
    assert nnst(*words).code == 0
    assert (scan / "report" / "index.html").exists()
    assert nnst(*words, "--fresh").code == 0
    assert not (scan / "report").exists()


def test_the_output_of_another_verb_is_no_scan(nnst: Command, crop_set: Path) -> None:
    done = nnst("report", crop_set)
    assert (done.code, done.out) == (2, "")
    assert "was written by nnst crop, not by nnst scan" in done.err
    assert len(done.err.splitlines()) == 1


def test_another_threshold_is_the_one_of_the_page_and_the_counts(
    nnst: Command, scan: Path, mark_model: str
) -> None:
    every, none = (
        nnst("report", scan, "--threshold", value, "--json").document["counts"]
        for value in ("0", "1")
    )
    assert every["found"] > 0
    assert none["found"] == 0
    done = nnst("report", scan, "--threshold", "1.5")
    assert (done.code, done.out) == (2, "")
    assert "threshold must be from 0 to 1, got 1.5" in done.err


def test_another_scan_and_maps_of_the_score_come_onto_the_page(nnst: Command, scan: Path) -> None:
    done = nnst("report", scan, "--beside", scan, "--heat", "2")
    assert (done.code, done.err) == (0, "")
    text = (scan / "report" / "index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'"heat":"iVBOR', text)) == 2
    assert '"beside":{"scan":' in text
    refused = nnst("report", scan, "--heat", "-1")
    assert (refused.code, "heat must be 0 or more" in refused.err) == (2, True)
