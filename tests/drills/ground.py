"""The ground of the drills: small JPEGs made from a seed, a job over them, and what came of it.

The set has a thousand pictures (the large form: `NNST_DRILL=10000 pytest -m drill`). Most drills
read and decode, which is all that a fault of a picture, a worker or a disk needs; those of whole
commands scan.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nnst import archive, images, ledger, records, storage
from nnst.errors import ImageError
from nnst.ledger import Job, Ledger
from nnst.records import Receipt
from tests import fatal_decoder

ROOT = Path(__file__).resolve().parents[2]
PICTURES = int(os.environ.get("NNST_DRILL", "1000"))
LARGE = PICTURES >= 10_000
LIMIT = 280.0 * max(1, PICTURES / 1000)  # seconds that a process of a drill may take
SHARD = 32
FATAL = {  # how many of each size, and what becomes of them
    fatal_decoder.CRASHES: (20, "decoder_crash"),
    fatal_decoder.HANGS: (5, "decoder_timeout"),
}
BROKEN = 105  # cut short

Work = Callable[[int, pa.Table], Receipt]


def make_pictures(folder: Path) -> None:
    """Small JPEGs, some of them cut short, some of a size that is fatal to the test's decoder."""
    rng, chosen = np.random.default_rng(0), random.Random(0)
    special = [height for height, (count, _) in FATAL.items() for _ in range(count)]
    special += [0] * BROKEN
    places = chosen.sample(range(PICTURES), len(special))
    kinds = dict(zip(places, special, strict=True))
    for number in range(PICTURES):
        kind = kinds.get(number)
        hw = (kind, fatal_decoder.WIDTH) if kind else (48, 64)
        data = images.encode_jpeg(rng.integers(0, 256, (*hw, 3), dtype=np.uint8))
        (folder / f"{number:05}.jpg").write_bytes(data[:200] if kind == 0 else data)


def book(out: Path | str, pictures: Path | str) -> Ledger:
    """The job of reading all pictures: new, or begun before."""
    plan = archive.plan(str(pictures), SHARD)
    return Ledger.create(str(out), Job("scan", plan.inputs, {}, source=str(pictures)))


def reading(opened: Ledger) -> Work:
    """Decodes every picture of a shard, and writes a row for each."""
    out, source, fingerprint = opened.out, opened.source, opened.fingerprint

    def work(shard: int, rows: pa.Table) -> Receipt:
        found, bad = [], {}
        for member in archive.stream(source, rows):
            assert member.data is not None
            row = {"image": member.image, "image_id": images.content_hash(member.data)}
            try:
                header = images.decode(member.data).header
                row |= {"width": header.width, "height": header.height, "status": records.OK}
            except ImageError as error:
                row["status"] = error.reason
                bad[error.reason] = bad.get(error.reason, 0) + 1
            found.append(row | {"detections": 0})
        table = pa.Table.from_pylist(found, schema=records.IMAGES)
        part = ledger.write_part(out, "images", shard, table)
        count = sum(bad.values())
        return Receipt(shard, len(found), len(found) - count, count, (part,), fingerprint, bad)

    return work


def do_here(opened: Ledger, work: Work) -> dict[str, Any]:
    """What a fan-out does, in this process, from wherever the job stands."""
    shards = opened.shards()
    for number in sorted(shards.keys() - opened.receipts().keys()):
        opened.commit(work(number, shards[number]))
    return opened.succeed()


def workers(count: int) -> tuple[str, str]:
    """The words with which so many shards of a scan are done at once."""
    import ray

    return "--set", f"fanout.cpus={ray.cluster_resources()['CPU'] / count}"


def rows_of(opened: Ledger) -> dict[str, dict[str, Any]]:
    """The row of each picture, by its name: none lost, none twice."""
    rows = opened.read("images").to_pylist()
    found = {row["image"]: row for row in rows}
    assert len(rows) == len(found) == PICTURES
    return found


def tables(out: Path | str) -> dict[str, bytes]:
    """Every file that counts, by its path."""
    kept = ("plan", "images", "detections", "receipts", "_SUCCESS")
    names = [entry.name for entry in storage.walk(out)]
    return {
        name: storage.read(storage.join(out, name))
        for name in names
        if name.startswith(kept) and name != "plan.json"  # which remembers the run too
    } | {"fingerprint": Ledger.open(str(out)).fingerprint.encode()}


def events(out: Path) -> list[dict[str, Any]]:
    """What the drivers noted, of all attempts."""
    texts = [path.read_text() for path in sorted((out / "attempts").glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]
