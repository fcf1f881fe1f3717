"""`nnst scan`: one row for each picture, whatever it is, wherever it lies, whatever dies meanwhile.

The models are not trained: `mark_model` knows the drawn mark, and a network of random weights,
`busy_model`, answers something everywhere.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nnst import boxes, images, ledger, models, records
from nnst.ledger import Ledger
from nnst.records import ModelSpec
from workflows import fanout
from workflows.progress import Progress
from workflows.scoring import ScanTask, scan_shard

Command = Callable[..., Any]

BAD = {  # by name: what is in it, and the reason of its row
    "cut.jpg": (None, "truncated"),
    "empty.jpg": (b"", "empty"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "unsupported_format"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "unsupported_format"),
    "text.png": (b"not a picture at all", "not_an_image"),
}


@pytest.fixture(scope="module")
def busy_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that finds much everywhere, with a slash."""
    spec = ModelSpec(
        "lenet", ("background", "logo"), (22, 33), 4, widths=(4, 6, 8), calibration=(0.3, 0.0)
    )
    folder = tmp_path_factory.mktemp("busy-model")
    models.save(folder, spec, models.build(spec, seed=1).state_dict())
    return f"{folder}/"


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory,
    scenes: Any,
    draw: Command,
    with_orientation: Command,
) -> Path:
    """A folder as they are: pictures, a turned one, broken ones, and a file that is none."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "deep").mkdir()
    for name in scenes.boxes:
        shutil.copy(scenes.folder / name, folder / "deep" / name)
    jpeg = images.encode_jpeg(draw([(20, 30, 60, 54)]), quality=95)
    for name, (data, _) in BAD.items():
        (folder / name).write_bytes(jpeg[: len(jpeg) // 2] if data is None else data)
    stored = np.ascontiguousarray(np.rot90(draw([(100, 60, 150, 90)])))
    (folder / "turned.jpg").write_bytes(with_orientation(images.encode_jpeg(stored, 95), 6))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def scanned(
    nnst: Command, mixed: Path, mark_model: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ledger, Any]:
    """The scan of the mixed folder, and what the command said."""
    out = tmp_path_factory.mktemp("scans") / "mixed"
    words = ("--model", mark_model, "--out", out, "--set", "shard_images=3")
    done = nnst("scan", mixed, *words, "--json")
    return Ledger.open(str(out), "scan"), done


def rows_of(book: Ledger, table: str = "images") -> list[dict[str, Any]]:
    return book.read(table).to_pylist()


def tables(out: Path) -> dict[str, bytes]:
    """Every file that decides what a scan says, by its path. The run's id in plan.json does not."""
    kept = ("images/", "detections/", "receipts/", "plan/", "_SUCCESS")
    files = [path for path in sorted(out.rglob("[!.]*")) if path.is_file()]
    inside = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in inside.items() if name.startswith(kept)}


# --- Rows


def test_the_tables_have_the_names_and_types_that_are_promised(
    scanned: tuple[Ledger, Any],
) -> None:
    """As the design states them, so that DuckDB and pandas open them as they are."""
    book, _ = scanned
    found = {name: str(kind) for name, kind in zip(*columns(book, "images"), strict=True)}
    assert found == {
        **{"image": "string", "image_id": "string", "width": "int32", "height": "int32"},
        **{"status": "string", "detections": "int32", "score": "float"},
    }
    found = {name: str(kind) for name, kind in zip(*columns(book, "detections"), strict=True)}
    assert found == {
        **{"image": "string", "image_id": "string"},
        **dict.fromkeys(("x0", "y0", "x1", "y1", "score"), "float"),
        **{"label": "string", "model": "string"},
    }
    assert book.read("images").schema == records.IMAGES
    assert book.read("detections").schema == records.DETECTIONS


def columns(book: Ledger, table: str) -> tuple[list[str], list[pa.DataType]]:
    """Names and types as any other reader of Parquet sees them."""
    (part, *_) = sorted((Path(book.out) / table).glob("*.parquet"))
    schema = pq.read_schema(part)
    return schema.names, schema.types


