"""Runs that are children of another, ended where nobody else can."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from workflows.tracking.runs import Run

MOST_CHILDREN = 10_000


def end_children(run: Run, tags: Mapping[str, str] = {}) -> None:
    """Record that the children of a run that are still under way were stopped, and how."""
    run.send("children", partial(_end, run, tags))


def _end(run: Run, tags: Mapping[str, str], client: Any) -> None:
    wanted = f"tags.`mlflow.parentRunId` = '{run.run_id}' and attributes.status = 'RUNNING'"
    found = client.search_runs([run.experiment_id], wanted, max_results=MOST_CHILDREN)
    for child in found:
        for name, value in tags.items():
            client.set_tag(child.info.run_id, name, value)
        client.set_terminated(child.info.run_id, "KILLED")
