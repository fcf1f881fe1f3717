"""One run: what it records, whether MLflow answers or not."""

from __future__ import annotations

import json
import math
import os
import posixpath
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from nnst import storage
from nnst.errors import TooManyBad
from workflows.tracking import store, usage
from workflows.tracking.opening import Finder, Maker, new_mark
from workflows.tracking.outbox import Outbox
from workflows.tracking.settings import TrackingSettings

Status = Literal["FINISHED", "FAILED", "KILLED"]

KILLED_PATIENCE_S = 3.0  # whoever pressed ctrl-C does not want to wait
MOST_AT_ONCE = 100  # params or tags in a request; MLflow's own limits, these five
MOST_METRICS_AT_ONCE = 1000
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
    mark: str = "",
    patience: TrackingSettings = TrackingSettings(),
) -> Run:
    """A new run of the experiment, which is made when there is none; or the one of this mark.

    While MLflow is away the work can begin: the run is made when it answers. Raises InputError
    where it can never answer.
    """
    if patience.system:
        usage.check()
    uri = store.tracking_uri()
    store.mlflow()
    opener = Maker(uri, experiment, name, mark or new_mark(), bool(mark), parent)
    run = Run(uri, opener, patience)
    run.open()
    run.log_params(params)
    run.log_tags(tags)
    return run


def resume(run_id: str, mark: str = "", patience: TrackingSettings = TrackingSettings()) -> Run:
    """A run that was begun before, open again; by its mark where its id is not known.

    Raises InputError when it is not there.
    """
    uri = store.tracking_uri()
    store.mlflow()
    run = Run(uri, Finder(uri, run_id, mark), patience)
    run.run_id = run_id
    run.open()
    return run


class Run:
    """One MLflow run. Logging neither raises for MLflow's sake nor waits: see `problems`.

    As a context it ends FINISHED, KILLED by ctrl-C, or FAILED.
    """

    def __init__(self, uri: str, opener: Maker | Finder, patience: TrackingSettings) -> None:
        self.uri = uri
        self.patience = patience
        self.mark = opener.mark
        self.run_id = self.experiment_id = self.artifact_uri = ""
        self._opener = opener
        self._client: Any = None
        self._alone = threading.Lock()
        self._tried = threading.Event()
        self._trouble: Exception | None = None
        self._metrics: deque[Any] = deque()
        self._metrics_sent = False  # whether a call that takes them waits
        self._alone_with_metrics = threading.Lock()
        self._open = True
        self._usage: Any = None  # MLflow's monitor of this machine, if it is wanted
        self._outbox = Outbox(f"MLflow at {store.shown(uri)}", store.is_refusal)

    def open(self) -> None:
        """Have the run made or found, and wait a little for it. Raises InputError.

        Says on stderr where work begins without: an address may be mistyped.
        """
        self._outbox.send("the run", self.connected)
        # The tables of a new database take seconds, but they do come.
        self._tried.wait(None if store.database_file(self.uri) else self.patience.start)
        error = self._trouble
        if error is not None and store.is_wrong(self.uri, error):
            self._open = False
            self._outbox.drain(0.0)
            with store.explained(self.uri):
                raise error
        if self._client is None:
            where = f"MLflow at {store.shown(self.uri)} does not answer"
            print(f"nnst: {where}; work goes on, and is recorded when it does", file=sys.stderr)

    def connected(self) -> Any:
        """The client, once the run is there. Raises what MLflow raises."""
        with self._alone:
            try:
                if self._client is None:
                    self._connect()
            except Exception as error:
                self._trouble = error
                raise
            finally:
                self._tried.set()
        return self._client

    def _connect(self) -> None:
        client = store.connect(self.uri)
        record = self._opener(client)
        self.run_id, self.experiment_id = record.info.run_id, record.info.experiment_id
        self.artifact_uri = record.info.artifact_uri
        self._client, self._trouble = client, None
        if self.patience.system and self._usage is None:
            self._usage = usage.watch(self.run_id, self.uri)

    def send(self, what: str, call: Callable[[Any], object]) -> None:
        """Have the call made, with the client, once the run is there."""
        self._outbox.send(what, lambda: call(self.connected()))

    @property
    def url(self) -> str:
        """Where a person looks at the run: an address, or its id and the command that shows it."""
        if not self.run_id:
            return f"not recorded yet: MLflow at {store.shown(self.uri)} does not answer"
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
        with self._alone_with_metrics:
            self._metrics.extend(metric(_key(k), v, now, step) for k, v in numbers.items())
            if self._metrics_sent or not self._metrics:
                return  # a call that takes these along waits already
            self._metrics_sent = True
        self.send("metrics", self._send_metrics)

    def _send_metrics(self, client: Any) -> None:
        """Send all numbers that wait, many at once: what came while MLflow was away or slow."""
        refused = None
        while some := self._some_metrics():
            try:
                client.log_batch(self.run_id, metrics=some)
            except Exception as error:
                if not store.is_refusal(error):
                    raise
                refused = error
            self._drop_metrics(len(some))
        if refused is not None:
            raise refused

    def _some_metrics(self) -> list[Any]:
        with self._alone_with_metrics:
            some = list(islice(self._metrics, MOST_METRICS_AT_ONCE))
            self._metrics_sent = bool(some)
            return some

    def _drop_metrics(self, count: int) -> None:
        with self._alone_with_metrics:
            for _ in range(count):
                self._metrics.popleft()

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
            self.send(kind, partial(self._log_batch, some))

    def _log_batch(self, some: Mapping[str, Any], client: Any) -> None:
        client.log_batch(self.run_id, **some)

    def log_file(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Record a file, which stays where it is until the run is finished."""
        if not os.path.isfile(path):
            raise FileNotFoundError(path)
        source, name = os.path.abspath(path), os.path.basename(path)
        place = folder or None
        self.send(name, lambda client: client.log_artifact(self.run_id, source, place))

    def log_bytes(self, name: str, data: bytes) -> None:
        """Record bytes as a file of this name, such as `plots/loss.png`."""
        self.send(name, lambda client: self._put(client, name, data))

    def _put(self, client: Any, name: str, data: bytes) -> None:
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, file)
            path.write_bytes(data)
            client.log_artifact(self.run_id, str(path), folder or None)

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
        self.send(name, lambda client: client.log_inputs(self.run_id, [item]))

    def give_up(self) -> None:
        """Wait no more at the end: it was waited for long enough."""
        self.patience = replace(self.patience, finish=KILLED_PATIENCE_S)

    def finish(self, status: Status = "FINISHED") -> None:
        """Send what still waits and close the run; only the first call does."""
        if not self._open:
            return
        self._open = False
        if self._usage is not None:
            self._usage.finish()
        self.send("status", lambda client: client.set_terminated(self.run_id, status))
        self._outbox.drain(KILLED_PATIENCE_S if status == "KILLED" else self.patience.finish)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, TooManyBad):  # the latter is work done, and committed
            self.finish()
        else:
            self.finish("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")


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