def test_every_picture_has_one_row_in_the_order_of_the_plan(
    scanned: tuple[Ledger, Any], scenes: Any
) -> None:
    book, done = scanned
    names = [row["image"] for row in rows_of(book)]
    assert names == book.inputs()["image"].to_pylist()
    assert names == sorted([*BAD, "turned.jpg", *(f"deep/{name}" for name in scenes.boxes)])
    assert done.document["pictures"] == len(names)
    assert done.document["skipped"] == 1  # notes.txt; hidden files are not even counted


def test_what_cannot_be_read_has_its_reason_and_nothing_else(
    scanned: tuple[Ledger, Any], mixed: Path
) -> None:
    book, done = scanned
    rows = {row["image"]: row for row in rows_of(book) if row["status"] != "ok"}
    assert {name: row["status"] for name, row in rows.items()} == {
        name: reason for name, (_, reason) in BAD.items()
    }
    for name, row in rows.items():
        assert row["image_id"] == images.content_hash((mixed / name).read_bytes())
        assert (row["width"], row["height"], row["score"]) == (None, None, None)
        assert row["detections"] == 0
    assert done.document["bad"] == {
        **{"truncated": 1, "empty": 1, "unsupported_format": 2, "not_an_image": 1}
    }


def test_more_bad_pictures_than_allowed_is_exit_code_3_with_everything_written(
    nnst: Command, scanned: tuple[Ledger, Any], mixed: Path, mark_model: str
) -> None:
    book, done = scanned
    assert done.code == 3
    assert book.is_done()
    assert done.err.endswith(  # after progress, where the machine is slow
        "nnst: 5 of 16 pictures could not be used (empty 1, not_an_image 1, truncated 1, "
        "unsupported_format 2), more than 5%; all else is done and written; look at them, or allow "
        "more with --max-bad 1\n"
    )
    words = ("--model", mark_model, "--out", book.out, "--set", "shard_images=3")
    again = nnst("scan", mixed, *words, "--max-bad", "0.5")
    assert (again.code, again.err) == (0, "")
    for reason, count in done.document["bad"].items():
        assert f"{count:>8} could not be looked at: {records.REASONS[reason]}" in again.out


def test_the_marks_are_found_where_they_are(scanned: tuple[Ledger, Any], scenes: Any) -> None:
    book, done = scanned
    found = rows_of(book, "detections")
    for name, drawn in scenes.boxes.items():
        mine = [row for row in found if row["image"] == f"deep/{name}" and row["score"] >= 0.5]
        assert len(mine) == len(drawn), name
        if drawn:
            iou = boxes.pairwise_iou(corners(mine), boxes.as_boxes(drawn))
            assert (iou.max(axis=0) > 0.5).all(), name
    assert done.document["found"] == 10  # nine scenes and the turned picture
    assert {row["label"] for row in found} == {"mark"}


def corners(rows: list[dict[str, Any]]) -> boxes.Boxes:
    return boxes.as_boxes([[row[name] for name in ("x0", "y0", "x1", "y1")] for row in rows])


def test_boxes_of_a_turned_picture_are_in_its_pixels_as_stored(
    scanned: tuple[Ledger, Any], mixed: Path
) -> None:
    """As imglab draws them, and although it was looked at upright."""
    book, _ = scanned
    (row,) = [row for row in rows_of(book) if row["image"] == "turned.jpg"]
    assert (row["width"], row["height"]) == (160, 220)  # of the file, not of what people see
    found = [row for row in rows_of(book, "detections") if row["image"] == "turned.jpg"]
    expected = images.boxes_stored(boxes.as_boxes([(100, 60, 150, 90)]), (220, 160), 6)
    assert boxes.pairwise_iou(corners(found[:1]), expected)[0, 0] > 0.6
    stored = images.decode((mixed / "turned.jpg").read_bytes())
    assert stored.pixels.shape[:2] == (220, 160)


