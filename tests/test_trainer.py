"""Who trains together: what cannot be is said at once, and nothing is waited for without end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.train.v2._internal.constants import ENABLE_PREEMPTION_WATCHER_ENV_VAR
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from nnst import storage
from nnst.errors import InputError, JobFailed
from nnst.training.settings import TrainingSettings
from workflows import trainer
from workflows.clock import Clock
from workflows.trainer import Crew, TrainerSettings, crew, listener

NOTICED = 150  # seconds within which a worker that stands still must be noticed


def test_a_worker_that_stands_still_is_given_up_in_time_by_default() -> None:
    """By its peers and by the controller; the variables are gone afterwards."""
    settings = TrainerSettings()
    before = dict(os.environ)
    with crew.variables(settings):
        for name in ("COLLECTIVE_TIMEOUT_S", "WORKER_HEALTH_CHECK_TIMEOUT_S"):
            assert 1 <= float(os.environ[f"RAY_TRAIN_{name}"]) <= NOTICED - 10
        attempts = float(os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"])
    assert dict(os.environ) == before
    assert 1 <= crew.torch_config(Crew(2, 0.0, settings)).timeout_s <= NOTICED - 10
    assert crew.torch_config(Crew(2, 1.0, settings)).backend == "nccl"
    limits = crew.run_config("/tmp", settings).failure_config
    for limit in ("max_failures", "controller_failure_limit", "max_preemption_failures"):
        assert 0 <= getattr(limits, limit) < 100, limit
    assert attempts * (limits.controller_failure_limit + 1) <= 60


def test_a_variable_of_rays_that_is_set_goes_before_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "7")
    with crew.variables(TrainerSettings()):
        assert os.environ["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] == "7"
    assert os.environ["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] == "7"


def test_only_where_there_are_other_nodes_is_their_end_watched_for() -> None:
    for nodes, expected in ((1, "0"), (3, "1")):
        with crew.variables(TrainerSettings(), nodes):
            assert os.environ[ENABLE_PREEMPTION_WATCHER_ENV_VAR] == expected


def test_ray_writes_to_any_store_that_nnst_takes() -> None:
    """To `memory://` too, of which Ray's own file systems know nothing."""
    config = crew.run_config("memory://bucket/training/ray", TrainerSettings())
    path = f"{config.storage_path}/marker"
    config.storage_filesystem.create_dir(config.storage_path)
    with config.storage_filesystem.open_output_stream(path) as stream:
        stream.write(b"there")
    assert storage.read("memory://bucket/training/ray/marker") == b"there"
    assert crew.run_config("/tmp", TrainerSettings()).storage_filesystem is None


def test_ray_is_told_how_many_workers_there_may_be() -> None:
    assert crew.scaling_config(Crew(3, 0.0)).num_workers == 3
    elastic = crew.scaling_config(Crew(3, 0.5, fewest=2))
    assert elastic.num_workers == (2, 3)
    assert elastic.resources_per_worker == {"CPU": 1.0, "GPU": 0.5}


def test_elastic_training_may_ask_for_more_than_there_is_but_not_for_more_fewest(
    cluster: str,
) -> None:
    assert trainer.world_size(1000, 0.0, fewest=1) == 1000
    with pytest.raises(InputError, match="1000 workers want 1000 CPUs"):
        trainer.world_size(2000, 0.0, fewest=1000)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            WorkerGroupError("", {0: WorkerHealthCheckFailedError("", Exception())}),
            "training failed 4 times, the last as worker 0 died (killed, crashed or out of memory)",
        ),
        (  # the word of a peer, where Ray has not noticed the death yet
            WorkerGroupError("", {1: RuntimeError("Connection closed by peer")}),
            "training failed 4 times, the last: RuntimeError: Connection closed by peer",
        ),
        (ControllerError(OSError("no space")), "training failed: OSError: no space"),
        (ControllerError(NameError("nobody")), "training failed: NameError: nobody"),
    ],
    ids=["a death", "a peer", "the controller", "the code"],
)
def test_of_a_failure_is_told_how_often_and_as_what(error: Exception, told: str) -> None:
    found = crew.failure(error, Crew(2, 0.0, TrainerSettings(failures=3)))
    assert isinstance(found, JobFailed)
    assert found.what == told
    assert ("not tried again" in found.remedy) is ("NameError" in told)


@pytest.mark.parametrize("wrong", [{"start": 0.0}, {"stall": 0.5}, {"failures": -1}])
def test_waiting_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainerSettings(**wrong)


