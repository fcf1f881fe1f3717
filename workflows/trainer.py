"""Epochs on one worker or several, with checkpoints: the only module that knows Ray Train.

Every epoch ends in a checkpoint with all that the next one needs. Batches depend on the seed, the
epoch, the step and the rank alone, so what is resumed goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnst import storage
from nnst.errors import InputError, JobFailed
from nnst.records import ModelSpec
from workflows import fanout

if TYPE_CHECKING:
    from torch import Tensor

    from nnst.training.batches import CropStore
    from nnst.training.lessons import Lesson
    from nnst.training.settings import TrainingSettings
    from nnst.training.stores import CropData

CHECKPOINT = "state.pt"  # tensors and plain values; opened with weights_only
_POLL_SECONDS = 0.5
_GLOO_SECONDS = 120
# Ray's controller asks its workers how they are, every two seconds by default. Until it asks, an
# epoch that was reported keeps them waiting, and the end of training goes unnoticed.
_HEALTH_CHECK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FitTask:
    """What every worker needs to train one network."""

    folder: str  # shared by all workers: checkpoints and history
    data: CropData
    labels: tuple[str, ...]  # of the crops; a scout has other ones
    spec: ModelSpec
    settings: TrainingSettings
    epochs: int
    seed: int
    scout: ModelSpec | None = None  # whose boxes a judge judges
    initial: str = ""  # a file of weights to begin with
    pretrained: bool = False  # or with the convolutions that nnst ships


@dataclass(frozen=True, slots=True)
class Fitted:
    """The trained weights, as the network learns, and a row of metrics for each epoch."""

    weights: Mapping[str, Tensor]
    history: tuple[Row, ...]


def world_size(workers: int, gpus_per_worker: float) -> int:
    """How many workers there will be; 0 asks for one a GPU, or one a CPU up to four.

    Raises InputError, at once, when the cluster could never run them.
    """
    import ray

    fanout.start()
    cluster = ray.cluster_resources()
    gpus = int(cluster.get("GPU", 0))
    if workers == 0:
        return int(gpus / gpus_per_worker) if gpus_per_worker else min(4, int(cluster["CPU"]))
    for name, wanted in (("CPU", workers), ("GPU", workers * gpus_per_worker)):
        if wanted > cluster.get(name, 0):
            raise InputError(
                f"{workers} workers want {wanted:g} {name}s, the cluster has "
                f"{cluster.get(name, 0):g}",
                "lower --workers or --gpus-per-worker",
            )
    return workers


def default_gpus() -> float:
    """GPUs that a worker takes when nothing is said: one, if the cluster has any."""
    import ray

    fanout.start()
    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


def fit(
    task: FitTask, workers: int, gpus_per_worker: float, on_epoch: Callable[[int, Row], None]
) -> Fitted:
    """Train, or go on where the same task was interrupted; `on_epoch(epoch, row)` hears of each.

    Raises JobFailed when training ends without a result.
    """
    import ray.train
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    os.environ.setdefault(*_HEALTH_CHECK)
    fanout.start()
    _quieten()
    resources = {"CPU": 1.0} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    trainer = TorchTrainer(
        _train,
        train_loop_config={"task": task},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=task.folder,
            # The checker sees the class of Ray's older Train, which lacks the second limit.
            failure_config=FailureConfig(max_failures=2, controller_failure_limit=3),  # type: ignore[call-arg]
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
        torch_config=TorchConfig(
            backend="nccl" if gpus_per_worker else "gloo", timeout_s=_GLOO_SECONDS
        ),
    )
    with _Listener(task.folder, on_epoch):
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise JobFailed(
                f"training failed: {_cause(error)}", "run the same command again to go on"
            ) from error
    if result.checkpoint is None:
        raise JobFailed("training ended without a checkpoint", "run it anew with --fresh")
    with result.checkpoint.as_directory() as folder:
        state = _read_state(folder)
    return Fitted(state["network"], tuple(state["history"]))


def _train(config: dict[str, Any]) -> None:
    """In a worker: every epoch that is not done."""
    import cv2
    import ray.train
    import torch
    from ray.train.torch import get_device, prepare_model

    from nnst.models import norms, pretrained
    from nnst.training import epochs
    from nnst.training.lessons import Place
    from nnst.training.stores import read_stores

    task: FitTask = config["task"]
    torch.set_num_threads(1)  # the workers are the parallelism
    cv2.setNumThreads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    context = ray.train.get_context()
    rank, device = context.get_world_rank(), str(get_device())
    stores = read_stores(task.data, task.labels)
    taught, held_out = (_lesson(task, store) for store in (stores.train, stores.validation))
    network = norms.learner(task.spec, task.seed)
    if task.initial:
        network.load_state_dict(read_weights(task.initial))
    elif task.pretrained:
        pretrained.begin(network)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = epochs.make_optimiser(network, task.settings)
    history = _restore(network, optimiser)
    wrapped = prepare_model(network, parallel_strategy_kwargs={"broadcast_buffers": False})
    for epoch in range(len(history), task.epochs):
        place = Place(task.seed, epoch, task.epochs, rank, context.get_world_size(), device)
        row = epochs.run_epoch(wrapped, optimiser, taught, task.settings, place)
        _share_statistics(network)
        if rank == 0:
            row |= epochs.validate(network, held_out)
        history.append(row)
        _report(task, rank, {"network": network, "optimiser": optimiser}, history)


def _lesson(task: FitTask, store: CropStore) -> Lesson:
    from nnst.training.lessons import JudgeLesson, WindowLesson

    if task.scout is not None:
        return JudgeLesson(task.scout, task.spec, store, task.settings)
    return WindowLesson(task.spec, store, task.settings)


def _share_statistics(network: Any) -> None:
    """Give all ranks the first one's running means, which are what a checkpoint keeps."""
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def read_weights(path: str) -> dict[str, Tensor]:
    """The weights in a file that `write_weights` wrote."""
    import safetensors.torch

    weights: dict[str, Tensor] = safetensors.torch.load(storage.read(path))
    return weights


