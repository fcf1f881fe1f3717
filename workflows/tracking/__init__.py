"""Runs and models, recorded: the only package that knows MLflow.

`store` is where the records are, `runs` writes them (`opening` makes or finds a run, `usage`
watches its machine), `registry` registers models (`packaging` makes them MLflow's, `serving` is
what that loads), `lookup` finds them, `links` leads to them and `standings` tells what they have
come to; `outbox` holds what MLflow does not take yet. Importing the package imports no MLflow.
"""

from workflows.tracking.children import end_children
from workflows.tracking.links import link_model
from workflows.tracking.lookup import ModelRef, resolve
from workflows.tracking.opening import new_mark
from workflows.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    ModelVersion,
    check_model_name,
    register,
)
from workflows.tracking.runs import Run, resume, start
from workflows.tracking.settings import TrackingSettings
from workflows.tracking.standings import (
    Judgement,
    champion_version,
    experiment_of,
    judgements,
    promote,
    read_json,
    scans_by,
    tags_of,
)
from workflows.tracking.store import artifact_folder, database_file, shown, tracking_uri

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Judgement",
    "ModelRef",
    "ModelVersion",
    "Run",
    "TrackingSettings",
    "artifact_folder",
    "champion_version",
    "check_model_name",
    "database_file",
    "end_children",
    "experiment_of",
    "judgements",
    "link_model",
    "new_mark",
    "promote",
    "read_json",
    "register",
    "resolve",
    "resume",
    "scans_by",
    "shown",
    "start",
    "tags_of",
    "tracking_uri",
]
