"""The ledger: what is done is done once and wholly, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from nnst import ledger as ledger_
from nnst import records, storage
from nnst.errors import InputError, JobFailed, PlanChanged
from nnst.ledger import Job, Ledger, start_fresh, write_part, write_parts
from nnst.records import PartFile, Receipt

FEW = settings(max_examples=25, deadline=None)
BAD = "corrupt"


def inputs(*shards: int) -> pa.Table:
    """The inputs of a plan: shard i has shards[i] pictures, each third of them unreadable."""
    rows = [
        {
            "image": f"{shard}/{number}.jpg",
            "container": f"{shard}/{number}.jpg",
            "offset": -1,
            "bytes": 100 + number,
            "stamp": "1",
            "reason": None,
            "shard": shard,
        }
        for shard, count in enumerate(shards)
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=records.INPUTS)


def job(table: pa.Table | None = None, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "verb": "scan",
        "inputs": inputs(4, 3, 1, 2) if table is None else table,
        "settings": {"min_width": 60, "levels": {"step": 1.2}},
        "model": {"name": "pare", "version": "3", "digest": "d" * 64, "labels": ["", "pare"]},
        "versions": {"nnst": "0.1.0"},
    }
    return Job(**values | changes)


def rows_of(members: pa.Table) -> dict[str, pa.Table]:
    """What scanning these inputs comes to: each third is bad, each other holds its number of
    detections."""
    images, detections = [], []
    for row in members.to_pylist():
        number = row["bytes"] - 100
        bad = number % 3 == 2
        found = 0 if bad else number
        image = {"image": row["image"], "image_id": row["image"], "detections": found}
        images.append(image | {"status": BAD if bad else records.OK})
        box = {"image": row["image"], "image_id": row["image"], "x0": 0, "y0": 0, "x1": 9, "y1": 9}
        detections += [box | {"score": 0.5, "label": "pare", "model": "pare/3"}] * found
    return {
        "images": pa.Table.from_pylist(images, schema=records.IMAGES),
        "detections": pa.Table.from_pylist(detections, schema=records.DETECTIONS),
    }


def work(ledger: Ledger, shard: int) -> Receipt:
    """What a worker does: the parts of a shard, and their receipt."""
    members = ledger.shards()[shard]
    tables = rows_of(members)
    files = tuple(write_part(ledger.out, name, shard, rows) for name, rows in tables.items())
    bad = tables["images"]["status"].to_pylist().count(BAD)
    return Receipt(
        shard=shard,
        rows_in=members.num_rows,
        rows_ok=members.num_rows - bad,
        rows_bad=bad,
        files=files,
        fingerprint=ledger.fingerprint,
        bad={BAD: bad} if bad else {},
    )


def work_on_what_is_missing(ledger: Ledger) -> dict[str, Any]:
    """What a driver does, from wherever the ledger stands."""
    for shard in sorted(ledger.shards().keys() - ledger.receipts().keys()):
        ledger.commit(work(ledger, shard))
    return ledger.succeed()


def bytes_of(ledger: Ledger) -> dict[str, bytes]:
    """Every byte that a reader can reach, by its path."""
    found = {"_SUCCESS": storage.read(storage.join(ledger.out, "_SUCCESS"))}
    for number, receipt in ledger.receipts().items():
        path = f"receipts/{number:05d}.json"
        found[path] = storage.read(storage.join(ledger.out, path))
        for file in receipt.files:
            data = storage.read(storage.join(ledger.out, file.table, file.name))
            assert storage.sha256(data) == file.sha256
            found[f"{file.table}/{file.name}"] = data
    return found


def part_paths(ledger: Ledger, shard: int) -> list[str]:
    files = ledger.receipts()[shard].files
    return [storage.join(ledger.out, file.table, file.name) for file in files]


@pytest.fixture(params=["local", "memory"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder that is not there yet, on a disk and in a store."""
    if request.param == "local":
        yield str(tmp_path / "out")
        return
    where = f"memory://{uuid.uuid4().hex}"
    yield where
    storage.remove(where)


# --- The life of a job


def test_a_job_from_plan_to_tables(out: str) -> None:
    ledger = Ledger.create(out, job(source="/pictures", notes={"run_id": "7"}))
    assert not ledger.is_done()
    assert {number: rows.num_rows for number, rows in ledger.shards().items()} == {
        0: 4,
        1: 3,
        2: 1,
        3: 2,
    }
    totals = work_on_what_is_missing(ledger)
    assert ledger.is_done()
    assert totals["rows_in"] == 10
    assert (totals["rows_ok"], totals["rows_bad"], totals["bad"]) == (8, 2, {BAD: 2})
    assert totals["tables"] == {"images": 10, "detections": 6}
    assert storage.read_json(storage.join(out, "_SUCCESS")) == totals

    reader = Ledger.open(out, "scan")
    assert reader.source == "/pictures"
    assert reader.notes == {"run_id": "7"}
    expected = rows_of(job().inputs)
    assert reader.read("images").equals(expected["images"])
    assert reader.read("detections").equals(expected["detections"])
    assert reader.read("images", ["image"]).column_names == ["image"]
    assert reader.inputs().equals(job().inputs)


