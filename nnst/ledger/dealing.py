"""The inputs of a plan, shard by shard: each is cut out when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa


class Shards(Mapping[int, pa.Table]):
    """The inputs of each shard, by its number, in the order of the plan."""

    def __init__(self, inputs: pa.Table, rows: Mapping[int, int]) -> None:
        self._inputs = inputs
        self._places: dict[int, tuple[int, int]] = {}  # first row, and how many
        start = 0
        for number, count in rows.items():
            self._places[number] = (start, count)
            start += count

    def __getitem__(self, number: int) -> pa.Table:
        start, count = self._places[number]
        # Taken, not sliced: a slice sent to another process takes the whole table with it.
        return self._inputs.slice(start, count).take(pa.array(range(count)))

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __reversed__(self) -> Iterator[int]:
        return reversed(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def without(self, numbers: Collection[int]) -> Shards:
        """All shards but these."""
        left = Shards(self._inputs, {})
        left._places = {n: place for n, place in self._places.items() if n not in numbers}
        return left
