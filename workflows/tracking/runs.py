"""One run: what it records, whether MLflow answers or not."""

from __future__ import annotations

import getpass
import json
import math
import os
import posixpath
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nnst import storage
from nnst.errors import InputError, TooManyBad
from workflows import provenance
from workflows.tracking import store
from workflows.tracking.outbox import Outbox

Status = Literal["FINISHED", "FAILED", "KILLED"]

FINISH_PATIENCE_S = 30.0  # how long a job that is done waits for a server that is away
MOST_AT_ONCE = 100  # entities in a request; MLflow's own limits, these four
MOST_IN_KEY = 250
MOST_IN_VALUE = 6000
MOST_IN_DIGEST = 36


def start(
    experiment: str,
    name: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, Any] = {},
    parent: str | None = None,
) -> Run:
    """A new run of the experiment, which is made when there is none.

    Raises InputError when MLflow does not answer now: a model could not be registered later.
    """
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.explained(uri):
        found = _experiment(client, uri, experiment)
        record = client.create_run(found, run_name=name, tags=_first_tags(parent))
    run = Run(client, uri, record)
    run.log_params(params)
    run.log_tags(tags)
    return run


def resume(run_id: str) -> Run:
    """A run that was begun before, open again. Raises InputError when it is not there."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.explained(uri):
        try:
            record = client.get_run(run_id)
        except store.mlflow().MlflowException as error:
            if not store.is_refusal(error):
                raise
            record = None
        if record is None or record.info.lifecycle_stage == "deleted":
            remedy = "set MLFLOW_TRACKING_URI to where it was recorded, or start anew with --fresh"
            raise InputError(f"no run {run_id} in MLflow at {store.shown(uri)}", remedy)
        client.update_run(run_id, status="RUNNING")
    return Run(client, uri, record)


class Run:
    """One MLflow run. Logging raises nothing for MLflow's sake and seldom waits: see `problems`.

    As a context it ends FINISHED, KILLED by ctrl-C, or FAILED.
    """

    def __init__(self, client: Any, uri: str, record: Any) -> None:
        self.client = client
        self.uri = uri
        self.run_id: str = record.info.run_id
        self.experiment_id: str = record.info.experiment_id
        self.artifact_uri: str = record.info.artifact_uri
        self._open = True
        self._outbox = Outbox(f"MLflow at {store.shown(uri)}", store.is_refusal)

    @property
    def url(self) -> str:
        """Where a person looks at the run: an address, or its id and the command that shows it."""
        if self.uri.startswith("http"):
            return f"{store.shown(self.uri)}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"run {self.run_id} (nnst ui shows it)"

    @property
    def problems(self) -> list[str]:
        """What is not recorded, or not yet, and why: lines for the verb to print."""
        return [store.shown(line) for line in self._outbox.problems]

    def log_metrics(
        self, values: Mapping[str, float | None], step: int = 0, at: int | None = None
    ) -> None:
        """Record numbers; None and what is not finite is left out.

        `at` is when, in milliseconds: a number sent again with the same time stays one row.
        """
        metric = store.mlflow().entities.Metric
        now = int(time.time() * 1000) if at is None else at  # fixed here, as it may be sent twice
        numbers = {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
        self._batch("metrics", [metric(_key(k), v, now, step) for k, v in numbers.items()])

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record settings, which cannot change later; groups become `group.name`."""
        param = store.mlflow().entities.Param
        self._batch("params", [param(_key(k), _text(v)) for k, v in _flat(values)])

    def log_tags(self, values: Mapping[str, Any]) -> None:
        """Record texts, which may change later."""
        tag = store.mlflow().entities.RunTag
        self._batch("tags", [tag(_key(k), _text(v)) for k, v in _flat(values)])

    def _batch(self, kind: str, entities: list[Any]) -> None:
        for first in range(0, len(entities), MOST_AT_ONCE):
            some = {kind: entities[first : first + MOST_AT_ONCE]}
            self._outbox.send(kind, partial(self.client.log_batch, self.run_id, **some))

    def log_file(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Record a file, which stays where it is until the run is finished."""
        if not os.path.isfile(path):
            raise FileNotFoundError(path)
        source, name = os.path.abspath(path), os.path.basename(path)
        place = folder or None
        self._outbox.send(name, lambda: self.client.log_artifact(self.run_id, source, place))

    def log_bytes(self, name: str, data: bytes) -> None:
        """Record bytes as a file of this name, such as `plots/loss.png`."""
        self._outbox.send(name, lambda: self._put(name, data))

    def _put(self, name: str, data: bytes) -> None:
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, file)
            path.write_bytes(data)
            self.client.log_artifact(self.run_id, str(path), folder or None)

    def log_dataset(
        self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str
    ) -> None:
        """Record the data that went in: its sha256, where it is, and "training" or the like."""
        entities = store.mlflow().entities
        scheme = source.partition("://")[0] if storage.is_remote(source) else "local"
        web = scheme.startswith("http")
        data = entities.Dataset(
            name=name,
            digest=digest[:MOST_IN_DIGEST],
            source_type="http" if web else scheme,  # these two as mlflow.data.get_source reads them
            source=json.dumps({"url" if web else "uri": storage.absolute(source)}),
            profile=json.dumps(dict(counts)),
        )
        tags = [entities.InputTag("mlflow.data.context", context)]
        item = entities.DatasetInput(data, tags)
        self._outbox.send(name, lambda: self.client.log_inputs(self.run_id, [item]))

    def finish(self, status: Status = "FINISHED") -> None:
        """Send what still waits and close the run; only the first call does."""
        if not self._open:
            return
        self._open = False
        self._outbox.send("status", lambda: self.client.set_terminated(self.run_id, status))
        # Whoever pressed ctrl-C does not want to wait.
        self._outbox.drain(0.0 if status == "KILLED" else FINISH_PATIENCE_S)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, TooManyBad):  # the latter is work done, and committed
            self.finish()
        else:
            self.finish("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")


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


def _first_tags(parent: str | None) -> dict[str, str]:
    """The tags that MLflow's pages show as user, source, version and parent."""
    tags = {"mlflow.source.name": "nnst", "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        tags["mlflow.user"] = str(os.getuid())
    if commit := provenance.code_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags | ({"mlflow.parentRunId": parent} if parent else {})


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of dotted name and value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _key(text: str) -> str:
    """A name that MLflow takes: word characters and ` _.-:/`, and no path but a plain one."""
    name = "".join(c if c.isalnum() or c in " _.-:/" else "_" for c in text)[:MOST_IN_KEY]
    if posixpath.normpath(name) == name and not name.startswith((".", "/")):
        return name
    return name.replace("/", "_").lstrip(".") or "_"


def _text(value: Any) -> str:
    """Text as it is, all else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_IN_VALUE else text[: MOST_IN_VALUE - 1] + "…"
