"""What the drills share: the set of pictures, and the job over it with nothing going wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import cloudpickle

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


@pytest.fixture(scope="module", autouse=True)
def by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Functions of the drills travel with their code, as no worker can import them."""
    modules = (ground, request.module)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)
