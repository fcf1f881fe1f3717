"""Models by name: what a name may be, and new versions."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnst import storage
from nnst.errors import InputError, JobFailed
from nnst.records import ModelSpec
from workflows.tracking import packaging, store
from workflows.tracking.outbox import brief
from workflows.tracking.runs import Run

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases
FOLDER = "model"  # among a run's files
AWAIT_CREATION_S = 60

NAME = re.compile(r"\w[\w .+-]{0,199}(?<! )")  # no / : @ or quotes: they have a meaning


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version of a model."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def check_model_name(name: str) -> None:
    """Nothing; raises InputError for a name that cannot be registered or found again."""
    if not NAME.fullmatch(name):
        remedy = "use letters, digits, space and _ . + -, first a letter or digit, 200 at most"
        raise InputError(f"{name[:80]!r} cannot be the name of a model", remedy)


def register(
    name: str,
    run: Run,
    folder: str,
    spec: ModelSpec,
    digest: str,
    tags: Mapping[str, str] = {},
) -> ModelVersion:
    """The new version of the model, now its challenger: the folder's files, kept with the run.

    The same model of the same run is registered once. Raises JobFailed when MLflow does not take
    it in the run's patience; the folder is as it was.
    """
    from sqlalchemy.exc import SQLAlchemyError

    check_model_name(name)
    every = {**_facts(spec), **tags, "digest": digest}
    deadline = time.monotonic() + run.patience.register
    while True:
        try:
            made = _known(run, name, digest) or _create(run, name, folder, spec, every)
            # Training never promotes: the new version challenges whichever is the champion.
            run.connected().set_registered_model_alias(name, CHALLENGER, made.version)
            return made
        except (store.mlflow().MlflowException, SQLAlchemyError, OSError) as error:
            if store.is_refusal(error) or time.monotonic() > deadline:
                run.give_up()
                what = f"the model is trained and could not be registered as {name}"
                remedy = (
                    "run the same command again when MLflow answers: it only registers; until "
                    f"then scan with --model {storage.join(folder, '')}"
                )
                raise JobFailed(f"{what}: {store.shown(brief(error))}", remedy) from error
            time.sleep(min(2.0, run.patience.register))


def _facts(spec: ModelSpec) -> dict[str, str]:
    """What a person wants to read beside a version."""
    height, width = spec.window_hw
    labels = ", ".join(spec.labels[1:])
    return {"architecture": spec.architecture, "labels": labels, "window": f"{width}x{height}"}


def _known(run: Run, name: str, digest: str) -> ModelVersion | None:
    """The version that an earlier attempt at the same registration left."""
    for found in run.connected().search_model_versions(f"name='{name}'", max_results=100):
        if found.run_id == run.run_id and found.tags.get("digest") == digest:
            return ModelVersion(name, str(found.version))
    return None


def _create(
    run: Run, name: str, folder: str, spec: ModelSpec, tags: Mapping[str, str]
) -> ModelVersion:
    from nnst import models

    mlflow, client = store.mlflow(), run.connected()
    with tempfile.TemporaryDirectory() as temporary:
        paths = packaging.write_description(temporary, run.run_id, spec, tags["digest"])
        for file in (models.WEIGHTS, models.DESCRIPTION):
            # A copy, as the folder may be one of a store.
            paths.append(os.path.join(temporary, file))
            Path(paths[-1]).write_bytes(storage.read(storage.join(folder, file)))
        for path in paths:
            client.log_artifact(run.run_id, path, FOLDER)
    try:
        client.create_registered_model(name)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{run.artifact_uri}/{FOLDER}"
    made = client.create_model_version(
        name, source, run.run_id, tags=dict(tags), await_creation_for=AWAIT_CREATION_S
    )
    return ModelVersion(name, str(made.version))
