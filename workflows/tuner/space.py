"""Which settings are tried, and with which values: a space, and points drawn from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnst import config
from nnst.errors import ConfigError

DIGITS = 3  # of a number that is drawn: no more decide anything, and people have to type them

Point = Mapping[str, Any]  # value by the dotted name of its setting


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that a setting can take: some choices, or all from low to high."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False  # whether each tenfold counts the same
    whole: bool = False  # whether only whole numbers

    def draw(self, rng: np.random.Generator) -> Any:
        """A value, evenly."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.whole and not self.log:
            return int(rng.integers(round(self.low), round(self.high) + 1))
        low, high = (math.log(side) if self.log else side for side in (self.low, self.high))
        value = float(rng.uniform(low, high))
        value = min(max(math.exp(value) if self.log else value, self.low), self.high)
        return round(value) if self.whole else float(f"{value:.{DIGITS}g}")


Space = Mapping[str, Domain]

DEFAULT_SPACE: Space = {
    "training.learning_rate": Domain(low=5e-4, high=8e-3, log=True),
    "training.weight_decay": Domain(low=1e-4, high=1e-2, log=True),
    "training.hardest": Domain(low=0.02, high=0.2, log=True),
    "training.strays": Domain(low=0.0, high=0.5),
    "training.augment.rotate": Domain(low=0.0, high=15.0),
    "training.augment.perspective": Domain(low=0.0, high=0.12),
    "training.augment.paste": Domain(low=0.0, high=0.6),
}


def read_space(path: str) -> Space:
    """The space in a TOML file. Raises ConfigError for what is none.

    training.learning_rate = {low = 5e-4, high = 8e-3, log = true}
    training.steps = [40, 60, 90]
    """
    found = dict(_domains(config.read(path), "", path))
    if not found:
        raise ConfigError(f"{path} names no setting", "write NAME = {low = 1, high = 9}, or [1, 9]")
    return found


def points(space: Space, count: int, seed: int) -> list[Point]:
    """So many points, of which the first changes nothing: the settings as they are.

    Each depends on the seed and its number alone, so that more trials begin with the same ones.
    """
    return [{} if number == 0 else _point(space, (seed, number)) for number in range(count)]


def _point(space: Space, seed: tuple[int, int]) -> Point:
    rng = np.random.default_rng(seed)
    return {name: space[name].draw(rng) for name in sorted(space)}


def _domains(values: Mapping[str, Any], above: str, path: str) -> Iterator[tuple[str, Domain]]:
    """Name and domain of each setting in nested tables."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and not {"low", "high", "choices"} & value.keys():
            yield from _domains(value, f"{name}.", path)
        else:
            yield name, _domain(name, value, path)


def _domain(name: str, value: Any, path: str) -> Domain:
    where = f"{name} in {path}"
    if isinstance(value, Mapping) and "choices" not in value:
        domain = config.build(Domain, value, where)
        _check_ends(domain, value, where)
        return domain
    choices: Sequence[Any] = value["choices"] if isinstance(value, Mapping) else value
    if not isinstance(choices, list) or not choices:
        raise ConfigError(f"{where} has no values", "write {low = 1, high = 9}, or [1, 9]")
    return Domain(choices=tuple(choices))


def _check_ends(domain: Domain, value: Mapping[str, Any], where: str) -> None:
    if not {"low", "high"} <= value.keys() or domain.low >= domain.high:
        raise ConfigError(f"{where} needs a low that is less than its high")
    if domain.log and domain.low <= 0:
        raise ConfigError(f"{where} needs a low above 0, as log is set")