@pytest.mark.parametrize(
    ("workers", "gpus", "told"),
    [
        (1000, 0.0, "1000 workers want 1000 CPUs, the cluster has "),
        (1, 1.0, "1 worker wants 1 GPUs, the cluster has 0"),
        (2, 0.5, "2 workers want 1 GPUs, the cluster has 0"),
        (0, 1.0, "1 worker wants 1 GPUs, the cluster has 0"),  # one a GPU, of which there is none
    ],
)
def test_more_than_the_cluster_has_is_refused_at_once(
    cluster: str, workers: int, gpus: float, told: str
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        trainer.world_size(workers, gpus)
    assert caught.value.remedy == "lower --workers or --gpus-per-worker"


@pytest.mark.parametrize(
    ("node", "gpus", "room"),
    [
        ({"CPU": 4.0}, 0.0, 4),
        ({"CPU": 4.0, "GPU": 2.0}, 1.0, 2),
        ({"CPU": 1.0, "GPU": 2.0}, 0.5, 1),
        ({"CPU": 8.0, "GPU": 1.0}, 2.0, 0),  # a worker is not spread over two nodes
        ({}, 0.0, 0),
    ],
)
def test_a_node_has_room_for_whole_workers(node: dict[str, float], gpus: float, room: int) -> None:
    assert crew._room(node, gpus) == room


@pytest.fixture
def taken(cluster: str) -> Iterator[None]:
    """All CPUs of the cluster, held by somebody else."""
    import ray

    @ray.remote(num_cpus=ray.cluster_resources()["CPU"])
    class Holder:
        def there(self) -> bool:
            return True

    holder = Holder.remote()  # type: ignore[attr-defined]
    assert ray.get(holder.there.remote(), timeout=60)
    yield
    ray.kill(holder)


@pytest.mark.slow
@pytest.mark.usefixtures("taken")
def test_cpus_that_others_keep_end_the_waiting(
    nnst: Callable[..., Any], crop_set: Path, train_flags: tuple[str, ...]
) -> None:
    started = time.monotonic()
    words = ("--name", "waiting", *train_flags, "--set", "trainer.start=4")
    done = nnst("train", crop_set, *words)
    assert done.code == 1
    assert "1 worker could not start within 4 s (1 CPUs wanted, " in done.err
    assert ", 0 free)" in done.err
    assert "when others have ended, run the same command again" in done.err
    assert time.monotonic() - started < 180  # and not for ever


# What is told of epochs


def test_every_epoch_is_told_of_again_with_the_time_that_it_had(tmp_path: Path) -> None:
    rows = [{"loss": 0.5}, {"loss": 0.25}]
    told: list[tuple[int, Any, int]] = []

    def tell(*epoch: Any) -> None:
        told.append(epoch)

    listener.write_history(str(tmp_path), rows[:1])
    with listener.Listener(str(tmp_path), tell):
        pass
    assert trainer.epochs_told(str(tmp_path)) == 1
    time.sleep(0.01)
    listener.write_history(str(tmp_path), rows)
    with listener.Listener(str(tmp_path), tell):
        pass
    first, again, second = told
    assert first == again == (0, rows[0], first[2])
    assert second[:2] == (1, rows[1])
    assert second[2] > first[2]
    trainer.tell_again(str(tmp_path), rows, tell)
    assert told[3:] == [first, second]


def test_whoever_overhears_is_told_of_every_epoch_of_every_network(tmp_path: Path) -> None:
    """Of one that is done already as of one that is at work; and of nothing afterwards."""
    rows = [{"loss": 0.5}, {"loss": 0.25}]
    listener.write_history(str(tmp_path), rows)
    heard: list[Any] = []

    def work() -> None:
        with listener.Listener(str(tmp_path), lambda *_: None):
            pass

    with trainer.overheard(heard.append):
        work()
        trainer.tell_again(str(tmp_path), rows, lambda *_: None)
    work()
    assert heard == [*rows, *rows]


def test_seconds_of_a_training_add_up_over_its_attempts(tmp_path: Path) -> None:
    kept = 0.0
    for _ in range(3):
        clock = Clock(str(tmp_path))
        time.sleep(0.01)
        assert clock.keep() >= kept + 0.01
        kept = clock.keep()


def test_whose_checkpoints_can_be_gone_on_with() -> None:
    def position(seed: int, epochs: int, steps: int, size: int) -> dict[str, int]:
        values: dict[str, Any] = dict.fromkeys(("folder", "data", "labels", "spec"))
        settings = TrainingSettings(steps=steps)
        task = trainer.FitTask(**values, settings=settings, epochs=epochs, seed=seed)
        return task.position(size)

    places = [(0, 2, 3, 1), (1, 2, 3, 1), (0, 3, 3, 1), (0, 2, 4, 1), (0, 2, 3, 2)]
    found = [position(*place) for place in places]
    assert all(one not in found[:index] for index, one in enumerate(found))
