"""What is trained, as every worker is told, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnst import storage
from nnst.records import ModelSpec
from workflows.trainer.listener import Row

if TYPE_CHECKING:
    from torch import Tensor

    from nnst.training.settings import TrainingSettings
    from nnst.training.stores import CropData

CHECKPOINTS = "checkpoints"
NOTES = "notes.json"  # lines for the person, such as of a broken checkpoint


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
    elastic: bool = False  # whether it may go on with another number of workers

    @property
    def checkpoints(self) -> str:
        """The folder of its checkpoints."""
        return storage.join(self.folder, CHECKPOINTS)

    def position(self, world_size: int) -> dict[str, int]:
        """Whose checkpoints can be gone on with."""
        steps = self.settings.steps
        numbers = {"seed": self.seed, "epochs": self.epochs, "steps": steps}
        return numbers | {"world_size": 0 if self.elastic else world_size}


@dataclass(frozen=True, slots=True)
class Fitted:
    """The trained weights, as the network learns, and a row of metrics for each epoch."""

    weights: Mapping[str, Tensor]
    history: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # lines for the person


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


def write_note(folder: str, text: str) -> None:
    """Leave a line for the driver."""
    lines = [*read_notes(folder), text]
    storage.put(storage.join(folder, NOTES), storage.to_json({"notes": lines}))


def read_notes(folder: str) -> tuple[str, ...]:
    """The lines that workers left."""
    path = storage.join(folder, NOTES)
    lines = storage.read_json(path)["notes"] if storage.exists(path) else []
    return tuple(dict.fromkeys(lines))  # an attempt that came to nothing said the same
