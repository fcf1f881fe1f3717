"""What a shard is allowed after each kind of end, how it is done then, and who gets a twin."""

from __future__ import annotations

import inspect
import itertools
import math

import pytest
import ray
from ray import exceptions

from workflows.fanout import care
from workflows.fanout.care import Care
from workflows.fanout.retries import RETRIES, Cause, Retries, cause_of
from workflows.fanout.stragglers import Stragglers

GIB = 2**30

# Every error that this Ray can end a task with, by what it is to us. What is not here is our own.
OF_A_NODE = {
    "NodeDiedError",
    "LocalRayletDiedError",
    "ObjectLostError",
    "ObjectFetchTimedOutError",
    "ReferenceCountingAssertionError",
    "ObjectFreedError",
    "OwnerDiedError",
    "ObjectReconstructionFailedError",
    "RuntimeEnvSetupError",
}
OF_A_WORKER = {
    "WorkerCrashedError",
    "RayActorError",
    "ActorDiedError",
    "ActorUnavailableError",
}
OF_MEMORY = {"OutOfMemoryError"}


def rays_errors() -> dict[str, type[Exception]]:
    found = vars(exceptions).values()
    kinds = [each for each in found if inspect.isclass(each) and issubclass(each, Exception)]
    return {kind.__name__: kind for kind in kinds}


def raised(kind: type[Exception]) -> Exception:
    """One of this kind, whatever its constructor wants."""
    return kind.__new__(kind)


@pytest.mark.parametrize("name", sorted(rays_errors()))
def test_every_error_of_ray_has_its_cause(name: str) -> None:
    expected = Cause.RAISED
    for names, cause in (
        (OF_A_NODE, Cause.NODE),
        (OF_A_WORKER, Cause.CRASH),
        (OF_MEMORY, Cause.MEMORY),
    ):
        expected = cause if name in names else expected
    assert cause_of(raised(rays_errors()[name])) == expected


def test_no_name_of_the_table_is_of_another_ray() -> None:
    assert rays_errors().keys() >= OF_A_NODE | OF_A_WORKER | OF_MEMORY


class Ours(RuntimeError):
    """An exception that no library knows."""


def as_ray_wraps(error: Exception) -> Exception:
    """What ray.get raises for an exception of a task."""
    wrapped: Exception = exceptions.RayTaskError("f", "the traceback", error).as_instanceof_cause()
    assert isinstance(wrapped, type(error))
    return wrapped


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("a bug"), Cause.RAISED),
        (Ours("another"), Cause.RAISED),
        (OSError(28, "no space left"), Cause.RAISED),
        (ConnectionError("after five tries"), Cause.RAISED),
        (MemoryError("an array"), Cause.MEMORY),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)
def test_what_the_work_raises_is_told_by_its_own_kind(error: Exception, cause: Cause) -> None:
    assert cause_of(error) == cause
    assert cause_of(as_ray_wraps(error)) == cause


def test_arrays_that_do_not_fit_are_a_want_of_memory_whoever_makes_them() -> None:
    import numpy as np
    import torch

    assert cause_of(as_ray_wraps(np._core._exceptions._ArrayMemoryError((2,), np.dtype("u1")))) == (
        Cause.MEMORY
    )
    assert cause_of(torch.OutOfMemoryError("on a GPU")) == Cause.MEMORY


# --- How often


def test_the_retries_are_those_of_the_promise() -> None:
    assert dict(RETRIES) == {
        Cause.NODE: 10,
        Cause.CRASH: 3,
        Cause.MEMORY: 2,
        Cause.RAISED: 0,
    }
    assert set(RETRIES) == set(Cause)


@pytest.mark.parametrize("cause", Cause)
def test_a_shard_gets_as_many_retries_as_its_cause_has_and_no_more(cause: Cause) -> None:
    retries = Retries()
    granted = [retries.grant(7, cause) for _ in range(RETRIES[cause] + 3)]
    assert granted == [True] * RETRIES[cause] + [False] * 3


@pytest.mark.parametrize(("spent", "asked"), list(itertools.permutations(Cause, 2)))
def test_no_cause_is_charged_to_another_nor_a_shard_for_another(spent: Cause, asked: Cause) -> None:
    retries = Retries()
    while retries.grant(0, spent):
        pass
    assert retries.grant(0, asked) == (RETRIES[asked] > 0)
    assert retries.grant(1, spent) == (RETRIES[spent] > 0)


# --- How carefully


@pytest.mark.parametrize(
    ("ends", "guarded", "gib", "split"),
    [
        ([], False, 0, 1),
        ([Cause.NODE] * 10, False, 0, 1),  # no fault of the shard: nothing changes
        ([Cause.CRASH], True, 0, 1),
        ([Cause.CRASH] * 3, True, 0, 1),
        ([Cause.MEMORY], False, 2, 2),
        ([Cause.MEMORY] * 2, False, 4, 4),
        ([Cause.CRASH, Cause.MEMORY, Cause.NODE], True, 2, 2),  # what was learnt is kept
        ([Cause.MEMORY, Cause.CRASH, Cause.MEMORY], True, 4, 4),
    ],
)
def test_a_shard_is_done_again_as_its_ends_ask_for(
    ends: list[Cause], guarded: bool, gib: int, split: int
) -> None:
    taken = Care(stall=9, decode=3)
    for cause in ends:
        taken = taken.after(cause)
    assert taken == Care(9, 3, guarded, gib * GIB, split)


def test_memory_that_was_asked_for_is_doubled() -> None:
    assert Care(memory=3 * GIB).after(Cause.MEMORY).memory == 6 * GIB


def test_the_work_may_ask_with_how_much_care_it_is_done() -> None:
    assert care.current() == Care()
    with care.taken(Care(split=2)), care.taken(Care(split=4)):
        assert care.current().split == 4
    assert care.current() == Care()


# --- Stragglers


@pytest.mark.parametrize(
    ("total", "seconds", "least", "limit"),
    [
        (8, [], 1, math.inf),
        (8, [1] * 5, 1, math.inf),  # 5 of 8 are less than three quarters
        (8, [1] * 6, 1, 3),
        (8, [1] * 6, 5, 5),  # whatever the others took, nobody is hurried
        (8, [2, 1, 3, 1, 2, 1], 1, 9),  # three times the slowest of a few
        (100, [1] * 76 + [50] * 4, 1, 3),  # but not the slowest of many
        (100, [1] * 75 + [50] * 5, 1, 150),
        (1, [], 1, math.inf),  # a single shard is never compared
        (1, [2], 1, 6),
    ],
)
def test_a_straggler_runs_three_times_as_long_as_nearly_all(
    total: int, seconds: list[float], least: float, limit: float
) -> None:
    stragglers = Stragglers(total, least)
    for each in seconds:
        stragglers.finished(each)
    assert stragglers.limit() == limit


def test_the_ray_that_is_tested_is_the_one_that_is_pinned() -> None:
    """The names above are those of this version."""
    assert ray.__version__.startswith("2.60.")
