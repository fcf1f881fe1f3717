"""The Ray cluster: joined or started, its doors closed, and what it has to give."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Mapping, Sequence
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
_SHUT = "0"
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": Ray listens on loopback alone
_PAUSE_S = 1.0
_WORKER_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),  # read once, when cv2 is imported
    "OPENCV_IO_MAX_IMAGE_WIDTH": "65500",
    "OPENCV_IO_MAX_IMAGE_HEIGHT": "65500",
    "OPENCV_LOG_LEVEL": "ERROR",
    "PYTHONFAULTHANDLER": "1",
    **dict.fromkeys(UNSAFE, _SHUT),  # whatever a node's own environment says
}


def start() -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine. Once a process."""
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _stay_on_loopback()
    import ray

    doors = [name for name in UNSAFE if os.environ.get(name, _SHUT) not in ("", _SHUT)]
    if doors:
        raise InputError(f"{doors[0]} lets data files run code", f"unset {doors[0]}")
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
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


def _stay_on_loopback() -> None:
    """Let a Ray that is started here listen on this machine only.

    By default its ports are open on every interface. It keeps to loopback where it has been told to
    have no other machines, as it is by default on macOS: this is the same switch.
    """
    os.environ.setdefault(LOOPBACK, "0")
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = os.environ[LOOPBACK] == "1"  # it may have been read before


def _close_token_file() -> None:
    """Let only the owner read the token that a local Ray writes with the default umask."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if token.is_file() and token.stat().st_uid == os.getuid():
        token.chmod(stat.S_IRUSR | stat.S_IWUSR)


Nodes = Sequence[Mapping[str, float]]
"""What each node has."""


def nodes() -> Nodes:
    """What each node that is alive has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def gpus_for(settings: FanoutSettings) -> float:
    """The GPUs that a shard takes, once there is a node that could do one.

    Raises InputError when there is none after `settings.wait` seconds: a shard would wait for ever.
    """
    patience = settings.wait if os.environ.get("RAY_ADDRESS") else 0.0
    began, asked = time.monotonic(), False
    while (error := shortage(nodes(), settings)) is not None:
        if time.monotonic() - began >= patience:
            raise error
        if not asked:
            _ask_for(settings)
            asked = True
        time.sleep(_PAUSE_S)
    return gpus_on(nodes(), settings)


def gpus_on(found: Nodes, settings: FanoutSettings) -> float:
    """The GPUs that a shard takes on these nodes: what is set, else one where there is one."""
    if settings.gpus is not None:
        return settings.gpus
    return 1.0 if any(node.get("GPU", 0) >= 1 for node in found) else 0.0


def shortage(found: Nodes, settings: FanoutSettings) -> InputError | None:
    """The error that says which wish no node grants; None where one grants them all."""
    most = max((node.get("CPU", 0) for node in found), default=0)
    if settings.apart > most:
        what = f"decoding apart wants {settings.apart:g} CPUs, and no node has more than {most:g}"
        return InputError(what, "lower --set fanout.apart")
    wanted = {"CPU": settings.cpus, "GPU": gpus_on(found, settings)}
    if any(all(node.get(name, 0) >= wanted[name] for name in wanted) for node in found):
        return None
    for name, count in wanted.items():
        most = max((node.get(name, 0) for node in found), default=0)
        if count > most:
            return InputError(
                f"a shard wants {count:g} {name}s, and no node of the cluster has more than "
                f"{most:g}",
                f"lower --set fanout.{name.lower()}s, or wait longer for nodes with "
                "--set fanout.wait=900",
            )
    wish = " and ".join(f"{count:g} {name}s" for name, count in wanted.items())
    return InputError(
        f"a shard wants {wish}, and no node of the cluster has both",
        "lower --set fanout.cpus or --set fanout.gpus",
    )


def _ask_for(settings: FanoutSettings) -> None:
    """Tell the autoscaler, where there is one, what kind of node is missing."""
    from ray.autoscaler.sdk import request_resources

    wanted = {"CPU": settings.cpus, "GPU": settings.gpus or 0}
    request_resources(bundles=[{name: count for name, count in wanted.items() if count}])


def slots(found: Nodes, cpus: float, gpus: float, most: int) -> int:
    """How many shards can run at once on these nodes: 1 at least, `most` at most."""
    wishes = [(name, wanted) for name, wanted in (("CPU", cpus), ("GPU", gpus)) if wanted]
    if not wishes:
        return most
    fits = sum(min(int(node.get(name, 0) / wanted) for name, wanted in wishes) for node in found)
    return max(1, min(most, fits))


def largest_memory() -> int:
    """Bytes of memory that the largest node gives: a task that wants more would wait for ever."""
    return max((int(node.get("memory", 0)) for node in nodes()), default=0)
