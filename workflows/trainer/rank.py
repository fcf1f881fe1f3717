"""In a worker: the epochs that are not done, each with a checkpoint at its end.

Batches depend on the seed, the epoch, the step and the rank alone, so what is resumed goes on as if
nothing had happened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workflows.trainer.listener import write_history
from workflows.trainer.task import FitTask, read_weights, write_note

if TYPE_CHECKING:
    from nnst.training.batches import CropStore
    from nnst.training.lessons import Lesson


def train(config: dict[str, Any]) -> None:
    """Take every epoch that is not done."""
    import cv2
    import ray.train
    import torch
    from ray.train.torch import get_device, prepare_model

    from nnst.training import checkpoints, epochs
    from nnst.training.checkpoints import Checkpoint
    from nnst.training.lessons import Place
    from nnst.training.stores import read_stores

    task: FitTask = config["task"]
    torch.set_num_threads(1)  # the workers are the parallelism
    cv2.setNumThreads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    context = ray.train.get_context()
    rank, size, device = context.get_world_rank(), context.get_world_size(), str(get_device())
    stores = read_stores(task.data, task.labels)
    taught, held_out = (_lesson(task, store) for store in (stores.train, stores.validation))
    network = _learner(task).to(device, memory_format=torch.channels_last)
    optimiser = epochs.make_optimiser(network, task.settings)
    position = task.position(size)
    history = _restore(task, position, network, optimiser)
    if rank == 0:
        write_history(task.folder, history)  # a kill may have come between checkpoint and this
    for epoch in range(len(history), task.epochs):
        checkpoints.seed_globals(task.seed, epoch, rank)
        # Wrapped anew, as gradients are summed in an order that the wrapping learns in its first
        # step: else an epoch after an interruption would end in other last bits.
        wrapped = prepare_model(network, parallel_strategy_kwargs={"broadcast_buffers": False})
        here = Place(task.seed, epoch, task.epochs, rank, size, device)
        row = epochs.run_epoch(wrapped, optimiser, taught, task.settings, here)
        _share_statistics(network)
        if rank == 0:
            history.append(row | epochs.validate(network, held_out))
            state = Checkpoint(
                network.state_dict(), optimiser.state_dict(), position, tuple(history)
            )
            checkpoints.write(task.checkpoints, state)
            write_history(task.folder, history)


def _learner(task: FitTask) -> Any:
    """The network as it begins."""
    from nnst.models import norms, pretrained

    network = norms.learner(task.spec, task.seed)
    if task.initial:
        network.load_state_dict(read_weights(task.initial))
    elif task.pretrained:
        pretrained.begin(network)
    return network


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


def _restore(
    task: FitTask, position: Mapping[str, int], network: Any, optimiser: Any
) -> list[dict[str, float]]:
    """Put the newest whole checkpoint back, if there is one; returns its history.

    The first rank chooses, so that all begin with the same epoch.
    """
    import torch
    import torch.distributed as dist

    from nnst.training import checkpoints

    place = task.checkpoints
    many = dist.is_initialized() and dist.get_world_size() > 1
    number = 0
    if not many or dist.get_rank() == 0:
        number = checkpoints.newest(place, position, lambda text: write_note(task.folder, text))
    if many:
        chosen = torch.tensor([number], device=next(network.parameters()).device)
        dist.broadcast(chosen, src=0)
        number = int(chosen.item())
    if not number:
        return []
    return checkpoints.restore(checkpoints.read(place, number, position), network, optimiser)
