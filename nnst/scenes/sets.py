"""Folders of drawn pictures: some to learn a logo from, and some to search for it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nnst import images, imglab, storage
from nnst.scenes.artwork import OURS
from nnst.scenes.drawing import OTHER, Scene, draw
from nnst.scenes.photographs import TO_LEARN_FROM, TO_SEARCH, photographs

COMMENT = "a made-up word mark, drawn into photographs"


@dataclass(frozen=True, slots=True)
class PictureSet:
    """What a folder of pictures shows. Counts in `marks` are of our mark and of others, for each
    next picture; with no divisor in common, every photograph gets each of them."""

    folder: str
    truth: str  # the XML file that has the boxes; "" when the folder says all
    labels: tuple[str, ...]  # whose boxes it has
    photographs: tuple[str, ...]
    marks: tuple[tuple[int, int], ...]


SETS = (
    PictureSet(
        folder="scenes",
        truth="scenes/truth.xml",
        labels=(OURS.name, OTHER),
        photographs=TO_LEARN_FROM,
        marks=((1, 1), (1, 0), (2, 1), (1, 1), (1, 2)),
    ),
    PictureSet(
        folder="background",
        truth="",
        labels=(),
        photographs=TO_LEARN_FROM,
        marks=((0, 0), (0, 1), (0, 2), (0, 0), (0, 1)),
    ),
    PictureSet(
        folder="archive",
        truth="truth.xml",  # outside, so that the archive is nothing but pictures
        labels=(OURS.name,),
        photographs=TO_SEARCH,
        marks=((1, 0), (0, 1), (1, 1), (0, 0), (2, 0), (0, 1), (1, 1)),
    ),
)


def write(out: str, chosen: PictureSet, count: int, seed: int) -> Iterator[str]:
    """Write so many pictures below `out`, giving each one's name, and their truth at the end.

    A picture depends on its set, its number and the seed, and not on how many there are.
    """
    entries = []
    for name, scene in _drawn(chosen, count, seed):
        data = images.encode_jpeg(scene.pixels, scene.quality)
        storage.put(storage.join(out, chosen.folder, name), data)
        entries.append(_entry(chosen, name, scene))
        yield name
    if chosen.truth:
        dataset = imglab.Dataset(tuple(entries), name=chosen.folder, comment=COMMENT)
        imglab.write(dataset, storage.join(out, *chosen.truth.split("/")))


def _drawn(chosen: PictureSet, count: int, seed: int) -> Iterator[tuple[str, Scene]]:
    found = photographs(chosen.photographs)
    for index in range(count):
        photograph = chosen.photographs[index % len(chosen.photographs)]
        ours, others = chosen.marks[index % len(chosen.marks)]
        rng = np.random.default_rng([seed, SETS.index(chosen), index])
        yield f"{index:03d}-{photograph}.jpg", draw(found[photograph], ours, others, rng)


def _entry(chosen: PictureSet, name: str, scene: Scene) -> imglab.Image:
    """What the truth says of a picture, whose path is relative to the truth's own folder."""
    beside = chosen.truth.startswith(f"{chosen.folder}/")
    height, width = scene.pixels.shape[:2]
    boxes = tuple(
        imglab.Box(left=x0, top=y0, width=x1 - x0, height=y1 - y0, label=label)
        for (x0, y0, x1, y1), label in zip(
            scene.boxes.astype(int).tolist(), scene.labels, strict=True
        )
        if label in chosen.labels
    )
    return imglab.Image(name if beside else f"{chosen.folder}/{name}", boxes, width, height)
