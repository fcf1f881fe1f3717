"""Removes nodes of a Ray cluster under a job, without grace, and adds others: a script.

    python -m tests.drills.nodes OUT PICTURES KILLS

The cluster has three nodes on this machine: one for the driver, which does no shards, and two that
do. Prints how many nodes were removed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster

from nnst.ledger import Ledger
from nnst.records import Receipt
from tests.drills import ground
from tests.drills.ground import Work, book, reading
from workflows import fanout
from workflows.fanout import FanoutSettings

ONE_AT_ONCE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
SOON = {  # a lost node is known to be lost after two seconds, not half a minute
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


def marked(opened: Ledger, marks: Path, kills: int) -> Work:
    """The work, which says on which node it is at, and waits at its end for the last removal."""
    work, last = reading(opened), max(opened.shards())

    def on_a_node(shard: int, rows: pa.Table) -> Receipt:
        mark = marks / f"{ray.get_runtime_context().get_node_id()}-{os.getpid()}"
        mark.touch()
        time.sleep(0.3)
        end = time.monotonic() + 120
        while shard >= last - 1 and time.monotonic() < end:
            if (marks / f"removed-{kills}").exists():
                break
            time.sleep(0.1)
        receipt = work(shard, rows)
        mark.unlink(missing_ok=True)
        return receipt

    return on_a_node


def remove_nodes(cluster: Any, marks: Path, kills: int) -> None:
    """Remove a node that is at work, add another, and so on."""
    nodes = [node for node in cluster.worker_nodes]
    for number in range(1, kills + 1):
        node = busy_node(nodes, marks)
        nodes.remove(node)
        cluster.remove_node(node, allow_graceful=False)
        (marks / f"removed-{number}").touch()
        nodes.append(added(cluster))


def added(cluster: Any) -> Any:
    """One more node. Ray gives it half a minute to join, which a busy machine may not do."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            return cluster.add_node(**ONE_AT_ONCE)
    return cluster.add_node(**ONE_AT_ONCE)


def busy_node(nodes: list[Any], marks: Path) -> Any:
    """A node of which a shard was begun; waits for one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for node in nodes:
            if any(marks.glob(f"{node.node_id}-*")):
                return node
        time.sleep(0.05)
    raise TimeoutError("no node is at work")


def main(out: str, pictures: str, kills: int) -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={**ONE_AT_ONCE, "num_cpus": 0, "_system_config": SOON}
    )
    for _ in range(2):
        added(cluster)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    for module in (ground, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    fanout.start()
    marks = Path(out).with_name("marks")
    marks.mkdir()
    opened = book(out, pictures)
    work = marked(opened, marks, kills)
    # Nodes can be added in the main thread alone, so the job is done in another.
    with ThreadPoolExecutor(1) as driver:
        job = driver.submit(fanout.fan_out, opened, work, FanoutSettings(), "drill")
        try:
            remove_nodes(cluster, marks, kills)
        finally:
            job.result(150)
            ray.shutdown()
            cluster.shutdown()
    print(len(list(marks.glob("removed-*"))))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
