"""The Ray cluster: joined or started, its doors closed, and what it has to give."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from nnst.errors import InputError
from workflows.fanout.settings import FanoutSettings

# ray costs a second to import: functions import it, so that help need not.

UNSAFE = (
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
    "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
    "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
    "RAY_DATA_ARROW_EXTENSION_SERIALIZATION_CLOUDPICKLE",
)
_WORKER_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),  # read once, when cv2 is imported
    "OPENCV_IO_MAX_IMAGE_WIDTH": "65500",
    "OPENCV_IO_MAX_IMAGE_HEIGHT": "65500",
    "OPENCV_LOG_LEVEL": "ERROR",
    "PYTHONFAULTHANDLER": "1",
}


def start() -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine. Once a process."""
    import ray

    doors = [name for name in UNSAFE if os.environ.get(name)]
    if doors:
        raise InputError(f"{doors[0]} lets data files run code", f"unset {doors[0]}")
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": _WORKER_ENVIRONMENT},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"cannot join the Ray cluster at {address}: {error}",
            "check RAY_ADDRESS, or unset it to work on this machine alone",
        ) from None
    # Ray prints on stdout, which is for results, that a worker died; the ledger's notes have it.
    ray._private.worker._worker_logs_enabled = False
    _close_token_file()


def _close_token_file() -> None:
    """Let only the owner read the token that a local Ray writes with the default umask."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if token.is_file() and token.stat().st_uid == os.getuid():
        token.chmod(stat.S_IRUSR | stat.S_IWUSR)


def gpus_for(settings: FanoutSettings) -> float:
    """The GPUs that a shard takes. Raises InputError when no shard could ever run."""
    import ray

    cluster = ray.cluster_resources()
    gpus = settings.gpus
    if gpus is None:
        gpus = 1.0 if cluster.get("GPU", 0) >= 1 else 0.0
    for name, wanted in (("CPU", settings.cpus), ("GPU", gpus)):
        if wanted > cluster.get(name, 0):
            raise InputError(
                f"a shard wants {wanted:g} {name}s, and the cluster has {cluster.get(name, 0):g}",
                f"lower --set fanout.{name.lower()}s",
            )
    return gpus


def slots(cpus: float, gpus: float, most: int) -> int:
    """How many shards can run at once on the cluster as it is now: 1 at least, `most` at most."""
    import ray

    cluster: Mapping[str, float] = ray.cluster_resources()
    wishes = (("CPU", cpus), ("GPU", gpus))
    shares = [int(cluster.get(name, 0) / wanted) for name, wanted in wishes if wanted]
    return max(1, min([most, *shares]))


def largest_memory() -> int:
    """Bytes of memory that the largest node gives: a task that wants more would wait for ever."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max((int(resources.get("memory", 0)) for resources in nodes), default=0)