def write_weights(path: str, weights: Mapping[str, Tensor]) -> None:
    """Write a state_dict as safetensors, whole or not at all."""
    import safetensors.torch

    whole = {name: value.contiguous() for name, value in weights.items()}
    storage.put(path, safetensors.torch.save(whole))


def _restore(network: Any, optimiser: Any) -> list[dict[str, float]]:
    """Put the last checkpoint back, if there is one; returns its history."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as folder:
        state = _read_state(folder)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return list(state["history"])


def _report(
    task: FitTask, rank: int, modules: Mapping[str, Any], history: list[dict[str, float]]
) -> None:
    """End an epoch: every rank reports, the first with the checkpoint."""
    import ray.train
    import torch

    if rank > 0:
        ray.train.report(history[-1])
        return
    with tempfile.TemporaryDirectory() as folder:
        state = {name: module.state_dict() for name, module in modules.items()}
        torch.save({**state, "history": history}, os.path.join(folder, CHECKPOINT))
        storage.put(_history_path(task.folder), json.dumps(history).encode())
        ray.train.report(history[-1], checkpoint=ray.train.Checkpoint.from_directory(folder))


def _read_state(folder: str) -> dict[str, Any]:
    import torch

    path = os.path.join(folder, CHECKPOINT)
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state


def _history_path(folder: str) -> str:
    return storage.join(folder, "history.json")


def _told_path(folder: str) -> str:
    return storage.join(folder, "told.json")


def epochs_told(folder: str) -> int:
    """Of how many epochs `fit` has told in this folder, before an interruption too."""
    path = _told_path(folder)
    return int(storage.read_json(path)) if storage.exists(path) else 0


class _Listener:
    """Tells of each epoch once, as it ends, while the driver waits for the workers."""

    def __init__(self, folder: str, on_epoch: Callable[[int, Row], None]) -> None:
        self._folder = folder
        self._on_epoch = on_epoch
        self._told = epochs_told(folder)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        path = _history_path(self._folder)
        history = storage.read_json(path) if storage.exists(path) else []
        for epoch in range(self._told, len(history)):
            self._on_epoch(epoch, history[epoch])
            self._told = epoch + 1
            storage.put(_told_path(self._folder), json.dumps(self._told).encode())


def _quieten() -> None:
    """Keep Ray Train's own chatter off stderr; what failed is raised."""
    for name in ("ray.train", "ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _cause(error: BaseException) -> str:
    """The last line of what a worker raised, not of Ray's wrapping."""
    failures = getattr(error, "worker_failures", None)
    cause = next(iter(failures.values())) if failures else (error.__cause__ or error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__
