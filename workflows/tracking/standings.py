"""What versions of a model have come to: their scans and evaluations, and who is champion."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from typing import Any

from nnst import storage
from nnst.errors import InputError
from workflows.tracking import store
from workflows.tracking.registry import CHALLENGER, CHAMPION

MOST_RUNS = 200  # of a version that are looked through; the newest
PROMOTED = "promoted"  # a version's tag: why it became champion

# What makes two evaluations fit to be compared, by the tags and params of their runs.
SAME_TAGS = ("truth_digest", "unseen_digest", "labels")
SAME_PARAMS = ("unlisted", "count_difficult")
FIGURE = "unseen_map50"  # of the judged pictures that the version was not trained on


@dataclass(frozen=True, slots=True)
class Judgement:
    """One evaluation of a version, as its run has it."""

    run_id: str
    truth: str
    map50: float  # of pictures that the version was not trained on, and its interval
    low: float
    high: float
    pictures: int
    same: tuple[str, ...]  # equal for evaluations that can be compared
    truth_digest: str
    ended: int  # in milliseconds

    def to_dict(self) -> dict[str, Any]:
        """What a person wants to know of it."""
        figures = {"map50": self.map50, "low": self.low, "high": self.high}
        known = {name: None if math.isnan(value) else value for name, value in figures.items()}
        return {"run_id": self.run_id, "truth": self.truth, "pictures": self.pictures} | known


def judgements(name: str, digest: str) -> list[Judgement]:
    """The finished evaluations of the model of this digest, the newest first."""
    wanted = f"tags.verb = 'evaluate' and tags.model_digest = '{digest}'"
    return [_judgement(run) for run in _finished(name, wanted)]


def _judgement(run: Any) -> Judgement:
    nan = float("nan")
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    return Judgement(
        run_id=run.info.run_id,
        truth=params.get("truth", ""),
        map50=metrics.get(FIGURE, nan),
        low=metrics.get(f"{FIGURE}_low", nan),
        high=metrics.get(f"{FIGURE}_high", nan),
        pictures=int(metrics.get("unseen_pictures", 0)),
        same=(
            *(tags.get(key, "") for key in SAME_TAGS),
            *(params.get(key, "") for key in SAME_PARAMS),
        ),
        truth_digest=tags.get("truth_digest", ""),
        ended=run.info.end_time or 0,
    )


def champion_version(name: str) -> str:
    """The version that is champion; "" for none."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.explained(uri):
        return str(client.get_registered_model(name).aliases.get(CHAMPION, ""))


def promote(name: str, version: str, why: str) -> None:
    """Make the version the champion, say why on its page, and end its challenge."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.explained(uri):
        aliases = client.get_registered_model(name).aliases
        client.set_model_version_tag(name, version, PROMOTED, why)
        client.set_registered_model_alias(name, CHAMPION, version)
        if str(aliases.get(CHALLENGER, "")) == version:
            client.delete_registered_model_alias(name, CHALLENGER)


def tags_of(run_id: str) -> dict[str, str]:
    """The tags of a run. Raises InputError when there is none."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.explained(uri):
        try:
            return dict(client.get_run(run_id).data.tags)
        except store.mlflow().MlflowException as error:
            if not store.is_refusal(error):
                raise
    raise InputError(f"no run {run_id} in MLflow at {store.shown(uri)}", "look with nnst ui")


def scans_by(name: str, digest: str) -> list[tuple[str, str]]:
    """(run id, folder) of the finished scans by the model of this digest, the newest first."""
    wanted = f"tags.verb = 'scan' and tags.model_digest = '{digest}'"
    return [(run.info.run_id, run.data.tags.get("out", "")) for run in _finished(name, wanted)]


def _finished(name: str, wanted: str) -> list[Any]:
    """MLflow's records of the finished runs of an experiment, the newest first."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.explained(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return []
        return list(
            client.search_runs(
                [experiment.experiment_id],
                filter_string=f"{wanted} and attributes.status = 'FINISHED'",
                order_by=["attributes.end_time DESC"],
                max_results=MOST_RUNS,
            )
        )


def experiment_of(name: str) -> str:
    """The experiment in which the runs of a model are kept; of a plain folder, its last part."""
    return name.rstrip("/").rpartition("/")[2]


def read_json(run_id: str, name: str) -> Any:
    """A run's JSON file of this name; None where it has none."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.explained(uri), tempfile.TemporaryDirectory() as temporary:
        if name not in [file.path for file in client.list_artifacts(run_id)]:
            return None
        return storage.read_json(client.download_artifacts(run_id, name, temporary))
