"""A Parquet file that lists pictures beside it is an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nnst import archive
from nnst.errors import InputError


def listing(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "inventory.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def rows_of(folder: Path, scenes: Any) -> list[dict[str, Any]]:
    """The scenes, copied below the folder, as an inventory has them."""
    (folder / "a").mkdir()
    found = []
    for path in sorted(scenes.folder.glob("*.png")):
        (folder / "a" / path.name).write_bytes(path.read_bytes())
        found.append({"key": f"a/{path.name}", "size": path.stat().st_size, "e_tag": path.name})
    return found


def test_a_listing_is_planned_without_a_look_at_its_files_and_streamed_from_beside_it(
    tmp_path: Path, scenes: Any
) -> None:
    rows = rows_of(tmp_path, scenes)
    others = [
        {"key": "a/notes.txt", "size": 3, "e_tag": ""},
        {"key": "a/.hidden.png", "size": 3, "e_tag": ""},
        {"key": "../out.png", "size": 3, "e_tag": ""},
        {"key": "a/gone.png", "size": 3, "e_tag": ""},
        {"key": "a/huge.png", "size": 10**9, "e_tag": ""},
    ]
    source = listing(tmp_path, rows + others)
    plan = archive.plan(source, 4)
    assert plan.skipped == {"hidden": 1, "other": 1}
    assert plan.inputs.num_rows == 13
    assert plan.inputs["shard"].to_pylist() == [index // 4 for index in range(13)]
    found = list(archive.stream(source, plan.inputs))
    beside = {member.image: member.data for member in found if member.data is not None}
    assert beside == {row["key"]: (tmp_path / row["key"]).read_bytes() for row in rows}
    reasons = {each.image: each.failure.reason for each in found if each.failure is not None}
    assert reasons == {
        "../out.png": "unsafe_path",
        "a/gone.png": "missing",
        "a/huge.png": "too_many_bytes",
    }


def test_names_of_a_listing_become_showable_and_no_two_the_same(tmp_path: Path) -> None:
    rows = [{"path": name, "bytes": 1} for name in ("a.jpg", "b\u2028.jpg", "a.jpg")]
    inputs = archive.plan(listing(tmp_path, rows)).inputs
    assert inputs["image"].to_pylist() == ["a.jpg", "b\\u2028.jpg", "a.jpg#2"]
    assert inputs["reason"].to_pylist() == [None, None, "duplicate"]


def test_the_order_of_columns_does_not_matter(tmp_path: Path, scenes: Any) -> None:
    rows = rows_of(tmp_path, scenes)
    straight = archive.plan(listing(tmp_path, rows)).inputs
    turned = [dict(reversed(row.items())) for row in rows]
    assert archive.plan(listing(tmp_path, turned)).inputs.equals(straight)


def test_a_listing_without_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a name or size"):
        archive.plan(listing(tmp_path, [{"key": "a.jpg", "size": 1}, {"key": "b.jpg"}]))
    with pytest.raises(InputError, match="no column of pictures"):
        archive.plan(listing(tmp_path, [{"key": "a.jpg"}]))


def test_a_listing_that_is_cut_in_its_pages_is_refused(tmp_path: Path) -> None:
    path = Path(listing(tmp_path, [{"key": f"{n}.jpg", "size": n} for n in range(5000)]))
    data = bytearray(path.read_bytes())
    data[100:4000] = bytes(3900)
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot read"):
        archive.plan(str(path))