def test_rows_of_images_and_detections_agree(
    nnst: Command, mixed: Path, busy_model: str, tmp_path: Path
) -> None:
    """With a model that answers everywhere."""
    words = ("--model", busy_model, "--out", tmp_path, "--set", "fanout.max_bad=1")
    assert nnst("scan", mixed, *words).code == 0
    book = Ledger.open(str(tmp_path))
    found = rows_of(book, "detections")
    assert len(found) > 100
    for row in rows_of(book):
        mine = [each for each in found if each["image"] == row["image"]]
        assert len(mine) == row["detections"]
        assert {each["image_id"] for each in mine} <= {row["image_id"]}
        scores = [each["score"] for each in mine]
        assert scores == sorted(scores, reverse=True)
        assert row["score"] == max(scores, default=None)
        if mine:
            inside = corners(mine)
            assert (inside[:, 2:] > inside[:, :2]).all()
            assert (inside >= 0).all()
            assert (inside <= [row["width"], row["height"]] * 2).all()
            assert max(scores) <= 1
            assert min(scores) >= np.float32(0.01)
    order = [each["image"] for each in found]
    assert order == sorted(order)
    assert {each["model"] for each in found} == {busy_model.rstrip("/")}


# --- Archives


def tar_of(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as packed:
        for file in members_of(folder):
            packed.add(file, file.relative_to(folder).as_posix())


def zip_of(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in members_of(folder):
            packed.write(file, file.relative_to(folder).as_posix())


def parquet_of(folder: Path, path: Path) -> None:
    files = members_of(folder)
    names = [file.relative_to(folder).as_posix() for file in files]
    table = pa.table({"path": names, "bytes": [file.read_bytes() for file in files]})
    pq.write_table(table, path, row_group_size=4)


def members_of(folder: Path) -> list[Path]:
    """Pictures in the order of a folder's plan."""
    files = [path for path in folder.rglob("[!.]*") if path.is_file() and path.suffix != ".txt"]
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("pictures.tar", tar_of),
        ("pictures.tgz", tar_of),
        ("pictures.zip", zip_of),
        ("pictures.parquet", parquet_of),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_same_pictures_give_the_same_rows_from_every_kind_of_archive(
    name: str,
    pack: Callable[[Path, Path], None],
    nnst: Command,
    mixed: Path,
    mark_model: str,
    scanned: tuple[Ledger, Any],
    tmp_path: Path,
) -> None:
    pack(mixed, tmp_path / name)
    out = tmp_path / "scan"
    assert nnst("scan", tmp_path / name, "--model", mark_model, "--out", out).code == 3
    book, _ = scanned
    for table in ("images", "detections"):
        assert Ledger.open(str(out)).read(table).equals(book.read(table))


def test_a_crop_set_can_be_scanned(
    nnst: Command, crop_set: Path, mark_model: str, tmp_path: Path
) -> None:
    done = nnst("scan", crop_set, "--model", mark_model, "--out", tmp_path / "scan", "--json")
    assert done.code == 0
    assert (done.document["pictures"], done.document["found"]) == (10, 9)


@pytest.mark.parametrize("kind", ["folder", "text", "zip"])
def test_an_archive_without_a_picture_is_refused(
    kind: str, nnst: Command, mark_model: str, tmp_path: Path
) -> None:
    source = tmp_path / "empty"
    if kind == "folder":
        source.mkdir()
        (source / "notes.txt").write_text("nothing")
    elif kind == "text":
        source.write_text("nothing")
    else:
        zipfile.ZipFile(source, "w").close()
    done = nnst("scan", source, "--model", mark_model, "--out", tmp_path / "scan")
    assert (done.code, done.out) == (2, "")
    assert str(source) in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "scan").exists()


def test_a_scan_is_no_archive(
    nnst: Command, scanned: tuple[Ledger, Any], mark_model: str, tmp_path: Path
) -> None:
    book, _ = scanned
    done = nnst("scan", book.out, "--model", mark_model, "--out", tmp_path / "scan")
    assert done.code == 2
    assert f"holds a scan, not pictures; give the archive it scanned: {book.source}" in done.err


# --- Again, and into the same folder


def test_the_same_command_again_changes_no_byte_and_no_time(
    nnst: Command, scanned: tuple[Ledger, Any], mixed: Path, mark_model: str
) -> None:
    book, first = scanned
    out = Path(book.out)
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
              for path in out.rglob("*")}  # fmt: skip
    words = ("--model", mark_model, "--out", out, "--set", "shard_images=3", "--json")
    again = nnst("scan", mixed, *words)
    assert (again.code, again.document) == (3, first.document)
    after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
             for path in out.rglob("*")}  # fmt: skip
    assert after == before


