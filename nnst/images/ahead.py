"""Decoding ahead: threads decode what is wanted next while pictures are looked at.

A decoder gives the interpreter free, so that the other CPUs keep a GPU fed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from nnst.images.decoding import Picture
from nnst.images.guarding import decode

Item = TypeVar("Item")
Decoded = Callable[[], Picture]
"""Gives the picture, once it is decoded; raises ImageError."""


@contextmanager
def decoders(count: int, reduction: int) -> Iterator[Callable[[bytes], Decoded]]:
    """Inside, what is given bytes begins to decode them in one of so many threads.

    With one, nothing is begun before it is wanted.
    """
    if count <= 1:
        yield lambda data: partial(decode, data, reduction=reduction)
        return
    with ThreadPoolExecutor(count) as pool:
        yield lambda data: pool.submit(decode, data, reduction=reduction).result


def ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The items, so many of them taken before they are wanted; with one, none."""
    held: deque[Item] = deque()
    for item in items:
        held.append(item)
        if count <= 1 or len(held) > count:
            yield held.popleft()
    yield from held
