"""Checkpoints: they give back all that was written, to the last bit, or are passed over."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnst.training import checkpoints
from nnst.training.checkpoints import BrokenCheckpoint, Checkpoint

POSITION = {"seed": 3, "epochs": 9, "steps": 5, "world_size": 2}


def network_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 3))
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def optimiser_of(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)


def step(network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """One update, by pictures and by dropout of the generators that libraries share."""
    pictures = nn.functional.dropout(torch.randn(4, 3, 12, 12))
    scale = random.random() + np.random.random()  # noqa: NPY002 - the shared one is meant
    optimiser.zero_grad()
    (network(pictures) * scale).square().mean().backward()
    optimiser.step()


def epoch(number: int, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    checkpoints.seed_globals(0, number, 0)
    for _ in range(3):
        step(network, optimiser)


def write(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
    rows = tuple({"loss": 1 / (row + 3), "nothing": float("inf")} for row in range(count))
    state = Checkpoint(network.state_dict(), optimiser.state_dict(), POSITION, rows)
    checkpoints.write(str(folder), state)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder with two checkpoints, after one epoch and after two."""
    network = network_of(0)
    optimiser = optimiser_of(network)
    for number in range(2):
        epoch(number, network, optimiser)
        write(tmp_path, network, optimiser, number + 1)
    return tmp_path


def same(one: Any, other: Any) -> bool:
    """Whether two state_dicts are the same, tensors to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.stride() == other.stride()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other))
    return bool(one == other)


def test_what_is_restored_is_what_was_written_and_goes_on_as_that_does(tmp_path: Path) -> None:
    """Tensors lie in memory as they did, and no state of a random generator is missing."""
    network = network_of(0)
    optimiser = optimiser_of(network)
    epoch(0, network, optimiser)
    write(tmp_path, network, optimiser, 1)
    other = network_of(1)
    resumed = optimiser_of(other)
    kept = checkpoints.read(str(tmp_path), 1, POSITION)
    history = checkpoints.restore(kept, other, resumed)
    assert history == [{"loss": 1 / 3, "nothing": float("inf")}]
    assert same(other.state_dict(), network.state_dict())
    assert same(resumed.state_dict(), optimiser.state_dict())
    random.random()  # whatever another process has drawn before
    torch.rand(7)
    epoch(1, other, resumed)
    epoch(1, network, optimiser)
    assert same(other.state_dict(), network.state_dict())
    assert same(resumed.state_dict(), optimiser.state_dict())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    network = network_of(0)
    for count in range(1, 6):
        write(tmp_path, network, optimiser_of(network), count)
    assert checkpoints.numbers(str(tmp_path)) == [4, 5]
    assert checkpoints.newest(str(tmp_path), POSITION) == 5
    assert checkpoints.newest(str(tmp_path / "none"), POSITION) == 0


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


FAULTS: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "cut short": cut,
    "a byte changed": flip,
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", [checkpoints.STATE, checkpoints.VALUES, checkpoints.DONE])
def test_a_broken_checkpoint_is_passed_over_with_a_note(
    name: str, fault: str, written: Path
) -> None:
    FAULTS[fault](written / "00002" / name)
    notes: list[str] = []
    assert checkpoints.newest(str(written), POSITION, notes.append) == 1
    (note,) = notes
    assert str(written / "00002") in note
    assert note.endswith("; training went on from the one before")
    with pytest.raises(BrokenCheckpoint):
        checkpoints.read(str(written), 2, POSITION)


def test_where_every_checkpoint_is_broken_there_is_none(written: Path) -> None:
    for number in (1, 2):
        flip(written / f"0000{number}" / checkpoints.STATE)
    notes: list[str] = []
    assert checkpoints.newest(str(written), POSITION, notes.append) == 0
    assert len(notes) == 2


def test_a_broken_checkpoint_is_replaced_when_its_epoch_is_done_again(written: Path) -> None:
    (written / "00002" / checkpoints.DONE).unlink()
    (written / "00002" / "left over").write_bytes(b"x")
    network = network_of(0)
    write(written, network, optimiser_of(network), 2)
    assert checkpoints.newest(str(written), POSITION) == 2
    assert not (written / "00002" / "left over").exists()


@pytest.mark.parametrize("name", POSITION)
def test_the_checkpoint_of_another_training_is_not_gone_on_with(name: str, written: Path) -> None:
    with pytest.raises(BrokenCheckpoint, match="of another training"):
        checkpoints.read(str(written), 2, POSITION | {name: 7})


def test_a_pickle_in_place_of_the_tensors_is_refused_and_runs_nothing(
    written: Path, tmp_path: Path
) -> None:
    """With a right digest too: whoever can write there can write that as well."""
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (canary,)

    place = written / "00002"
    sink = io.BytesIO()
    torch.save({"network": Bomb()}, sink)
    for bomb in (pickle.dumps(Bomb()), sink.getvalue()):
        (place / checkpoints.STATE).write_bytes(bomb)
        done = json.loads((place / checkpoints.DONE).read_text())
        done["files"][checkpoints.STATE] = hashlib.sha256(bomb).hexdigest()
        (place / checkpoints.DONE).write_text(json.dumps(done))
        with pytest.raises(BrokenCheckpoint, match="does not hold a checkpoint"):
            checkpoints.read(str(written), 2, POSITION)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert canary.exists()  # the bomb is one


def test_the_shared_generators_depend_on_seed_epoch_and_rank() -> None:
    def drawn(*place: int) -> tuple[float, float, float]:
        checkpoints.seed_globals(*place)
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    found = [drawn(*place) for place in places]
    for one in zip(*found, strict=True):
        assert len(set(one)) == 4
    assert [drawn(*place) for place in places] == found
