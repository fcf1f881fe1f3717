"""The judge of a cascade: what it says of proposed boxes, and where it would have them.

Where it sees anything of a logo it looks again: a little nearer and farther, as the scout tells
sizes only to an octave, and at the box as it was moved. Views that differ err differently, so the
mean of all verdicts counts. What the mean speaks against, and what has come to rest on a better
box, is not looked at any more: the judge is most of the cost of a small picture.

N boxes, K classes (background first).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import nms, pyramid, windows
from nnst.boxes import Boxes
from nnst.models import Network
from nnst.models.networks import BOX_DELTAS
from nnst.models.scoring import ready

GREY = 128  # around a picture
BATCHES = (2, 4, 8)  # crops judged at once: from 16 on the last bits of a score differ
HEAD = 3  # last layers, whose outputs are not to be rounded
MOST_MOVE = 1.0  # of a box, in its sides and in the log of its size
HINT_ODDS = -6.0  # log-odds that may be so low for the size of the box alone
CLEAR_ODDS = 1.0  # log-odds from which on no other size is needed
OTHER_SIZES = (0.75, 1.33)  # of a box that hints at a logo
LEAST_ODDS = -4.0  # mean log-odds that are worth more looks
SAME_BOX = 0.5  # IoU above which the lesser box is not judged again
ROUNDS = (
    (0.95, 1.06),
    (1.0, 0.9, 1.12),
)  # sizes at which a box is judged again, in each round as the one before it moved it

Verdicts = tuple[NDArray[np.float32], Boxes]  # (N, K) logits, and (N, 4) boxes as moved


class Judge:
    """A judge network, asked about boxes of pictures."""

    def __init__(self, network: Network, device: str, dtype: torch.dtype) -> None:
        self.spec = network.spec
        self.network = ready(network, device, dtype, HEAD)

    def first(
        self, pictures: Sequence[pyramid.Halves], proposed: Sequence[Boxes]
    ) -> list[Verdicts]:
        """As `verdicts`; after those of all boxes those of hints at other sizes."""
        found = self.verdicts(pictures, proposed)
        resized = [
            at_sizes(boxes[hints(logits)], OTHER_SIZES)
            for boxes, (logits, _) in zip(proposed, found, strict=True)
        ]
        more = self.verdicts(pictures, resized)
        return [
            (np.concatenate([logits, others]), np.concatenate([boxes, moved]))
            for (logits, boxes), (others, moved) in zip(found, more, strict=True)
        ]

    def last(
        self, pictures: Sequence[pyramid.Halves], verdicts: Sequence[Verdicts]
    ) -> list[tuple[Verdicts, NDArray[np.int64]]]:
        """Of the rows worth more looks, best first, the mean of these verdicts and of those that
        follow, with boxes where they come to rest; and which rows they are."""
        rows = [distinct(*each) for each in verdicts]
        found = [_rows(each, kept) for each, kept in zip(verdicts, rows, strict=True)]
        count = 1
        for sizes in ROUNDS:
            seen = self.verdicts(pictures, [at_sizes(boxes, sizes) for _, boxes in found])
            for index, new in enumerate(seen):
                mean = _mean(found[index], count, new, len(sizes))
                kept = distinct(*mean)
                found[index], rows[index] = _rows(mean, kept), rows[index][kept]
            count += len(sizes)
        return list(zip(found, rows, strict=True))

    def verdicts(
        self, pictures: Sequence[pyramid.Halves], proposed: Sequence[Boxes]
    ) -> list[Verdicts]:
        """For each picture's boxes (N, K) logits, and (N, 4) where the judge would have them.

        All are judged together: a batch of crops costs little more than one crop.
        """
        hw = self.spec.window_hw
        crops = [
            picture.cut(frame, hw, GREY)
            for picture, boxes in zip(pictures, proposed, strict=True)
            for frame in boxes_.grow(boxes, self.spec.context)
        ]
        outputs = self._outputs(crops)
        labels = len(self.spec.labels)
        found = []
        for boxes in proposed:
            mine, outputs = outputs[: len(boxes)], outputs[len(boxes) :]
            moves = np.clip(mine[:, labels:], -MOST_MOVE, MOST_MOVE)
            found.append((mine[:, :labels], boxes_.move(boxes, moves)))
        return found

    def verdict(self, picture: pyramid.Halves, proposed: Boxes) -> Verdicts:
        """As `verdicts`, of one picture."""
        return self.verdicts([picture], [proposed])[0]

    def _outputs(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(N, K + 4); batches are filled up, so that they come in few shapes."""
        found = [np.zeros((0, len(self.spec.labels) + BOX_DELTAS), np.float32)]
        for start in range(0, len(crops), BATCHES[-1]):
            some = crops[start : start + BATCHES[-1]]
            size = next(size for size in BATCHES if size >= len(some))
            batch = np.zeros((size, *self.spec.window_hw, 3), np.uint8)
            batch[: len(some)] = some
            found.append(windows.score_batch(self.network, batch)[: len(some), :, 0, 0])
        return np.concatenate(found)


def best_odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) log-odds of the best label against background."""
    return np.asarray(logits[:, 1:].max(axis=1) - logits[:, 0], np.float32)


def hints(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) which first verdicts make it worth to look at the box at other sizes."""
    odds = best_odds(logits)
    return np.asarray((odds >= HINT_ODDS) & (odds < CLEAR_ODDS))


def at_sizes(boxes: Boxes, sizes: Sequence[float]) -> Boxes:
    """(sizes * N, 4) all boxes at one size, then all at the next."""
    return np.concatenate([boxes_.grow(boxes, size) for size in sizes])


def distinct(logits: NDArray[np.float32], boxes: Boxes) -> NDArray[np.int64]:
    """Indices of boxes worth more looks, best first: none too much like a better of its label."""
    odds = best_odds(logits)
    labels = 1 + logits[:, 1:].argmax(axis=1)
    index = np.flatnonzero(odds >= LEAST_ODDS)
    index = index[np.argsort(-odds[index], kind="stable")]
    return index[nms.survivors(boxes[index], labels[index], SAME_BOX)]


def _rows(verdicts: Verdicts, index: NDArray[np.int64]) -> Verdicts:
    logits, boxes = verdicts
    return logits[index], boxes[index]


def _mean(known: Verdicts, count: int, new: Verdicts, views: int) -> Verdicts:
    """The mean of `count` verdicts and of one more for each view; boxes of the last ones alone."""
    logits, moved = (_by_view(values, views) for values in new)
    total = known[0].astype(np.float64) * count + logits.sum(axis=0)
    return (total / (count + views)).astype(np.float32), moved.mean(axis=0).astype(np.float32)


def _by_view(values: NDArray[np.float32], views: int) -> NDArray[np.float64]:
    """(views, N, columns) of (views * N, columns)."""
    shape = views, len(values) // views, values.shape[1]
    return values.reshape(shape).astype(np.float64)