def test_the_folder_has_the_one_shape_of_every_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ledger = Ledger.create(str(out), job())
    work_on_what_is_missing(ledger)
    ledger.note(host="a", seconds=1.5)
    ledger.flush_notes()
    found = {entry.name for entry in storage.walk(out)}
    parts = {name for name in found if name.startswith(("images/", "detections/"))}
    (attempt,) = (name for name in found if name.startswith("attempts/"))
    assert attempt.endswith(".jsonl")
    assert found - parts - {attempt} == {
        "plan.json",
        "plan/inputs.parquet",
        "receipts/00000.json",
        "receipts/00001.json",
        "receipts/00002.json",
        "receipts/00003.json",
        "_SUCCESS",
    }
    for name in parts:
        number, digest = name.removesuffix(".parquet").split("-")[1:]
        assert len(number) == 5
        assert storage.sha256((out / name).read_bytes()).startswith(digest)
        assert len(digest) == 12


def test_the_tables_open_with_pyarrow_alone(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path / "out"), job())
    work_on_what_is_missing(ledger)
    table = pq.read_table(tmp_path / "out" / "images")
    assert sorted(table["image"].to_pylist()) == sorted(job().inputs["image"].to_pylist())
    assert table.schema.equals(records.IMAGES)


def test_a_job_without_inputs_is_done_at_once_and_has_empty_tables(out: str) -> None:
    ledger = Ledger.create(out, job(inputs()))
    assert work_on_what_is_missing(ledger)["rows_in"] == 0
    assert ledger.read("images").equals(records.IMAGES.empty_table())
    assert ledger.read("images", ["score"]).column_names == ["score"]


def test_the_same_job_goes_on_where_it_stopped(out: str) -> None:
    first = Ledger.create(out, job())
    first.commit(work(first, 2))
    second = Ledger.create(out, job())
    assert second.fingerprint == first.fingerprint
    assert list(second.receipts()) == [2]
    work_on_what_is_missing(second)
    assert list(second.receipts()) == [0, 1, 2, 3]


def test_whether_a_job_has_begun_can_be_asked_without_beginning_it(out: str) -> None:
    assert Ledger.begun(out, job()) is None
    assert not storage.exists(out)
    ledger = Ledger.create(out, job())
    begun = Ledger.begun(out, job())
    assert begun is not None
    assert begun.fingerprint == ledger.fingerprint
    with pytest.raises(PlanChanged, match="verb: scan -> crop"):
        Ledger.begun(out, job(verb="crop"))


def test_a_moved_archive_and_another_run_are_the_same_job(out: str) -> None:
    Ledger.create(out, job(source="/old", notes={"run_id": "1"}))
    again = Ledger.create(out, job(source="/new", notes={"run_id": "2"}))
    assert (again.source, again.notes) == ("/old", {"run_id": "1"})


def test_the_rows_of_a_shard_travel_alone(tmp_path: Path) -> None:
    """A slice would take the buffers of the whole plan with it to each worker."""
    ledger = Ledger.create(str(tmp_path / "out"), job(inputs(*[10] * 50)))
    whole = ledger.inputs().get_total_buffer_size()
    assert ledger.shards()[30].get_total_buffer_size() < whole / 10


def test_the_inputs_of_a_few_pictures_are_those_of_the_plan(out: str) -> None:
    """Also where the plan is longer than what is read of it at a time."""
    table = inputs(9_000, 9_000)
    ledger = Ledger.create(out, job(table))
    wanted = ["1/8999.jpg", "0/3.jpg", "none.jpg"]
    expected = [row for row in table.to_pylist() if row["image"] in wanted]
    assert ledger.inputs_of(wanted).to_pylist() == expected
    assert len(expected) == 2
    assert ledger.inputs_of([]).schema == ledger.inputs().schema


def test_inputs_that_are_not_in_the_order_of_their_shards_are_refused() -> None:
    """Tables come in the order of shards, which must be the order of the plan."""
    table = inputs(2, 2)
    with pytest.raises(ValueError, match="in the order of their shards"):
        job(table.take([2, 0, 1, 3]))


