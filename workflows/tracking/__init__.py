"""Runs and models, recorded: the only package that knows MLflow.

`store` is where the records are, `runs` writes them (`opening` makes or finds a run), `registry`
registers models and `lookup` finds them; `outbox` holds what MLflow does not take yet. Importing
them imports no MLflow.
"""

from workflows.tracking.children import end_children
from workflows.tracking.lookup import CHAMPION, ModelRef, resolve
from workflows.tracking.opening import new_mark
from workflows.tracking.registry import ModelVersion, check_model_name, register
from workflows.tracking.runs import Run, resume, start
from workflows.tracking.settings import TrackingSettings
from workflows.tracking.store import artifact_folder, database_file, shown, tracking_uri

__all__ = [
    "CHAMPION",
    "ModelRef",
    "ModelVersion",
    "Run",
    "TrackingSettings",
    "artifact_folder",
    "check_model_name",
    "database_file",
    "end_children",
    "new_mark",
    "register",
    "resolve",
    "resume",
    "shown",
    "start",
    "tracking_uri",
]
