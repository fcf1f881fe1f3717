"""What a second worker node brings, and how long a submitted scan takes to begin.

A head without CPUs and a worker with one are started by the scripts of cluster/; small JPEGs are
scanned with an untrained cascade by `nnst submit`, once to load all that is needed and once for the
clock. Then a second worker joins, and it is done again, anew. Seconds and rates are those of the
ledgers: from the first shard begun to the last one done. Prints JSON. Run it from the root:

    python -m tests.benchmarks.bench_cluster [--pictures 2000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nnst import models
from nnst.ledger import Ledger
from tests.benchmarks.bench_fanout import make
from tests.benchmarks.bench_scan import untrained
from tests.script_cluster import ScriptCluster, running

ROOT = Path(__file__).resolve().parents[2]


def submitted(nodes: ScriptCluster, words: list[str], out: Path) -> dict[str, float]:
    """Seconds until the first shard began, and pictures a second from there on."""
    began = time.time()
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{out.parent}/mlflow.db"}
    here = [sys.executable, "-m", "workflows", "submit", "--address", nodes.dashboard]
    subprocess.run(
        [*here, "--", "scan", *words, "--out", str(out)],
        cwd=ROOT,
        env=nodes.environment | variables,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ended = time.time()
    book = Ledger.open(str(out))
    shards = [event for event in book.events() if "seconds" in event]
    first = min(event["time"] - event["seconds"] for event in shards)
    rate = sum(book.planned().values()) / (shards[-1]["time"] - first)
    return {"until_first_shard_s": first - began, "rate": rate, "whole_s": ended - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("archive", "home", "logs", "model"):
            (folder / part).mkdir()
        make(folder / "archive", count)
        model = untrained("cascade", "56x20")
        models.save(folder / "model", model.spec, model.network.state_dict())
        words = [str(folder / "archive"), "--model", f"{folder}/model/"]
        words += ["--set", "shard_images=16"]
        found = {}
        with running(folder / "home", folder / "logs") as nodes:
            nodes.start_head("--num-cpus=0", "--object-store-memory=80000000")
            for workers in (1, 2):
                nodes.start_worker()
                nodes.until_nodes(1 + workers)
                submitted(nodes, words, folder / f"warm{workers}")
                found[workers] = submitted(nodes, words, folder / f"scan{workers}")
        report = {f"{workers} workers": found[workers] for workers in found}
        ratio = found[2]["rate"] / found[1]["rate"]
        print(json.dumps(report | {"ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
