"""What a run uses of its machine, as MLflow's system metrics: this machine's, and no worker's."""

from __future__ import annotations

import importlib
import os
from typing import Any, cast

from nnst.errors import InputError
from workflows.tracking import store

SECONDS = 10.0  # between two samples
_INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"


def check() -> None:
    """Nothing; raises InputError where usage cannot be measured."""
    try:
        importlib.import_module("psutil")
    except ImportError:
        what = "tracking.system=true wants the package psutil, which is not installed"
        raise InputError(what, "pip install psutil, or leave that setting out") from None


def watch(run_id: str, uri: str) -> Any:
    """A monitor at work until its `finish` is called; MLflow's, which samples in a thread."""
    store.mlflow()
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    interval = float(os.environ.get(_INTERVAL) or SECONDS)
    monitor: Any = cast(Any, SystemMetricsMonitor)(
        run_id, sampling_interval=interval, resume_logging=True, tracking_uri=uri
    )
    monitor.start()
    return monitor
