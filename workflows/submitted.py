"""Whether this process is the driver of a submitted job, whose folder is a copy that gets lost."""

from __future__ import annotations

import os


def inside() -> bool:
    """Whether it is: Ray sets this variable for the driver of a submitted job."""
    return "job_submission_id" in os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")


def lost_folder() -> str:
    """Why the current folder does not last; empty where it does."""
    return "a submitted job's folder is a copy that is lost with it" if inside() else ""
