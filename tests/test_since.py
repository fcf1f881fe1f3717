"""nnst scan --since: what has not changed is taken over, and no table tells of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nnst import images
from nnst.ledger import Ledger
from workflows import earlier

Command = Callable[..., Any]
FORGED = 0.125


def scan(nnst: Command, folder: Path, out: Path, model: str, *words: str) -> Any:
    done = nnst("scan", folder, "--model", model, "--out", out, *words, "--json")
    assert (done.code, done.err) == (0, "")
    return done.document


def tables(out: Path) -> dict[str, bytes]:
    kept = ("images/", "detections/", "receipts/", "plan/", "_SUCCESS")
    files = [path for path in sorted(out.rglob("[!.]*")) if path.is_file()]
    inside = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in inside.items() if name.startswith(kept)}


@pytest.fixture(scope="module")
def old(
    nnst: Command, scenes: Any, mark_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A scan, whose pictures' scores are forged afterwards: they tell where a row comes from."""
    out = tmp_path_factory.mktemp("old") / "scan"
    scan(nnst, scenes.folder, out, mark_model)
    for part in (out / "images").glob("*.parquet"):
        rows = pq.read_table(part).to_pylist()
        schema = pq.read_schema(part)
        pq.write_table(pa.Table.from_pylist([r | {"score": FORGED} for r in rows], schema), part)
    for path in (out / "receipts").glob("*.json"):  # else they would be found out
        receipt = json.loads(path.read_text())
        for file in receipt["files"]:
            data = (out / file["table"] / file["name"]).read_bytes()
            file |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps(receipt))
    return out


@pytest.fixture
def changed(scenes: Any, draw: Command, tmp_path: Path) -> Path:
    """The archive with one picture gone, one renamed, one copied, one changed and one new."""
    folder = tmp_path / "archive"
    shutil.copytree(scenes.folder, folder)
    gone, renamed, copied, other = sorted(folder.glob("*.png"))[:4]
    gone.unlink()
    renamed.rename(folder / "renamed.png")
    shutil.copy(copied, folder / "a-copy.png")
    other.write_bytes(images.encode_png(draw([(50, 40, 110, 76)], seed=77)))
    (folder / "new.png").write_bytes(images.encode_png(draw([(20, 30, 80, 66)], seed=78)))
    return folder


def test_what_has_not_changed_is_taken_over_and_the_rest_is_scored(
    nnst: Command, old: Path, changed: Path, mark_model: str, tmp_path: Path
) -> None:
    scan(nnst, changed, tmp_path / "out", mark_model, "--since", str(old))
    known = {row["image_id"] for row in Ledger.open(str(old)).read("images").to_pylist()}
    rows = Ledger.open(str(tmp_path / "out")).read("images").to_pylist()
    assert {row["image"]: row["score"] == FORGED for row in rows} == {
        row["image"]: row["image_id"] in known for row in rows
    }
    fresh = {row["image"] for row in rows if row["image_id"] not in known}
    assert len(fresh) == 2
    assert len(rows) == len(known) + 1


def test_the_tables_are_those_of_a_plain_scan(
    nnst: Command, scenes: Any, changed: Path, mark_model: str, tmp_path: Path
) -> None:
    scan(nnst, scenes.folder, tmp_path / "before", mark_model, "--set", "shard_images=3")
    scan(nnst, changed, tmp_path / "since", mark_model, "--since", str(tmp_path / "before"))
    scan(nnst, changed, tmp_path / "plain", mark_model)
    assert tables(tmp_path / "since") == tables(tmp_path / "plain")
    assert len(Ledger.open(str(tmp_path / "plain")).read("detections")) > 3


def test_copies_of_one_picture_do_not_add_up(
    nnst: Command, changed: Path, mark_model: str, tmp_path: Path
) -> None:
    scan(nnst, changed, tmp_path / "once", mark_model)
    scan(nnst, changed, tmp_path / "twice", mark_model, "--since", str(tmp_path / "once"))
    assert tables(tmp_path / "twice") == tables(tmp_path / "once")


def test_what_is_not_known_has_no_rows(old: Path) -> None:
    assert earlier.EarlierScan(str(old)).rows("0" * 64, "a.png", "m") is None


def test_a_scan_that_was_made_anew_in_its_folder_is_read_anew(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    """A worker may outlive it: it must not remember the rows of the scan before."""
    scan(nnst, scenes.folder, tmp_path / "old", mark_model)
    first = earlier.earlier_scan(str(tmp_path / "old"))
    assert earlier.earlier_scan(str(tmp_path / "old")) is first
    scan(nnst, scenes.folder, tmp_path / "old", mark_model, "--fresh", "--min-width", "40")
    assert earlier.earlier_scan(str(tmp_path / "old")) is not first


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--min-width", "40"), r"was scanned in another way \(settings.min_width: 0 -> 40\)"),
        (("--model", "{other}"), r"was scanned in another way \(model.digest: "),
    ],
    ids=["settings", "model"],
)
def test_a_scan_of_another_kind_is_refused_with_the_difference_named(
    nnst: Command,
    old: Path,
    scenes: Any,
    mark_model: str,
    mark_cascade: str,
    tmp_path: Path,
    words: tuple[str, ...],
    told: str,
) -> None:
    words = tuple(word.format(other=mark_cascade) for word in words)
    model = () if "--model" in words else ("--model", mark_model)
    command = ("scan", scenes.folder, *model, *words, "--out", tmp_path / "out", "--since", old)
    done = nnst(*command)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("; scan as then, or without --since\n")
    assert re.search(told, done.err)
    assert not (tmp_path / "out").exists()


def test_what_is_no_scan_is_refused(
    nnst: Command, scenes: Any, mark_model: str, crop_set: Path, tmp_path: Path
) -> None:
    words = ("--model", mark_model, "--out", tmp_path / "out")
    for folder, told in ((tmp_path, "is no scan folder"), (crop_set, "was written by nnst crop")):
        done = nnst("scan", scenes.folder, *words, "--since", folder)
        assert (done.code, done.out) == (2, "")
        assert told in done.err
