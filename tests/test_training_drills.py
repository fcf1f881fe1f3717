"""Training drills: whatever becomes of a rank, training ends, in the same weights.

Two ranks learn a drawn mark, with a loss that also hangs on the random generators which libraries
share. A rank does to itself, at a step, what a machine would do to it. The large form
(`NNST_DRILL=10000 pytest -m drill`) has one stand still for as long as is waited by default, and
three ranks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle

from nnst.errors import JobFailed
from nnst.records import ModelSpec
from nnst.training import checkpoints
from nnst.training.settings import TrainingSettings
from nnst.training.stores import CropData
from workflows import trainer
from workflows.trainer import Crew, FitTask, Fitted, TrainerSettings, rank

ROOT = Path(__file__).resolve().parents[1]
LARGE = int(os.environ.get("NNST_DRILL", "1000")) >= 10_000
SLACK_S = 30.0  # on a machine with much else to do
STEPS, EPOCHS = 6, 4
KILLS = (3, 11, 17)  # of the 24 steps: in the midst of the first epoch and at the ends of two
SPEC = ModelSpec("lenet", ("background", "mark"), (20, 32), 4, widths=(6, 8, 12), context=1.15)
QUICK = TrainingSettings(steps=STEPS, logos=8, background=8)

pytestmark = [pytest.mark.drill, pytest.mark.slow]

Fault = Callable[[int, int, Path], None]  # what a rank does to itself at a step; a folder of marks
Weights = Mapping[str, torch.Tensor]


def none(number: int, at: int, marks: Path) -> None:
    """Nothing."""


def killed(number: int, at: int, marks: Path) -> None:
    """Rank 1 is killed at each of three steps, once."""
    mark = marks / f"killed-{at}"
    if number == 1 and at in KILLS and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def killed_once(number: int, at: int, marks: Path) -> None:
    """Rank 2 is killed at one step, once."""
    mark = marks / "killed"
    if number == 2 and at == 8 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def stopped(number: int, at: int, marks: Path) -> None:
    """Rank 1 is stopped for ever, once."""
    mark = marks / "stopped"
    if number == 1 and at == 9 and not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)


def always_killed(number: int, at: int, marks: Path) -> None:
    """Rank 0 is killed at the same step of every attempt."""
    if number == 0 and at == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def faulty(number: int, at: int, marks: Path) -> None:
    """Rank 1 meets a fault of the code."""
    if number == 1 and at == 2:
        raise KeyError("no such label")


def disturbed(fault: Fault, marks: Path) -> Callable[[dict[str, Any]], None]:
    """What a worker does, with the fault."""
    plain_train = rank.train

    def train(config: dict[str, Any]) -> None:
        import random

        import numpy as np
        import ray.train
        import torch

        from nnst.training.lessons import WindowLesson

        number = ray.train.get_context().get_world_rank()
        (marks / f"begun-{number}-{time.time()}").touch()
        plain = WindowLesson.losses

        def losses(self: Any, network: Any, place: Any, step: int) -> Any:
            fault(place.rank, STEPS * place.epoch + step, marks)
            drawn = random.random() + float(np.random.random()) + float(torch.rand(()))  # noqa: NPY002
            parts = plain(self, network, place, step)
            return {name: part * (1 + drawn) for name, part in parts.items()}

        WindowLesson.losses = losses  # type: ignore[method-assign]
        try:
            plain_train(config)
        except BaseException:
            (marks / f"failed-{number}-{time.time()}").touch()
            raise

    return train


def times(marks: Path, what: str) -> list[float]:
    """When it happened, from the first to the last."""
    return sorted(float(path.name.rpartition("-")[2]) for path in marks.glob(f"{what}-*"))


def begun(marks: Path) -> list[float]:
    """When each attempt of rank 1 began."""
    return times(marks, "begun-1")


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Functions of this file travel with their code."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def learnt(
    crop_set: Path,
    folder: Path,
    fault: Fault = none,
    settings: TrainerSettings | None = None,
    workers: int = 2,
    fewest: int = 0,
) -> Fitted:
    """What is learnt in a folder, with a fault."""
    marks = folder / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    task = FitTask(
        folder=str(folder / "fit"),
        data=CropData((str(crop_set),)),
        labels=SPEC.labels,
        spec=SPEC,
        settings=QUICK,
        epochs=EPOCHS,
        seed=0,
        elastic=fewest > 0,
    )
    crew = Crew(workers, 0.0, settings or TrainerSettings(), fewest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank, "train", disturbed(fault, marks))
        return trainer.fit(task, crew, lambda *_: None)


Learn = Callable[..., Fitted]


@pytest.fixture(scope="module")
def learn(cluster: str, crop_set: Path) -> Learn:
    """Trains on two ranks: learn(folder, fault, settings)."""
    import ray

    if ray.cluster_resources()["CPU"] < 2:
        pytest.skip("two ranks need two CPUs")
    return partial(learnt, crop_set)


@pytest.fixture(scope="module")
def undisturbed(learn: Learn, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fitted]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, learn(folder)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_rank_killed_at_three_steps_changes_no_bit(
    learn: Learn, undisturbed: tuple[Path, Fitted], tmp_path: Path
) -> None:
    _, expected = undisturbed
    found = learn(tmp_path, killed)
    assert {path.name for path in (tmp_path / "marks").glob("killed-*")} == {
        f"killed-{at}" for at in KILLS
    }
    assert len(begun(tmp_path / "marks")) == 1 + len(KILLS)
    assert same(found.weights, expected.weights)
    assert found.history == expected.history


@pytest.mark.usefixtures("idle")
def test_elastic_training_begins_with_the_workers_there_are_and_goes_on_whoever_trained_before(
    learn: Learn, undisturbed: tuple[Path, Fitted], cluster: str, tmp_path: Path
) -> None:
    """One more than there are CPUs is asked for, and an epoch is missing."""
    import ray

    folder, expected = undisturbed
    position = {"seed": 0, "epochs": EPOCHS, "steps": STEPS}
    old = checkpoints.read(
        str(folder / "fit" / "checkpoints"), EPOCHS - 1, position | {"world_size": 2}
    )
    checkpoints.write(
        str(tmp_path / "fit" / "checkpoints"), replace(old, position=position | {"world_size": 0})
    )
    cpus = int(ray.cluster_resources()["CPU"])
    found = learn(tmp_path, workers=cpus + 1, fewest=1)
    ranks = {path.name.split("-")[1] for path in (tmp_path / "marks").glob("begun-*")}
    assert ranks == {str(number) for number in range(cpus)}
    assert found.history[:-1] == expected.history[:-1]  # nothing is learnt twice
    assert len(found.history) == EPOCHS


def three_ranks(crop_set: str, folder: str) -> None:
    """In a process with a Ray of its own: three ranks, undisturbed and with one killed."""
    import ray

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=3, log_to_driver=False, logging_level="ERROR")
    names = {"plain": none, "killed": killed_once}
    found = {
        name: learnt(Path(crop_set), Path(folder, name), fault, workers=3)
        for name, fault in names.items()
    }
    assert len(begun(Path(folder, "killed", "marks"))) == 2
    print(same(found["plain"].weights, found["killed"].weights))


@pytest.mark.skipif(not LARGE, reason="a minute for one more rank; NNST_DRILL=10000 runs it")
def test_nor_does_it_where_three_ranks_sum_their_gradients_in_some_order(
    crop_set: Path, tmp_path: Path
) -> None:
    """Of two numbers the order does not matter; torch learns a new one in its first step."""
    code = f"import sys; from {__name__} import three_ranks; three_ranks(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(crop_set), str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.stdout.split()[-1:] == ["True"], done.stderr  # Ray has its say before


def test_a_rank_that_stands_still_is_noticed_and_changes_no_bit(
    learn: Learn, undisturbed: tuple[Path, Fitted], tmp_path: Path
) -> None:
    """The large form waits as long as it is waited by default."""
    _, expected = undisturbed
    settings = TrainerSettings() if LARGE else TrainerSettings(stall=8)
    found = learn(tmp_path, stopped, settings)
    marks = tmp_path / "marks"
    first, second = begun(marks)
    stood = (marks / "stopped").stat().st_mtime
    noticed = min([*times(marks, "failed-0"), second])  # its peer heard no word, or Ray did not
    assert first < stood < noticed < stood + settings.stall + SLACK_S
    assert settings.stall + SLACK_S <= 150
    assert same(found.weights, expected.weights)
    pid = int((marks / "stopped").read_text())
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Whether a process is there, also when it is stopped; a zombie is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_workers_that_always_die_are_given_up(learn: Learn, tmp_path: Path) -> None:
    told = (
        r"failed 2 times, the last( as worker 0 died|: RuntimeError).*again"  # or its peer says so
    )
    with pytest.raises(JobFailed, match=told):
        learn(tmp_path, always_killed, TrainerSettings(failures=1))
    assert len(begun(tmp_path / "marks")) == 2


def test_a_fault_of_the_code_is_not_tried_again(learn: Learn, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"KeyError: 'no such label'; it was not tried again"):
        learn(tmp_path, faulty)
    assert len(begun(tmp_path / "marks")) == 1


def test_a_broken_checkpoint_and_rays_own_list_cut_short_stop_nothing(
    learn: Learn, undisturbed: tuple[Path, Fitted]
) -> None:
    """There is no such list, and one that lies there is not looked at."""
    folder, expected = undisturbed
    assert list(folder.rglob("checkpoint_manager_snapshot.json")) == []
    for place in (folder / "fit" / "checkpoints", folder / "fit" / "ray" / "old"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "checkpoint_manager_snapshot.json").write_text('{"ray_version": "2.6')
    state = folder / "fit" / "checkpoints" / f"{EPOCHS:05}" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    before = len(begun(folder / "marks"))
    found = learn(folder)
    assert len(begun(folder / "marks")) == before + 1
    assert same(found.weights, expected.weights)
    assert found.history == expected.history
    (note,) = found.notes
    assert f"state.safetensors in {state.parent} is not the file" in note