# --- Another job, another folder


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": {"min_width": 80, "levels": {"step": 1.2}}}, "settings.min_width: 60 -> 80"),
        ({"settings": {"min_width": 60, "levels": {"step": 1.5}}}, "levels.step: 1.2 -> 1.5"),
        ({"settings": {"min_width": 60.0, "levels": {"step": 1.2}}}, "min_width: 60 -> 60.0"),
        ({"settings": {"levels": {"step": 1.2}}}, "settings.min_width: 60 -> absent"),
        ({"model": {**job().model, "version": "4"}}, "model.version: 3 -> 4"),
        ({"model": {**job().model, "digest": "e" * 64}}, "model.digest: dddd"),
        ({"versions": {"nnst": "0.2.0"}}, "versions.nnst: 0.1.0 -> 0.2.0"),
        ({"verb": "crop"}, "verb: scan -> crop"),
        ({"inputs": inputs(4, 3, 1, 3)}, "inputs.rows: 10 -> 11"),
        ({"inputs": inputs(4, 3, 2, 1)}, "inputs.sha256"),  # another plan of as many pictures
    ],
)
def test_a_changed_job_is_refused_by_what_changed(
    out: str, changes: dict[str, Any], named: str
) -> None:
    first = Ledger.create(out, job())
    with pytest.raises(PlanChanged) as caught:
        Ledger.create(out, job(**changes))
    assert named in caught.value.what
    assert "--fresh" in caught.value.remedy
    assert "--out" in caught.value.remedy
    assert Ledger.open(out).fingerprint == first.fingerprint
    assert first.inputs().equals(job().inputs)


def test_a_picture_that_changed_in_place_is_another_job(out: str) -> None:
    Ledger.create(out, job())
    rows = job().inputs.to_pylist()
    rows[3]["stamp"] = "2"
    with pytest.raises(PlanChanged, match=r"inputs\.sha256"):
        Ledger.create(out, job(pa.Table.from_pylist(rows, schema=records.INPUTS)))


def test_how_the_inputs_lie_in_memory_is_no_change(out: str) -> None:
    table = inputs(4, 3, 1, 2)
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 5), table.slice(6)])
    wider = pa.Table.from_pylist(table.to_pylist())  # int64 and nullable, as Python lists give
    bare = pieces.replace_schema_metadata({"made": "elsewhere"})
    fingerprints = {
        Ledger.create(out, job(form)).fingerprint
        for form in (table, pieces, wider.select(records.INPUTS.names), bare)
    }
    assert len(fingerprints) == 1


def test_lists_and_tuples_are_one_setting(out: str) -> None:
    Ledger.create(out, job(settings={"window_hw": (22, 75)}))
    Ledger.create(out, job(settings={"window_hw": [22, 75]}))
    with pytest.raises(PlanChanged, match=r"holds another job \(settings.step: absent -> 1\)"):
        Ledger.create(out, job(settings={"window_hw": (22, 75), "step": 1}))


@pytest.mark.parametrize(
    "name", ["notes.txt", "images/holiday.jpg", "plan/of_my_house.pdf", "receipts/shop.json"]
)
def test_a_folder_with_other_things_is_refused_and_left_alone(out: str, name: str) -> None:
    """A folder of a person's own pictures may well be called images."""
    path = storage.join(out, name)
    storage.put(path, b"mine")
    with pytest.raises(InputError, match=f"it holds {name.split('/')[0]}"):
        Ledger.create(out, job())
    with pytest.raises(InputError, match="give --out a new folder"):
        start_fresh(out)
    assert [entry.name for entry in storage.walk(out)] == [name]
    assert storage.read(path) == b"mine"


def test_an_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(b"mine")
    for function in (lambda: Ledger.create(str(out), job()), lambda: start_fresh(str(out))):
        with pytest.raises(InputError, match="is a file; give --out a folder"):
            function()
    assert out.read_bytes() == b"mine"


def test_an_empty_or_hidden_content_is_nothing_foreign(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"x")
    Ledger.create(str(tmp_path), job())
    assert (tmp_path / "plan.json").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "not a plan of this version"),
        (b'{"format": 1}', "not a plan of this version"),  # another tool's plan.json
        (b'{"format": 0, "fingerprint": "", "identity": {}, "source": "", "notes": {}}', "version"),
    ],
)
def test_a_plan_that_is_not_ours_is_refused_and_never_removed(
    out: str, data: bytes, message: str
) -> None:
    storage.put(storage.join(out, "plan.json"), data)
    storage.put(storage.join(out, "images", "holiday.jpg"), b"mine")
    for function in (
        lambda: Ledger.create(out, job()),
        lambda: Ledger.open(out),
        lambda: start_fresh(out),
    ):
        with pytest.raises(InputError, match=message):
            function()
    assert storage.read(storage.join(out, "images", "holiday.jpg")) == b"mine"


# --- Open


def test_open_says_what_is_missing(out: str) -> None:
    with pytest.raises(InputError, match=r"is no scan folder: it has no plan\.json; check"):
        Ledger.open(out, "scan")
    with pytest.raises(InputError, match="is no output folder of nnst"):
        Ledger.open(out)


