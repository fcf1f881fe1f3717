"""The data types: frozen, checked at the door, and whole after a trip to another process."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import records
from nnst.records import (
    Annotation,
    Crop,
    Detections,
    Failure,
    ModelSpec,
    PartFile,
    PyramidLevel,
    Receipt,
)

FEW = settings(max_examples=50, deadline=None)


def detections(rows: int) -> Detections:
    """Rows that differ from each other in every column."""
    number = np.arange(rows)
    boxes = np.stack([number, number, number + 5, number + 7], axis=1)
    return Detections(boxes, number / 10, number + 1)


def annotation(**changes: Any) -> Annotation:
    values: dict[str, Any] = {
        "image": "a.jpg",
        "image_id": "0" * 64,
        "boxes": [[0, 0, 4, 4], [1, 1, 2, 2]],
        "labels": ("logo", "logo"),
        "ignore": [False, True],
        "difficult": [False, False],
    }
    return Annotation(**values | changes)


def crop() -> Crop:
    return Crop(np.zeros((4, 4, 3)), "logo", "positive", "0" * 64, [0, 0, 4, 4], [0, 0, 4, 4])


# --- Detections


def test_detections_have_the_types_that_the_tables_want() -> None:
    found = detections(3)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (
        np.float32,
        np.float32,
        np.int64,
    )
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((3, 4), (3,), (3,))


def test_no_detection_has_shape_0_4() -> None:
    found = Detections.empty()
    assert len(found) == 0
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize(
    "index",
    [
        np.array([True, False, True, False]),
        np.array([2, 0, 0]),  # a new order, and one twice
        np.array([], dtype=np.int64),
        slice(1, 3),
    ],
)
def test_an_index_picks_the_same_rows_of_every_column(index: Any) -> None:
    found = detections(4)
    picked = found[index]
    assert picked.boxes.tolist() == found.boxes[index].tolist()
    assert picked.scores.tolist() == found.scores[index].tolist()
    assert picked.labels.tolist() == found.labels[index].tolist()


@FEW
@given(st.lists(st.integers(0, 4), max_size=5))
def test_concatenation_keeps_all_rows_in_order(sizes: list[int]) -> None:
    parts = [detections(size) for size in sizes]
    found = Detections.concatenate(parts)
    assert len(found) == sum(sizes)
    assert found.labels.tolist() == [label for part in parts for label in part.labels.tolist()]
    assert found.boxes.shape == (sum(sizes), 4)


@pytest.mark.parametrize(
    "columns",
    [
        ([[0, 0, 1, 1]], [0.5, 0.5], [1]),
        ([[0, 0, 1, 1]], [0.5], []),
        ([], [0.5], [1]),
    ],
)
def test_columns_of_different_length_are_refused(columns: Any) -> None:
    with pytest.raises(ValueError, match="one length"):
        Detections(*columns)


def test_a_box_turned_inside_out_is_refused() -> None:
    with pytest.raises(ValueError, match="x0 <= x1"):
        Detections([[2, 0, 1, 1]], [0.5], [1])


# --- Frozen


@pytest.mark.parametrize(
    ("record", "column"),
    [
        (detections(2), "boxes"),
        (detections(2), "scores"),
        (detections(2), "labels"),
        (detections(2)[:1], "boxes"),
        (annotation(), "boxes"),
        (annotation(), "ignore"),
        (annotation(), "difficult"),
        (crop(), "pixels"),
        (crop(), "box"),
        (crop(), "box_in_crop"),
    ],
)
def test_neither_a_column_nor_a_value_in_it_can_be_changed(record: Any, column: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, column, None)
    with pytest.raises(ValueError, match="read-only"):
        getattr(record, column)[...] = 0


def test_the_arrays_that_were_given_stay_the_callers_own() -> None:
    scores = np.array([0.5], dtype=np.float32)
    found = Detections([[0, 0, 1, 1]], scores, [1])
    scores[0] = 0.9
    assert found.scores.tolist() == [0.5]


def test_records_hold_no_attribute_that_they_do_not_name() -> None:
    for record in (detections(1), annotation(), crop()):
        assert not hasattr(record, "__dict__")


@pytest.mark.parametrize(
    "record",
    [
        ModelSpec("lenet", ("background", "logo"), (22, 75), 4),
        Failure("a.jpg", "decode", "corrupt", "bad marker"),
        Receipt(3, 5, 4, 1, (PartFile("images", "part", 1, "0" * 64, 5),), "f", {"corrupt": 1}),
    ],
)
def test_a_record_survives_pickling(record: Any) -> None:
    assert pickle.loads(pickle.dumps(record)) == record


def test_detections_survive_pickling() -> None:
    found = pickle.loads(pickle.dumps(detections(3)))
    assert found.boxes.tolist() == detections(3).boxes.tolist()
    assert found.labels.dtype == np.int64


# --- The other types


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("logo",)},
        {"ignore": [False]},
        {"difficult": []},
        {"boxes": []},
    ],
)
def test_an_annotation_has_one_label_and_two_marks_a_box(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one length"):
        annotation(**changes)


def test_an_annotation_without_boxes_is_reviewed_background() -> None:
    found = annotation(boxes=[], labels=(), ignore=[], difficult=[])
    assert (len(found), found.boxes.shape) == (0, (0, 4))


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("background",)},
        {"window_hw": (0, 75)},
        {"stride": 0},
    ],
)
def test_a_model_that_cannot_score_is_refused(changes: dict[str, Any]) -> None:
    good = ModelSpec("lenet", ("background", "logo"), (22, 75), 4)
    with pytest.raises(ValueError, match=r"needs background|bad window"):
        dataclasses.replace(good, **changes)


def test_a_reason_outside_the_closed_list_is_refused() -> None:
    with pytest.raises(ValueError, match="closed list"):
        Failure("a.jpg", "decode", "weird")


def test_every_reason_is_one_word_with_a_meaning_and_none_is_ok() -> None:
    assert records.OK not in records.REASONS
    odd = [word for word in records.REASONS if not word.replace("_", "").islower()]
    assert odd == []
    assert all(records.REASONS.values())


def test_a_level_is_the_picture_itself_when_nothing_is_padded() -> None:
    assert PyramidLevel((1.0, 1.0), np.zeros((2, 2, 3), np.uint8)).pad_xy == (0, 0)


# --- Receipt: conservation

counts = st.integers(0, 6)


@FEW
@given(st.lists(st.sampled_from(["ok", "corrupt", "empty"])))
def test_a_receipt_of_rows_counts_each_of_them_once(statuses: list[str]) -> None:
    receipt = records.Receipt.of(3, iter(statuses), (), "print")
    assert (receipt.shard, receipt.files, receipt.fingerprint) == (3, (), "print")
    assert receipt.rows_in == len(statuses)
    assert receipt.rows_ok == statuses.count("ok")
    assert receipt.bad == {s: statuses.count(s) for s in set(statuses) - {"ok"}}


@given(counts, counts, counts, st.dictionaries(st.sampled_from(sorted(records.REASONS)), counts))
def test_a_receipt_adds_up_or_is_refused(
    rows_in: int, rows_ok: int, rows_bad: int, bad: dict[str, int]
) -> None:
    adds_up = rows_in == rows_ok + rows_bad and rows_bad == sum(bad.values())
    if adds_up:
        assert Receipt(0, rows_in, rows_ok, rows_bad, (), "f", bad).rows_in == rows_in
    else:
        with pytest.raises(ValueError, match="do not add up"):
            Receipt(0, rows_in, rows_ok, rows_bad, (), "f", bad)


@pytest.mark.parametrize(
    ("rows_in", "rows_ok", "rows_bad", "bad", "adds_up"),
    [
        (3, 2, 1, {"corrupt": 1}, True),
        (3, 1, 2, {"corrupt": 1, "empty": 1}, True),
        (0, 0, 0, {}, True),
        (3, 2, 0, {}, False),  # a row was lost
        (3, 3, 1, {"corrupt": 1}, False),  # a row was counted twice
        (3, 2, 1, {}, False),  # bad, and nobody says why
        (3, 2, 1, {"corrupt": 2}, False),
    ],
)
def test_receipts_worked_by_hand(
    rows_in: int, rows_ok: int, rows_bad: int, bad: dict[str, int], adds_up: bool
) -> None:
    if adds_up:
        Receipt(0, rows_in, rows_ok, rows_bad, (), "f", bad)
        return
    with pytest.raises(ValueError, match=r"shard 0: .* do not add up"):
        Receipt(0, rows_in, rows_ok, rows_bad, (), "f", bad)


# --- Schemas: what people read with DuckDB and pandas


def test_the_tables_of_a_scan_have_the_documented_columns() -> None:
    assert [(field.name, str(field.type)) for field in records.IMAGES] == [
        ("image", "string"),
        ("image_id", "string"),
        ("width", "int32"),
        ("height", "int32"),
        ("status", "string"),
        ("detections", "int32"),
        ("score", "float"),
    ]
    assert [(field.name, str(field.type)) for field in records.DETECTIONS] == [
        ("image", "string"),
        ("image_id", "string"),
        ("x0", "float"),
        ("y0", "float"),
        ("x1", "float"),
        ("y1", "float"),
        ("score", "float"),
        ("label", "string"),
        ("model", "string"),
    ]


def test_a_picture_that_could_not_be_read_fits_its_row() -> None:
    """Could not look: a reason, and nulls where nothing is known."""
    row = {"image": "a.jpg", "status": "empty", "detections": 0}
    table = pa.Table.from_pylist([row], schema=records.IMAGES)
    table.validate(full=True)
    assert table.to_pylist()[0]["score"] is None


def test_the_origin_of_a_crop_is_one_of_three() -> None:
    assert get_args(records.Origin) == ("positive", "negative", "hard_negative")
