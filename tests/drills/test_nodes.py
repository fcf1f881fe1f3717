"""Nodes that go without a word: their shards are done elsewhere, and nobody is to blame."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnst.ledger import Ledger
from tests.drills.ground import LARGE, LIMIT, ROOT, events, tables

KILLS = 5 if LARGE else 3

pytestmark = pytest.mark.drill


def test_removed_nodes_change_no_byte_and_cost_no_shard_a_retry_for_crashes(
    pictures: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """In a process of its own, as a cluster of several nodes is no other test's."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "tests.drills.nodes", str(out), str(pictures), str(KILLS)]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"
    }  # fmt: skip
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[-1]) == KILLS
    assert Ledger.open(str(out)).is_done()
    assert tables(out) == tables(undisturbed)
    causes = [event["cause"] for event in events(out) if "cause" in event]
    assert set(causes) == {"node lost"}
    assert len(causes) >= KILLS