def test_open_refuses_the_folder_of_another_verb(out: str) -> None:
    Ledger.create(out, job(verb="crop"))
    with pytest.raises(InputError, match=r"was written by nnst crop, not by nnst scan; give the"):
        Ledger.open(out, "scan")
    assert Ledger.open(out, "crop").plan["identity"]["verb"] == "crop"
    assert Ledger.open(out).fingerprint


def test_nothing_is_read_before_the_job_is_done(out: str) -> None:
    ledger = Ledger.create(out, job())
    ledger.commit(work(ledger, 1))
    with pytest.raises(InputError, match=r"not finished: 1 of 4 shards.*run the same command"):
        ledger.read("images")
    assert ledger.totals()["rows_in"] == 3  # progress can be asked for


def test_a_plan_cut_short_before_its_inputs_is_healed_by_the_same_job(out: str) -> None:
    ledger = Ledger.create(out, job())
    storage.remove(storage.join(out, "plan"))
    with pytest.raises(InputError, match="plan without its inputs; run the same command again"):
        Ledger.open(out).shards()
    Ledger.create(out, job())
    assert ledger.inputs().equals(job().inputs)


# --- Parts, receipts, success


def test_parts_without_receipt_are_invisible(out: str) -> None:
    ledger = Ledger.create(out, job())
    orphan = write_part(out, "images", 0, rows_of(inputs(1, 9))["images"])  # another attempt's
    storage.put(storage.join(out, "images", "part-00001-0123"), b"half a file")
    storage.put(storage.join(out, "detections", "notes.txt"), b"x")
    assert ledger.receipts() == {}
    work_on_what_is_missing(ledger)
    assert orphan.name in storage.names(storage.join(out, "images"))
    assert ledger.read("images").equals(rows_of(job().inputs)["images"])


def test_files_that_are_no_receipts_are_no_receipts(out: str) -> None:
    ledger = Ledger.create(out, job())
    storage.put(storage.join(out, "receipts", ".put-0123"), b"{")
    storage.put(storage.join(out, "receipts", "notes.txt"), b"x")
    assert ledger.receipts() == {}


def test_a_receipt_whose_part_vanished_counts_as_not_done(out: str) -> None:
    ledger = Ledger.create(out, job())
    for shard in range(4):
        ledger.commit(work(ledger, shard))
    storage.remove(part_paths(ledger, 1)[0])
    assert list(ledger.receipts()) == [0, 2, 3]
    with pytest.raises(JobFailed, match="accounts for 7 of 10 inputs"):
        ledger.succeed()
    assert work_on_what_is_missing(ledger)["rows_in"] == 10


def test_a_finished_job_that_lost_a_part_is_not_read_as_if_it_were_whole(out: str) -> None:
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    storage.remove(part_paths(ledger, 1)[0])
    with pytest.raises(InputError, match=r"has lost .* parts since; start it anew with --fresh"):
        ledger.read("images")


def test_a_receipt_of_another_plan_does_not_count(out: str) -> None:
    ledger = Ledger.create(out, job())
    other = dataclasses.replace(work(ledger, 0), fingerprint="f" * 64)
    path = storage.join(out, "receipts", "00000.json")
    storage.put(path, storage.to_json(dataclasses.asdict(other)))
    assert ledger.receipts() == {}
    ledger.commit(work(ledger, 0))  # and gives way to the right one
    assert list(ledger.receipts()) == [0]


def test_a_receipt_of_another_plan_cannot_be_committed(out: str) -> None:
    """A worker that outlived its own driver must not undo a shard of the new one."""
    ledger = Ledger.create(out, job())
    receipt = work(ledger, 0)
    ledger.commit(receipt)
    with pytest.raises(JobFailed, match="done for another plan"):
        ledger.commit(dataclasses.replace(receipt, fingerprint="f" * 64))
    assert ledger.receipts() == {0: receipt}


def test_a_shard_that_is_reopened_is_done_again_and_may_come_out_otherwise(out: str) -> None:
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    ledger.succeed()
    first, *others = ledger.receipts()
    ledger.reopen([first])
    assert not ledger.is_done()
    assert list(ledger.receipts()) == others
    assert not storage.exists(storage.join(out, "reopened.json"))
    inputs_of = ledger.shards()[first]
    bad = {"timeout": inputs_of.num_rows}
    ledger.commit(
        Receipt(first, inputs_of.num_rows, 0, inputs_of.num_rows, (), ledger.fingerprint, bad)
    )
    assert ledger.succeed()["bad"]["timeout"] == inputs_of.num_rows


