"""What a plan of many pictures takes: seconds, and memory of the driver that makes and deals it.

    python -m tests.benchmarks.bench_plan --pictures 1000000

A Parquet listing of so many pictures is written, planned in a process of its own, and its shards
are dealt as the fan-out deals them. Prints JSON: seconds and resident memory after each step.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nnst import archive
from nnst.ledger import Job, Ledger


def write_listing(path: Path, pictures: int) -> None:
    """Names, sizes and tags as an inventory has them."""
    numbers = np.arange(pictures)
    names = [f"2025/{number % 1000:03d}/IMG_{number:09d}.jpg" for number in numbers]
    tags = [f"{number * 2654435761 % 2**128:032x}" for number in map(int, numbers)]
    table = pa.table({"key": names, "size": numbers % 4_000_000 + 20_000, "e_tag": tags})
    pq.write_table(table, path)


def resident() -> float:
    """MB of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def most() -> float:
    """MB of this process that were in memory at once so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def plan(listing: str, out: str) -> dict[str, float]:
    """Plan, begin the ledger, deal every shard once."""
    found = {"start_mb": resident()}
    began = time.perf_counter()
    inputs = archive.plan(listing, 256).inputs
    found |= {"plan_s": time.perf_counter() - began, "plan_mb": resident(), "plan_most_mb": most()}
    began = time.perf_counter()
    book = Ledger.create(out, Job("scan", inputs, {}))
    del inputs
    found |= {"ledger_s": time.perf_counter() - began, "ledger_mb": resident()}
    began = time.perf_counter()
    shards = book.shards()
    rows = sum(shards[number].num_rows for number in shards)
    found |= {"deal_s": time.perf_counter() - began, "deal_mb": resident()}
    return found | {"most_mb": most(), "pictures": rows, "shards": len(shards)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--listing", help="plan this one, in this process")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.listing:
            found = plan(given.listing, f"{folder}/out")
            print(json.dumps({name: round(value, 1) for name, value in found.items()}, indent=1))
            return
        path = Path(folder, "listing.parquet")
        write_listing(path, given.pictures)
        command = [sys.executable, "-m", "tests.benchmarks.bench_plan", "--listing", str(path)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
