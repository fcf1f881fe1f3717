"""Checkpoints: all that the next epoch of a training needs, in files that prove themselves.

    FOLDER/00003/state.safetensors   weights of the network, tensors of the optimiser
    FOLDER/00003/state.json          the optimiser's plain values, the position, the history
    FOLDER/00003/DONE.json           sha256 of these two; written last

The number is that of the epochs done. Nothing in it can run code, and a checkpoint that is cut
short, lacks a file or has a changed byte is passed over for the one before.

The position says where the sampler and the schedule are: both are functions of seed, epoch, step
and rank. So is every random state: batches, hard negatives and fresh weights come from generators
made of these numbers when they are needed, and `seed_globals` makes the ones that libraries share
anew for each epoch. There is none that a checkpoint would have to hold.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nnst import storage

STATE, VALUES, DONE = "state.safetensors", "state.json", "DONE.json"
KEPT = 2  # checkpoints: one may turn out to be broken

_NETWORK, _OPTIMISER = "network.", "optimiser."


class BrokenCheckpoint(Exception):
    """A checkpoint cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a training between two epochs."""

    network: Mapping[str, Tensor]  # its state_dict
    optimiser: Mapping[str, Any]  # its state_dict
    position: Mapping[str, int]  # what tells this training's place from any other one
    history: tuple[Mapping[str, float], ...] = field(default=())  # a row for each epoch done


def write(folder: str, checkpoint: Checkpoint) -> None:
    """Write the checkpoint after as many epochs as its history has; older ones go, but one."""
    number = len(checkpoint.history)
    place = storage.join(folder, f"{number:05}")
    storage.remove(place)  # a broken one may be there
    files = {STATE: _tensors(checkpoint), VALUES: _values(checkpoint)}
    for name, data in files.items():
        storage.put(storage.join(place, name), data)
    digests = {name: storage.sha256(data) for name, data in files.items()}
    storage.put(storage.join(place, DONE), storage.to_json({"files": digests}))
    for old in numbers(folder):
        if old <= number - KEPT:
            storage.remove(storage.join(folder, f"{old:05}"))


def numbers(folder: str) -> list[int]:
    """Of the checkpoints in a folder, whole or not, from the first to the newest."""
    return sorted(int(name) for name in storage.names(folder) if name.isdecimal())


def newest(
    folder: str, position: Mapping[str, int], note: Callable[[str], None] = lambda text: None
) -> int:
    """The number of the newest checkpoint that can be used, 0 if none; `note` hears of others."""
    for number in reversed(numbers(folder)):
        try:
            read(folder, number, position)
        except BrokenCheckpoint as error:
            note(f"{error}; training went on from the one before")
        else:
            return number
    return 0


def read(folder: str, number: int, position: Mapping[str, int]) -> Checkpoint:
    """The checkpoint of this number. Raises BrokenCheckpoint unless it is whole and in place."""
    place = storage.join(folder, f"{number:05}")
    files = dict(_verified(place))
    try:
        values = json.loads(files[VALUES])
        tensors = safetensors.torch.load(files[STATE])
        found = _assembled(values, tensors)
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BrokenCheckpoint(f"{place} does not hold a checkpoint ({error})") from None
    if dict(found.position) != dict(position) or len(found.history) != number:
        raise BrokenCheckpoint(f"{place} is of another training")
    return found


def restore(
    checkpoint: Checkpoint, network: nn.Module, optimiser: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Put network and optimiser back where they were; returns a copy of the history.

    The optimiser's tensors lie in memory as its weights do, as they did before: sums are then
    taken in the same order, to the same last bit.
    """
    network.load_state_dict(dict(checkpoint.network))
    optimiser.load_state_dict(dict(checkpoint.optimiser))
    for weight, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)
    return [dict(row) for row in checkpoint.history]


def seed_globals(seed: int, epoch: int, rank: int) -> None:
    """Set the random generators that libraries share, so that an epoch does not depend on others.

    nnst draws from none of them; a layer such as dropout would.
    """
    first, second, third = np.random.SeedSequence((seed, epoch, rank)).generate_state(3).tolist()
    random.seed(first)
    np.random.seed(second)  # noqa: NPY002 - it is the shared generator that is set
    torch.manual_seed(third)  # those of all GPUs too


def _verified(place: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file that DONE.json names, checked."""
    try:
        done = json.loads(storage.read(storage.join(place, DONE)))
        digests = {name: str(done["files"][name]) for name in (STATE, VALUES)}
    except FileNotFoundError:
        raise BrokenCheckpoint(f"{place} was not written to its end") from None
    except (ValueError, KeyError, TypeError):
        raise BrokenCheckpoint(f"{DONE} in {place} is broken") from None
    for name, digest in digests.items():
        try:
            data = storage.read(storage.join(place, name))
        except FileNotFoundError:
            raise BrokenCheckpoint(f"{name} is not in {place}") from None
        if storage.sha256(data) != digest:
            what = f"{name} in {place} is not the file that {DONE} was written for"
            raise BrokenCheckpoint(what)
        yield name, data


def _tensors(checkpoint: Checkpoint) -> bytes:
    found = {f"{_NETWORK}{name}": value for name, value in checkpoint.network.items()}
    for index, state in checkpoint.optimiser["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                found[f"{_OPTIMISER}{index}.{name}"] = value
    on_cpu = {name: value.detach().to("cpu").contiguous() for name, value in found.items()}
    return safetensors.torch.save(on_cpu)


def _values(checkpoint: Checkpoint) -> bytes:
    optimiser = checkpoint.optimiser
    plain = {
        str(index): {name: value for name, value in state.items() if not isinstance(value, Tensor)}
        for index, state in optimiser["state"].items()
    }
    document = {
        "position": dict(checkpoint.position),
        "history": [dict(row) for row in checkpoint.history],
        "optimiser": {"state": plain, "param_groups": optimiser["param_groups"]},
    }
    return storage.to_json(document)


def _assembled(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    network = {
        name.removeprefix(_NETWORK): value
        for name, value in tensors.items()
        if name.startswith(_NETWORK)
    }
    state = {int(index): dict(plain) for index, plain in values["optimiser"]["state"].items()}
    for name, value in tensors.items():
        if name.startswith(_OPTIMISER):
            index, key = name.removeprefix(_OPTIMISER).split(".", 1)
            state[int(index)][key] = value
    # JSON knows no tuples, and an optimiser's settings hold no lists but that of its weights.
    groups = [
        {
            name: tuple(value) if isinstance(value, list) and name != "params" else value
            for name, value in group.items()
        }
        for group in values["optimiser"]["param_groups"]
    ]
    optimiser = {"state": state, "param_groups": groups}
    return Checkpoint(network, optimiser, values["position"], tuple(values["history"]))
