"""Near-duplicate pictures as groups, and a split between training and validation that keeps them
together: pictures that look alike on both sides would make a model look better than it is."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

NEAR_DUPLICATE_BITS = 6  # of the 64 of a perceptual hash


def near_duplicate_groups(image_ids: Sequence[str], hashes: Sequence[int]) -> list[str]:
    """For each picture the least image id of its group.

    Pictures are joined, directly or through others, by perceptual hashes that differ in at most
    NEAR_DUPLICATE_BITS bits; the same content has the same hash.
    """
    words, places = np.unique(np.array(hashes, dtype=np.uint64), return_inverse=True)
    parents = list(range(len(words)))
    for one, others in _near(words):
        for other in others:
            parents[_root(parents, other)] = _root(parents, one)
    groups = [_root(parents, place) for place in places.tolist()]
    least: dict[int, str] = {}
    for group, image_id in zip(groups, image_ids, strict=True):
        least[group] = min(image_id, least.get(group, image_id))
    return [least[group] for group in groups]


def _near(words: NDArray[np.uint64]) -> Iterator[tuple[int, list[int]]]:
    """(index, further indices) of distinct hashes that are near, each pair at least once.

    Hashes that differ in at most NEAR_DUPLICATE_BITS bits have one of NEAR_DUPLICATE_BITS + 1 bands
    in common, so only those that share a band are compared: a hundredth of all pairs.
    """
    edges = np.linspace(0, 64, NEAR_DUPLICATE_BITS + 2).astype(int)
    for low, high in itertools.pairwise(edges.tolist()):
        band = (words >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order])) + 1
        for members in np.split(order, starts):
            bucket = words[members]
            for index in range(len(members) - 1):
                near = np.bitwise_count(bucket[index + 1 :] ^ bucket[index]) <= NEAR_DUPLICATE_BITS
                if near.any():
                    yield int(members[index]), members[index + 1 :][near].tolist()


def _root(parents: list[int], index: int) -> int:
    """The one that stands for a group; the way to it is halved as it is gone."""
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def split_groups(groups: Sequence[str], validation_share: float) -> dict[str, str]:
    """For each group "train" or "validation", by the hash of its name.

    So a picture stays where it is when others are added, unless they are its near duplicates, or
    one of the sides was empty but for this: with two groups or more each side gets at least one.
    With one group, all is for training.
    """
    places = {group: _place(group) for group in sorted(set(groups))}
    if len(places) < 2:
        return dict.fromkeys(places, "train")
    split = {group: side_of(group, validation_share) for group in places}
    if "validation" not in split.values():
        split[min(places, key=lambda group: places[group])] = "validation"
    if "train" not in split.values():
        split[max(places, key=lambda group: places[group])] = "train"
    return split


def split_beside(
    groups: Sequence[str], sides: Sequence[str | None], validation_share: float
) -> dict[str, str]:
    """As `split_groups`, where some pictures have their side already, in another crop set: their
    near duplicates go with them. None: the side is open."""
    settled = {group: side for group, side in zip(groups, sides, strict=True) if side}
    return {group: settled.get(group) or side_of(group, validation_share) for group in set(groups)}


def side_of(group: str, validation_share: float) -> str:
    """The side of one group by itself: for pictures so many that no side can stay empty."""
    return "validation" if _place(group) < validation_share else "train"


def _place(group: str) -> float:
    """A number in [0, 1) that depends on the group's name only."""
    return seed_of(group, 0) / 2**64


def seed_of(text: str, seed: int) -> int:
    """A 64-bit number that depends on the text and the seed only."""
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
