"""Keeping what was fetched: what is said of bytes, and writes that hold nobody up."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnst import images, storage
from nnst.web import blobs
from nnst.web.journal import Journal
from nnst.web.keeping import Keeper, look


def picture(seed: int, hw: tuple[int, int] = (60, 80)) -> bytes:
    rng = np.random.default_rng(seed)
    return images.encode_jpeg(rng.integers(0, 256, (*hw, 3), dtype=np.uint8))


@pytest.mark.parametrize("hw", [(20, 20), (60, 80), (47, 900), (500, 700)])
def test_the_hash_of_a_reduced_picture_is_near_that_of_the_whole_one(hw: tuple[int, int]) -> None:
    coarse = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = images.encode_jpeg(images.resize(coarse, hw))
    found = look(data)
    assert (found["height"], found["width"]) == hw
    whole = images.perceptual_hash(images.decode(data).pixels)
    assert images.hamming(int(found["perceptual_hash"], 16), whole) <= 4


def test_a_broken_picture_is_told_by_decoding_alone() -> None:
    whole = picture(1)
    assert look(whole[:-400])["status"] == "truncated"
    assert look(whole[:-400], decode=False)["status"] == "ok"
    assert look(b"", decode=False)["status"] == "empty"


@pytest.mark.parametrize("place", ["disk", "store"])
def test_bytes_are_there_before_their_row_is(tmp_path: Path, place: str) -> None:
    out = str(tmp_path) if place == "disk" else f"memory://{tmp_path.name}"
    seen: list[bool] = []

    class Looking(Journal):
        def add(self, row: dict[str, Any]) -> None:
            seen.append(row["status"] != "ok" or blobs.is_there(out, row))
            super().add(row)

    async def run(journal: Journal) -> None:
        keeper = Keeper(out, journal, decode=True)

        async def one(number: int) -> None:
            data = picture(number) if number % 3 else b"none"
            facts = await keeper.look(data)
            await keeper.keep({"url": str(number), **facts}, data)

        await asyncio.gather(*map(one, range(60)))

    with Looking(out, 0) as journal:
        asyncio.run(run(journal))
    assert seen == [True] * 60
    with Journal(out, 0) as journal:
        assert set(journal.rows) == {str(number) for number in range(60)}
        assert sum(row["status"] == "ok" for row in journal.rows.values()) == 40


def test_a_slow_disk_holds_up_nobody(tmp_path: Path) -> None:
    """Once it is known to be slow, writes go to threads, several at a time."""
    at_once: list[int] = []
    writing: list[int] = []

    class Slow(Journal):
        def add(self, row: dict[str, Any]) -> None:
            writing.append(threading.get_ident())
            at_once.append(len(writing))
            time.sleep(0.02)
            super().add(row)
            writing.pop()

    async def run(journal: Journal) -> int:
        keeper, turns = Keeper(str(tmp_path), journal, decode=False), 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        rows = [{"url": str(number), "status": "refused"} for number in range(40)]
        await asyncio.gather(*(keeper.keep(row, b"") for row in rows))
        counting.cancel()
        return turns

    with Slow(str(tmp_path), 0) as journal:
        assert asyncio.run(run(journal)) > 100  # the loop went on meanwhile
        assert len(journal.rows) == 40
    assert max(at_once) > 1
    assert storage.exists(tmp_path / "journal" / "00000.jsonl")