@pytest.mark.parametrize("done_before", [0, 1, 2])
def test_a_reopening_cut_short_is_completed(out: str, done_before: int) -> None:
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    ledger.succeed()
    shards = list(ledger.receipts())[:2]
    storage.put(storage.join(out, "reopened.json"), storage.to_json({"shards": shards}))
    if done_before:
        storage.remove(storage.join(out, "_SUCCESS"))
    if done_before == 2:
        storage.remove(storage.join(out, "receipts", f"{shards[0]:05d}.json"))
    ledger.reopen()
    assert not ledger.is_done()
    assert not set(ledger.receipts()) & set(shards)
    ledger.reopen()  # there is nothing left to complete
    work_on_what_is_missing(ledger)
    assert ledger.succeed()["shards"] == len(ledger.shards())


def test_a_verb_may_have_a_table_of_its_own_columns(tmp_path: Path) -> None:
    rows = pa.table({"a": [1, 2]})
    part = write_part(str(tmp_path), "pictures", 0, rows, rows.schema)
    assert pq.read_table(tmp_path / "pictures" / part.name).equals(rows)
    assert part.rows == 2


def test_the_same_receipt_twice_is_once(out: str) -> None:
    ledger = Ledger.create(out, job())
    receipt = work(ledger, 0)
    ledger.commit(receipt)
    ledger.commit(work(ledger, 0))
    assert ledger.receipts() == {0: receipt}
    assert ledger.totals()["rows_in"] == 4


def test_a_second_result_that_differs_is_refused_and_the_first_stands(out: str) -> None:
    ledger = Ledger.create(out, job())
    receipt = work(ledger, 0)
    ledger.commit(receipt)
    other = write_part(out, "images", 0, rows_of(inputs(1, 4))["images"].slice(1))
    with pytest.raises(JobFailed, match=r"shard 0 .* came out differently a second time"):
        ledger.commit(dataclasses.replace(receipt, files=(other, receipt.files[1])))
    assert ledger.receipts() == {0: receipt}


def test_a_differing_result_replaces_one_whose_parts_are_lost(out: str) -> None:
    ledger = Ledger.create(out, job())
    receipt = work(ledger, 0)
    ledger.commit(receipt)
    storage.remove(part_paths(ledger, 0)[0])
    other = write_part(out, "images", 0, rows_of(inputs(1, 4))["images"].slice(1))
    replacement = dataclasses.replace(receipt, files=(other, receipt.files[1]))
    ledger.commit(replacement)
    assert ledger.receipts() == {0: replacement}


@pytest.mark.parametrize(
    ("shard", "count", "told"),
    [
        (0, 3, r"shard 0 accounts for 3 of 4 inputs \(no rows\)"),
        (0, 5, "shard 0 accounts for 5 of 4 inputs"),
        (4, 0, "shard 4 accounts for 0 of 0 inputs"),  # which nobody planned
    ],
)
def test_a_receipt_that_does_not_account_for_every_input_is_refused(
    shard: int, count: int, told: str, out: str
) -> None:
    ledger = Ledger.create(out, job())
    with pytest.raises(JobFailed, match=told):
        ledger.commit(Receipt(shard, count, count, 0, (), ledger.fingerprint))
    assert ledger.receipts() == {}


def test_a_receipt_whose_table_has_other_rows_than_inputs_is_refused(out: str) -> None:
    ledger = Ledger.create(out, job())
    receipt = work(ledger, 0)
    short = write_part(out, "images", 0, rows_of(inputs(3))["images"])
    with pytest.raises(JobFailed, match=r"accounts for 4 of 4 inputs \(3 rows of images\)"):
        ledger.commit(dataclasses.replace(receipt, files=(short, receipt.files[1])))
    ledger.commit(receipt)  # its detections may be as many as they are


@pytest.mark.parametrize("change", [b"", b"\0"], ids=["cut short", "a byte more"])
def test_a_part_of_another_size_counts_as_not_there(change: bytes, out: str) -> None:
    """As a copy leaves it that was interrupted."""
    ledger = Ledger.create(out, job())
    for shard in range(4):
        ledger.commit(work(ledger, shard))
    path = part_paths(ledger, 2)[1]
    data = storage.read(path)
    storage.put(path, data + change if change else data[:-1])
    assert list(ledger.receipts()) == [0, 1, 3]
    work_on_what_is_missing(ledger)
    assert storage.read(path) == data


