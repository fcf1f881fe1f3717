"""Epochs on one worker or several, with checkpoints: the only package that knows Ray Train.

`crew` is who trains together and how long it is waited for, `task` what they are told, `rank` what
each of them does, `fitting` the driver's part, and `listener` how it hears of the epochs. Importing
them imports neither Ray nor torch.
"""

from workflows.trainer.crew import Crew, TrainerSettings, crews_at_once, default_gpus, world_size
from workflows.trainer.fitting import fit, interruptible
from workflows.trainer.listener import Row, Told, epochs_told, overheard, tell_again
from workflows.trainer.task import FitTask, Fitted, read_weights, write_weights

__all__ = [
    "Crew",
    "FitTask",
    "Fitted",
    "Row",
    "Told",
    "TrainerSettings",
    "crews_at_once",
    "default_gpus",
    "epochs_told",
    "fit",
    "interruptible",
    "overheard",
    "read_weights",
    "tell_again",
    "world_size",
    "write_weights",
]