def test_another_scan_into_the_same_folder_is_refused_and_fresh_does_it(
    nnst: Command, scenes: Any, mixed: Path, mark_model: str, busy_model: str, tmp_path: Path
) -> None:
    words = ("--model", mark_model, "--out", tmp_path)
    assert nnst("scan", scenes.folder, *words).code == 0
    before = tables(tmp_path)
    others = {
        "inputs": (mixed, *words),
        "model": (scenes.folder, "--model", busy_model, "--out", tmp_path),
        "min_width": (scenes.folder, *words, "--min-width", "20"),
        "levels_per_octave": (scenes.folder, *words, "--set", "levels_per_octave=2"),
    }
    for what, other in others.items():
        done = nnst("scan", *other)
        assert (done.code, done.out) == (2, "")
        assert what in done.err
        assert "holds another job" in done.err
        assert "--fresh" in done.err
        assert "--out" in done.err
        assert len(done.err.splitlines()) == 1
    assert tables(tmp_path) == before
    done = nnst("scan", *others["min_width"], "--fresh", "--json")
    assert done.code == 0
    book = Ledger.open(str(tmp_path))
    assert book.plan["identity"]["settings"]["min_width"] == 20
    assert len(rows_of(book)) == 10


def test_how_the_work_is_spread_is_no_other_job(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    words = ("scan", scenes.folder, "--model", mark_model, "--out", tmp_path)
    assert nnst(*words).code == 0
    assert nnst(*words, "--set", "fanout.in_flight=5", "--set", "fanout.cpus=0.5").code == 0


def test_a_dry_run_tells_the_plan_and_leaves_no_trace(
    nnst: Command, mixed: Path, mark_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "scan"
    words = ("scan", mixed, "--model", mark_model, "--out", out, "--dry-run")
    done = nnst(*words)
    assert done.code == 0
    assert done.out.startswith("would scan 16 pictures (")
    assert nnst(*words, "--json").document["skipped"] == {".txt": 1}
    assert not out.exists()


def test_the_folder_of_somebody_else_is_left_alone(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for more in ((), ("--fresh",)):
        done = nnst("scan", scenes.folder, "--model", mark_model, "--out", tmp_path, *more)
        assert done.code == 2
        assert "give --out a new folder" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# --- Invariants


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, draw: Command) -> Path:
    """Twelve pictures that take a while each."""
    folder = tmp_path_factory.mktemp("large")
    for index in range(12):
        pixels = cv2.resize(draw([(20 + index, 30, 60 + index, 54)], seed=index), (660, 480))
        (folder / f"{index:02d}.png").write_bytes(images.encode_png(pixels))
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    nnst: Command, large: Path, busy_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The scan of the large pictures, one a shard, with nothing going wrong."""
    out = tmp_path_factory.mktemp("scans") / "undisturbed"
    assert nnst("scan", large, *words_of(busy_model, out)).code == 0
    return out


def words_of(model: str, out: Path) -> tuple[object, ...]:
    sets = ("shard_images=1", "levels_per_octave=8")
    return ("--model", model, "--out", out, *(word for each in sets for word in ("--set", each)))


def test_a_scan_whose_driver_is_killed_goes_on_and_ends_as_if_undisturbed(
    nnst: Command,
    start_driver: Callable[..., subprocess.Popen[str]],
    large: Path,
    busy_model: str,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "scan"
    process = start_driver("scan", large, *words_of(busy_model, out))
    receipts = out / "receipts"
    while not (receipts.is_dir() and len(list(receipts.glob("[!.]*"))) >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    begun = Ledger.open(str(out))
    assert not begun.is_done()
    done = set(begun.receipts())
    assert 2 <= len(done) < 12
    kept = {path: path.stat().st_mtime_ns for path in receipts.glob("[!.]*")}
    again = nnst("scan", large, *words_of(busy_model, out), "--json")
    assert again.code == 0
    assert tables(out) == tables(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # these were not done again
    assert again.document["run_id"] == begun.notes["run_id"]


def test_an_unfinished_scan_is_read_by_nobody(
    nnst: Command, undisturbed: Path, scenes: Any, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed, tmp_path / "scan")
    (tmp_path / "scan" / "_SUCCESS").unlink()
    (tmp_path / "scan" / "receipts" / "00003.json").unlink()
    for words in (("report", tmp_path / "scan"), ("evaluate", tmp_path / "scan", scenes.truth)):
        done = nnst(*words)
        assert done.code == 2
        assert "is not finished: 11 of 12 shards are done; run the same command again" in done.err


def test_the_number_of_slots_changes_no_table(
    nnst: Command, large: Path, busy_model: str, undisturbed: Path, tmp_path: Path, cluster: str
) -> None:
    import ray

    every = ray.cluster_resources()["CPU"]
    words = words_of(busy_model, tmp_path)
    assert nnst("scan", large, *words, "--set", f"fanout.cpus={every}").code == 0
    assert tables(tmp_path) == tables(undisturbed)


def test_decoding_in_tasks_of_its_own_changes_no_table(
    nnst: Command, large: Path, busy_model: str, undisturbed: Path, tmp_path: Path
) -> None:
    """Nor does it matter there how many threads decode."""
    words = words_of(busy_model, tmp_path)
    apart = ("--set", "fanout.apart=1", "--set", "fanout.decoders=2")
    assert nnst("scan", large, *words, *apart).code == 0
    assert tables(tmp_path) == tables(undisturbed)


def test_the_order_in_which_shards_are_done_changes_no_table(
    undisturbed: Path, tmp_path: Path, busy_model: str
) -> None:
    """And the function of a shard needs no Ray."""
    book = Ledger.open(str(undisturbed))
    (tmp_path / "plan").mkdir()
    for name in ("plan.json", "plan/inputs.parquet"):
        shutil.copy(undisturbed / name, tmp_path / name)
    backwards = Ledger.open(str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        for shard in reversed(backwards.shards()):
            backwards.commit(
                scan_shard(task_of(backwards, busy_model), shard, backwards.shards()[shard])
            )
    finally:
        torch.set_num_threads(threads)
    backwards.succeed()
    assert tables(tmp_path) == tables(undisturbed)
    assert book.fingerprint == backwards.fingerprint


def task_of(book: Ledger, model: str) -> ScanTask:
    """What the shards of this scan are done with."""
    identity = book.plan["identity"]
    deciding = {name: identity["settings"][name] for name in
                ("min_width", "levels_per_octave", "iou_threshold")}  # fmt: skip
    return ScanTask(
        out=book.out,
        source=book.source,
        fingerprint=book.fingerprint,
        model_folder=model,
        model_digest=identity["model"]["digest"],
        model_name=model.rstrip("/"),
        **deciding,
    )


def test_a_worker_loads_the_model_once_and_not_for_every_shard(
    undisturbed: Path, busy_model: str, tmp_path: Path
) -> None:
    book = Ledger.open(str(undisturbed))
    task = replace(task_of(book, busy_model), out=str(tmp_path))

    def loads(shard: int, inputs: pa.Table) -> tuple[int, int]:
        from nnst.detector import load_detector
        from workflows.scoring import scan_shard

        before = load_detector.cache_info().misses
        scan_shard(task, shard, inputs)
        return os.getpid(), load_detector.cache_info().misses - before

    with Progress("test", 12) as progress:
        every = fanout.run_tasks(loads, book.shards(), fanout.FanoutSettings(), progress)
        found = [result for _, result in every]
    assert len(found) == 12
    for process in {process for process, _ in found}:
        assert sum(count for each, count in found if each == process) <= 1


# --- Models


def test_a_folder_needs_its_slash(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    shutil.copytree(mark_model, tmp_path / "mine")
    words = ("scan", scenes.folder, "--out", "scan", "--model")
    done = nnst(*words, "mine", at=tmp_path)
    assert done.code == 2
    assert "write ./mine for the folder of that name" in done.err
    done = nnst(*words, "./mine", at=tmp_path)
    assert done.code == 0
    assert f"looked through with {tmp_path / 'mine'}" in done.out


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_model_file_is_ever_unpickled(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists()  # so it would be seen
    (tmp_path / "exploded").unlink()
    (tmp_path / "model.pt").write_bytes(bomb)
    saved = io.BytesIO()
    torch.save({"weights": Bomb(tmp_path / "exploded")}, saved)
    (tmp_path / "model.bin").write_bytes(saved.getvalue())
    broken = tmp_path / "broken"
    shutil.copytree(mark_model, broken)
    (broken / models.WEIGHTS).write_bytes(bomb)
    out = tmp_path / "scan"
    for model, told in {
        "model.pt": "is a pickled model, which nnst never opens",
        "model.bin": "is a pickled model, which nnst never opens",
        "broken/": "is broken",
    }.items():
        done = nnst("scan", scenes.folder, "--model", tmp_path / model, "--out", out)
        assert done.code == 2
        assert told in done.err
    assert not (tmp_path / "exploded").exists()
    assert not out.exists()


def test_weights_that_somebody_changed_are_refused(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    shutil.copytree(mark_model, tmp_path / "model")
    weights = bytearray((tmp_path / "model" / models.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model" / models.WEIGHTS).write_bytes(weights)
    out = tmp_path / "scan"
    done = nnst("scan", scenes.folder, "--model", f"{tmp_path}/model/", "--out", out)
    assert (done.code, done.out) == (2, "")
    assert "is not the file that model.json was written for" in done.err
    assert not out.exists()


# --- The run


def test_a_scan_is_one_finished_run_with_its_settings_and_counts(
    scanned: tuple[Ledger, Any], workplace: Path, mark_model: str
) -> None:
    from mlflow import MlflowClient

    book, done = scanned
    run = MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db").get_run(book.notes["run_id"])
    assert run.info.status == "FINISHED"
    assert done.document["run_id"] == run.info.run_id
    assert run.data.params["model"] == mark_model
    assert run.data.params["fanout.max_bad"] == "0.05"
    assert run.data.tags["model_digest"] == models.digest(mark_model)
    expected = {
        "pictures": 16,
        "pictures_bad": 5,
        "pictures_found": 10,
        "detections": done.document["detections"],
        "bad_truncated": 1,
        "bad_unsupported_format": 2,
    }
    assert {name: run.data.metrics[name] for name in expected} == expected


def test_what_the_plan_remembers_lets_others_go_on(
    scanned: tuple[Ledger, Any], mixed: Path
) -> None:
    """Evaluate and report find run, threshold and archive here."""
    book, _ = scanned
    model = book.plan["identity"]["model"]
    assert model["labels"] == ["background", "mark"]
    assert (model["threshold"], model["window_hw"]) == (0.5, [24, 40])
    assert book.source == str(mixed)
    assert book.notes["skipped"] == {".txt": 1}
    assert book.notes["boxes"] == "stored pixels"
    assert book.plan["format"] == ledger.FORMAT


def test_more_cpus_than_there_are_stop_the_scan_at_once_and_a_better_number_continues_it(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    words = ("scan", scenes.folder, "--model", mark_model, "--out", tmp_path)
    done = nnst(*words, "--set", "fanout.cpus=1000")
    assert done.code == 2
    assert "lower --set fanout.cpus" in done.err
    assert nnst(*words).code == 0


def test_workers_tell_what_they_did_to_who_asks_for_metrics(
    nnst: Callable[..., Any], scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    """And threads that decode ahead change no row."""
    import ray

    archive = tmp_path / "archive"
    archive.mkdir()
    for path in scenes.folder.glob("*.png"):
        (archive / path.name).write_bytes(path.read_bytes())
    (archive / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    words = ("scan", archive, "--model", mark_model, "--max-bad", "1")
    assert nnst(*words, "--out", tmp_path / "a").code == 0
    assert nnst(*words, "--out", tmp_path / "b", "--set", "fanout.decoders=3").code == 0
    for table in ("images", "detections"):
        names = [[path.name for path in (tmp_path / out / table).iterdir()] for out in "ab"]
        assert names[0] == names[1]
    (node,) = ray.nodes()
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    wanted = {
        "ray_nnst_pictures",
        "ray_nnst_megapixels",
        "ray_nnst_bad_pictures",
        *(f"ray_nnst_stage_seconds {stage}" for stage in ("read", "decode", "score", "write")),
    }
    end = time.monotonic() + 120
    while True:
        with urllib.request.urlopen(address, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        told = set()
        for line in lines:
            if line.startswith("ray_nnst_"):
                name = line.partition("{")[0].removesuffix("_total")
                stage = line.partition('stage="')[2].partition('"')[0]
                told.add(f"{name} {stage}".strip())
        if wanted <= told:
            break
        assert time.monotonic() < end, told
        time.sleep(0.5)
