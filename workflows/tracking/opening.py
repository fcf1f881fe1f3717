"""How a run is made once, or found again, whatever became of the answers."""

from __future__ import annotations

import getpass
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnst import storage
from nnst.errors import InputError
from workflows import provenance
from workflows.tracking import store

MARK = "nnst.mark"  # the tag by which a run is found whose id is not known yet


def new_mark() -> str:
    """A name for a run, to be kept before the run is made: it finds the run again."""
    return secrets.token_hex(16)


@dataclass(slots=True)
class Maker:
    """Makes a run once: one that an attempt left whose answer was lost is found by its mark."""

    uri: str
    experiment: str
    name: str
    mark: str
    again: bool  # whether there may be one already
    parent: str | None = None  # the id of another run

    def __call__(self, client: Any) -> Any:
        """MLflow's record of the run."""
        found = _experiment(client, self.uri, self.experiment)
        known = _marked(client, [found], self.mark) if self.again else None
        if known is not None:
            return _reopened(client, known)
        self.again = True
        return client.create_run(found, run_name=self.name, tags=self._tags())

    def _tags(self) -> dict[str, str]:
        """The run's mark, and what MLflow's pages show as user, source, version and parent."""
        tags = {MARK: self.mark, "mlflow.source.name": "nnst", "mlflow.source.type": "LOCAL"}
        try:
            tags["mlflow.user"] = getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            tags["mlflow.user"] = str(os.getuid())
        if commit := provenance.code_commit():
            tags["mlflow.source.git.commit"] = commit
        tags |= {f"version.{name}": found for name, found in provenance.environment().items()}
        return tags | ({"mlflow.parentRunId": self.parent} if self.parent else {})


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds a run that was begun before."""

    uri: str
    run_id: str
    mark: str

    def __call__(self, client: Any) -> Any:
        """MLflow's record of the run. Raises InputError when there is none."""
        record = self._record(client)
        if record is None or record.info.lifecycle_stage == "deleted":
            where = f"in MLflow at {store.shown(self.uri)}"
            remedy = "set MLFLOW_TRACKING_URI to where it was recorded, or start anew with --fresh"
            if not self.run_id:
                remedy = "run the command that was to record it again, which makes the run"
            raise InputError(f"no run {self.run_id or self.mark} {where}", remedy)
        return _reopened(client, record)

    def _record(self, client: Any) -> Any:
        if not self.run_id:
            every = [item.experiment_id for item in client.search_experiments()]
            return _marked(client, every, self.mark) if self.mark else None
        try:
            return client.get_run(self.run_id)
        except store.mlflow().MlflowException as error:
            if not store.is_refusal(error):
                raise
            return None


def _marked(client: Any, experiments: list[str], mark: str) -> Any:
    """MLflow's record of the run with this mark, or None."""
    wanted = f"tags.`{MARK}` = '{mark}'"
    found = client.search_runs(experiments, filter_string=wanted, max_results=1)
    return found[0] if found else None


def _reopened(client: Any, record: Any) -> Any:
    client.update_run(record.info.run_id, status="RUNNING")
    return record


def _experiment(client: Any, uri: str, name: str) -> str:
    """The id of the experiment of this name, made or brought back where needed."""
    found = client.get_experiment_by_name(name) or _new_experiment(client, uri, name)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)  # its name cannot be used again otherwise
    if found.artifact_location.startswith("mlflow-artifacts:") and not uri.startswith("http"):
        remedy = "set MLFLOW_TRACKING_URI to that server, or choose another name"
        raise InputError(f"experiment {name} keeps its files behind an MLflow server", remedy)
    return str(found.experiment_id)


def _new_experiment(client: Any, uri: str, name: str) -> Any:
    location = None  # a server knows its own
    if not uri.startswith("http"):
        location = Path(store.artifact_folder(uri), storage.safe_name(name)).as_uri()
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=location))
    except store.mlflow().MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found  # another process was first