def test_a_part_that_was_changed_is_told_and_not_read(out: str) -> None:
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    path = part_paths(ledger, 1)[0]
    data = storage.read(path)
    storage.put(path, data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with pytest.raises(InputError, match=r"images/part-00001.* is not what was written"):
        ledger.read("images")
    assert len(ledger.read("detections")) == len(rows_of(job().inputs)["detections"])
    for each in (path, storage.join(out, "_SUCCESS")):  # the remedy
        storage.remove(each)
    work_on_what_is_missing(ledger)
    assert ledger.read("images").equals(rows_of(job().inputs)["images"])


@pytest.mark.parametrize(
    "counts",
    [
        {0: 4, 1: 3, 2: 1},  # a shard is missing
        {0: 4, 1: 3, 2: 1, 3: 1},  # a row is missing
        {0: 3, 1: 4, 2: 1, 3: 2},  # the sum is right, two shards are not
        {0: 4, 1: 3, 2: 3, 4: 0},  # likewise, with a shard that nobody planned
        {0: 4, 1: 3, 2: 1, 3: 2, 4: 1},  # one row too many
    ],
)
def test_success_needs_every_row_of_every_shard(out: str, counts: dict[int, int]) -> None:
    """Whoever has written the receipts, and however."""
    ledger = Ledger.create(out, job())
    for shard, count in counts.items():
        receipt = Receipt(shard, count, count, 0, (), ledger.fingerprint)
        path = storage.join(out, "receipts", f"{shard:05}.json")
        storage.put(path, storage.to_json(dataclasses.asdict(receipt)))
    with pytest.raises(JobFailed, match=f"accounts for {sum(counts.values())} of 10 inputs"):
        ledger.succeed()
    assert not ledger.is_done()


def test_events_of_an_attempt_are_kept_beside_the_tables(out: str) -> None:
    ledger = Ledger.create(out, job())
    ledger.flush_notes()  # nothing to keep: no file
    assert storage.names(storage.join(out, "attempts")) == []
    ledger.note(shard=1, host="a")
    ledger.note(shard=2, cause="killed")
    ledger.flush_notes()
    Ledger.create(out, job()).flush_notes()
    (name,) = storage.names(storage.join(out, "attempts"))
    lines = storage.read(storage.join(out, "attempts", name)).decode().splitlines()
    assert [json.loads(line)["shard"] for line in lines] == [1, 2]


# --- Start fresh


def test_start_fresh_removes_all_that_a_ledger_and_its_readers_made(out: str) -> None:
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    ledger.note(host="a")
    ledger.flush_notes()
    for made_later in ("report/index.html", "evaluation/0123.json", "look/pare/a.jpg"):
        storage.put(storage.join(out, made_later), b"x")
    storage.put(storage.join(out, "mine.txt"), b"mine")
    start_fresh(out)
    assert [entry.name for entry in storage.walk(out)] == ["mine.txt"]


def test_a_fresh_start_takes_any_other_job(out: str) -> None:
    work_on_what_is_missing(Ledger.create(out, job()))
    start_fresh(out)
    other = job(inputs(2), settings={"min_width": 99})
    ledger = Ledger.create(out, other)
    assert not ledger.is_done()
    work_on_what_is_missing(ledger)
    assert ledger.read("images").equals(rows_of(other.inputs)["images"])


def test_start_fresh_of_nothing_does_nothing(out: str) -> None:
    start_fresh(out)
    assert not storage.exists(out)


def test_a_removal_cut_short_is_still_a_ledger(out: str) -> None:
    """plan.json goes last, so whatever is left is known as ours."""
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    for name in ("_SUCCESS", "receipts", "images"):  # as far as the removal came
        storage.remove(storage.join(out, name))
    start_fresh(out)
    assert storage.names(out) == []


def test_a_worker_that_writes_after_a_fresh_start_does_no_harm(out: str) -> None:
    old = Ledger.create(out, job())
    members = old.shards()[1]
    start_fresh(out)
    write_part(out, "images", 1, rows_of(members)["images"])
    ledger = Ledger.create(out, job(inputs(2)))
    work_on_what_is_missing(ledger)
    assert ledger.read("images").num_rows == 2


# --- The same rows, the same bytes


def crops(count: int) -> pa.Table:
    """Rows of 100 kB: some megabytes, so that Parquet cuts pages where it sees a chunk end."""
    box = {"box": [0, 0, 1, 1], "box_in_crop": [0, 0, 1, 1]}
    words = {"image_id": "0", "label": "pare", "origin": "positive", "split": "train"}
    rows = [box | words | {"image": str(i), "pixels": bytes([i]) * 100_000} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=records.CROPS)


FORTY_CROPS = crops(40)


@settings(FEW, max_examples=10)
@given(st.lists(st.integers(1, 39), min_size=1, max_size=3), st.booleans())
def test_a_part_depends_on_its_rows_and_not_on_how_they_lie_in_memory(
    cuts: list[int], sliced: bool
) -> None:
    rows = FORTY_CROPS
    edges = [0, *sorted(cuts), 40]
    form = pa.concat_tables([rows.slice(a, b - a) for a, b in itertools.pairwise(edges)])
    if sliced:
        form = pa.concat_tables([rows, form, rows]).slice(40, 40)
    form = form.replace_schema_metadata({"host": "a"})
    out = f"memory://{uuid.uuid4().hex}"
    first, second = write_part(out, "crops", 3, rows), write_part(out, "crops", 3, form)
    assert first == second
    assert storage.names(storage.join(out, "crops")) == [first.name]
    storage.remove(out)


def test_wider_types_come_to_the_same_part(out: str) -> None:
    rows = rows_of(inputs(6))["detections"]
    wide = pa.Table.from_pylist(rows.to_pylist())  # float64, int64
    first = write_part(out, "detections", 0, rows)
    assert write_part(out, "detections", 0, wide) == first
    assert first == PartFile("detections", first.name, first.bytes, first.sha256, rows.num_rows)
    assert first.name == f"part-00000-{first.sha256[:12]}.parquet"


def test_a_part_without_rows_is_a_part(out: str) -> None:
    file = write_part(out, "detections", 2, records.DETECTIONS.empty_table())
    data = storage.read(storage.join(out, "detections", file.name))
    assert (file.rows, file.bytes) == (0, len(data))
    assert pq.read_table(pa.BufferReader(data)).schema.equals(records.DETECTIONS)


def test_parts_written_side_by_side_are_those_written_one_by_one(out: str) -> None:
    tables = rows_of(inputs(5))
    together = write_parts(out, 3, tables)
    assert together == tuple(write_part(out, name, 3, rows) for name, rows in tables.items())
    assert write_parts(out, 3, {}) == ()


def test_one_part_that_cannot_be_written_is_told(out: str) -> None:
    with pytest.raises(ValueError, match="schema's field names"):
        write_parts(out, 0, rows_of(inputs(5)) | {"crops": pa.table({"x": [1]})})


def test_rows_that_do_not_fit_their_table_are_refused(out: str) -> None:
    rows = rows_of(inputs(2))["images"]
    with pytest.raises(ValueError, match="schema's field names"):
        write_part(out, "images", 0, rows.drop_columns(["score"]))
    nothing = rows.set_column(0, "image", pa.nulls(2, pa.string()))
    with pytest.raises(ValueError, match="non-nullable"):
        write_part(out, "images", 0, nothing)
    assert storage.names(storage.join(out, "images")) == []


def undisturbed() -> Mapping[str, bytes]:
    """The job done once, in order, by one driver whom nothing befell."""
    out = f"memory://{uuid.uuid4().hex}"
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    found = bytes_of(ledger)
    storage.remove(out)
    return found


UNDISTURBED_IMAGES = rows_of(job().inputs)["images"]["image"].to_pylist()


@FEW
@given(st.permutations(range(4)))
def test_any_order_of_commits_gives_the_same_bytes(order: list[int]) -> None:
    out = f"memory://{uuid.uuid4().hex}"
    ledger = Ledger.create(out, job())
    for shard in order:
        ledger.commit(work(ledger, shard))
    ledger.succeed()
    assert bytes_of(ledger) == undisturbed()
    assert ledger.read("images")["image"].to_pylist() == UNDISTURBED_IMAGES
    storage.remove(out)


def test_shards_come_by_number_and_not_by_the_spelling_of_their_receipts(out: str) -> None:
    """From 100,000 shards on, the names have six digits."""
    rows = inputs(1, 1).set_column(
        6, records.INPUTS.field("shard"), pa.array([99_999, 100_000], pa.int32())
    )
    ledger = Ledger.create(out, job(rows))
    work_on_what_is_missing(ledger)
    assert list(ledger.receipts()) == [99_999, 100_000]
    assert ledger.read("images")["image"].to_pylist() == ["0/0.jpg", "1/0.jpg"]


def test_a_disk_and_a_store_hold_the_same_bytes(out: str) -> None:
    ledger = Ledger.create(out, job())
    work_on_what_is_missing(ledger)
    assert bytes_of(ledger) == undisturbed()


# --- Two drivers at once


def race(out: str, jobs: list[Job]) -> list[Ledger | PlanChanged]:
    """What each of the drivers gets that begin at one moment on one folder."""
    barrier = threading.Barrier(len(jobs))
    found: list[Ledger | PlanChanged] = []

    def begin(own: Job) -> None:
        barrier.wait()
        try:
            found.append(Ledger.create(out, own))
        except PlanChanged as error:
            found.append(error)

    threads = [threading.Thread(target=begin, args=(own,)) for own in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_of_drivers_with_different_jobs_one_wins_and_keeps_its_inputs(tmp_path: Path) -> None:
    for turn in range(15):
        out = str(tmp_path / str(turn))
        jobs = [job(inputs(number)) for number in (1, 2, 3, 4)]
        found = race(out, jobs)
        winners = [each for each in found if isinstance(each, Ledger)]
        assert (len(found), len(winners)) == (4, 1)
        planned = winners[0].plan["identity"]["inputs"]["rows"]
        assert winners[0].inputs().num_rows == planned
        assert Ledger.open(out).inputs().num_rows == planned


def test_drivers_with_the_same_job_all_go_on(tmp_path: Path) -> None:
    for turn in range(5):
        out = str(tmp_path / str(turn))
        found = race(out, [job()] * 4)
        assert [type(each) for each in found] == [Ledger] * 4
        assert Ledger.open(out).inputs().equals(job().inputs)


# --- Whatever happens


class AnyHistory(RuleBasedStateMachine):
    """Drivers come and go, workers die half-way, answers come late and twice, files vanish.

    At the end one driver finishes the job, and every byte is as if nothing had happened.
    """

    answers = Bundle("answers")
    shard = st.integers(0, 3)

    @initialize()
    def plan(self) -> None:
        self.out = f"memory://{uuid.uuid4().hex}"
        self.ledger = Ledger.create(self.out, job())
        self.expected = undisturbed()

    @rule()
    def the_driver_dies_and_another_begins(self) -> None:
        self.ledger = Ledger.create(self.out, job())

    @rule(target=answers, shard=shard)
    def a_worker_answers(self, shard: int) -> Any:
        return multiple(work(self.ledger, shard))

    @rule(shard=shard, table=st.sampled_from(["images", "detections"]))
    def a_worker_dies_between_its_parts(self, shard: int, table: str) -> None:
        write_part(self.out, table, shard, rows_of(self.ledger.shards()[shard])[table])

    @rule(shard=shard)
    def a_worker_dies_while_it_writes(self, shard: int) -> None:
        for name in (".put-0123", f"part-{shard:05d}-0123456789ab.parquet"):
            storage.put(storage.join(self.out, "images", name), b"PAR1 half a file")

    @rule(receipt=answers)
    def an_answer_is_committed(self, receipt: Receipt) -> None:
        """And stays in the bundle: it may come once more, and after any delay."""
        self.ledger.commit(receipt)

    @rule(receipt=consumes(answers))
    def an_answer_is_lost(self, receipt: Receipt) -> None:
        """The driver died with it in hand."""

    @rule(shard=shard, which=st.integers(0, 1))
    def a_part_vanishes(self, shard: int, which: int) -> None:
        if shard in self.ledger.receipts():
            storage.remove(part_paths(self.ledger, shard)[which])

    @rule(shard=shard)
    def a_receipt_vanishes(self, shard: int) -> None:
        storage.remove(storage.join(self.out, "receipts", f"{shard:05d}.json"))

    @rule()
    def the_inputs_vanish_and_the_driver_begins_again(self) -> None:
        storage.remove(storage.join(self.out, "plan"))
        self.ledger = Ledger.create(self.out, job())

    @rule()
    def the_driver_tries_to_finish(self) -> None:
        if len(self.ledger.receipts()) == 4:
            assert self.ledger.succeed()["rows_in"] == 10
            assert bytes_of(self.ledger) == self.expected
        else:
            with pytest.raises(JobFailed, match="of 10 inputs"):
                self.ledger.succeed()

    @rule()
    def another_job_is_refused(self) -> None:
        with pytest.raises(PlanChanged, match="min_width: 60 -> 61"):
            Ledger.create(self.out, job(settings={"min_width": 61, "levels": {"step": 1.2}}))

    @invariant()
    def what_counts_as_done_is_there_and_right(self) -> None:
        planned = {number: rows.num_rows for number, rows in self.ledger.shards().items()}
        for number, receipt in self.ledger.receipts().items():
            assert receipt.rows_in == planned[number]
            for file in receipt.files:
                data = storage.read(storage.join(self.out, file.table, file.name))
                assert data == self.expected[f"{file.table}/{file.name}"]

    @invariant()
    def a_reader_gets_all_rows_or_a_refusal(self) -> None:
        try:
            found = self.ledger.read("images", ["image"])
        except InputError:
            assert not self.ledger.is_done() or len(self.ledger.receipts()) < 4
        else:
            assert found["image"].to_pylist() == UNDISTURBED_IMAGES

    def teardown(self) -> None:
        ledger = Ledger.create(self.out, job())
        work_on_what_is_missing(ledger)
        assert bytes_of(ledger) == self.expected
        assert ledger.read("images")["image"].to_pylist() == UNDISTURBED_IMAGES
        assert len(set(UNDISTURBED_IMAGES)) == job().inputs.num_rows
        storage.remove(self.out)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_the_schemas_are_those_of_the_tables_that_verbs_write() -> None:
    assert set(ledger_.SCHEMAS) == {"images", "detections", "crops", "pictures"}
    assert os.sep not in "".join(ledger_.SCHEMAS)
