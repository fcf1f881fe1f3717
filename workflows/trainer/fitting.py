"""The driver's part: start the workers, hear of their epochs, and take what comes of it.

Checkpoints are ours, not Ray's: its list of them is one file, written in place, and a training
whose list was cut short could never go on. Ray has a folder of its own for each attempt.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from nnst import storage
from nnst.errors import JobFailed
from workflows import fanout
from workflows.trainer import crew as crews
from workflows.trainer import rank
from workflows.trainer.crew import Crew
from workflows.trainer.listener import Listener, Told
from workflows.trainer.task import FitTask, Fitted, read_notes


def fit(task: FitTask, crew: Crew, on_epoch: Told) -> Fitted:
    """Train, or go on where the same task was interrupted; `on_epoch` hears of every epoch.

    Raises JobFailed when training ends without a result.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    from nnst.training import checkpoints

    fanout.start()
    _quieten()
    attempts = storage.join(task.folder, "ray")
    alive = sum(node["Alive"] for node in ray.nodes())
    with crews.variables(crew.settings, alive), Listener(task.folder, on_epoch):
        trainer = TorchTrainer(
            rank.train,
            train_loop_config={"task": task},
            scaling_config=crews.scaling_config(crew),
            run_config=crews.run_config(attempts, crew.settings),
            torch_config=crews.torch_config(crew),
        )
        try:
            interruptible(trainer.fit)
        except ray.train.TrainingFailedError as error:
            raise crews.failure(error, crew) from error
        finally:
            storage.sweep(attempts)  # a worker that is on its way out may write there yet
    place, position = task.checkpoints, task.position(crew.workers)
    if checkpoints.newest(place, position) < task.epochs:
        raise JobFailed("the last checkpoint is broken", "run the same command again to go on")
    final = checkpoints.read(place, task.epochs, position)
    return Fitted(final.network, final.history, read_notes(task.folder))


def interruptible(work: Callable[[], object]) -> None:
    """Do the work in a thread of its own: in the main one Ray takes ctrl-C for itself."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _quieten() -> None:
    """Keep Ray Train's own chatter off stderr; what failed is raised."""
    for name in ("ray.train", "ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
