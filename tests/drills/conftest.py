"""What the drills share: the set of pictures, and the job over it with nothing going wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from nnst.ledger import Ledger
from tests.drills import ground


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the set."""
    folder = tmp_path_factory.mktemp("drill")
    ground.make_pictures(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of reading them all, one shard after the other."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    opened = ground.book(out, pictures)
    ground.do_here(opened, ground.reading(opened))
    return out


@pytest.fixture(scope="session")
def words(pictures: Path, mark_model: str) -> tuple[object, ...]:
    """The scan of the set, but for its output folder; a part of the set is bad, which is no error.

    Of many levels, so that it takes a while.
    """
    sets = ("--set", "levels_per_octave=8", "--max-bad", "1")
    return ("scan", pictures, "--model", mark_model, *sets, "--out")


@pytest.fixture(scope="session")
def scanned(
    nnst: Callable[..., Any], words: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The scan by two workers with nothing going wrong."""
    out = tmp_path_factory.mktemp("scanned") / "out"
    assert nnst(*words, out, *ground.workers(2)).code == 0
    assert Ledger.open(str(out)).totals()["rows_in"] == ground.PICTURES
    return out


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Functions of the drills travel with their code, as no worker can import them."""
    modules = (ground, request.module)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)
