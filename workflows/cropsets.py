"""The crop sets that a training learns from: opened and checked, the background's cut now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnst import config, crops, storage
from nnst.errors import InputError, PlanChanged
from nnst.ledger import Ledger
from nnst.records import Annotation
from workflows.commands import Options
from workflows.fanout import FanoutSettings

if TYPE_CHECKING:
    from nnst.training.stores import CropData


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which crop sets."""

    crops: tuple[str, ...]  # output folders of nnst crop
    background: str  # an archive, "" for none
    background_crops: int  # of each of its pictures
    storage: str  # a folder for the background's crop set
    fanout: FanoutSettings


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The crop sets, opened."""

    sets: tuple[Ledger, ...]
    background: tuple[Ledger, ...]
    labels: tuple[str, ...]  # background first
    window_hw: tuple[int, int]

    def crop_data(self, share: float) -> CropData:
        """What the networks learn from before anything is mined."""
        from nnst.training.stores import CropData

        names = (tuple(book.out for book in books) for books in (self.sets, self.background))
        crop_sets, background = names
        return CropData(crop_sets, background, share=share)

    @property
    def digest(self) -> str:
        """Of all that is trained and validated on."""
        prints = [book.fingerprint for book in (*self.sets, *self.background)]
        return storage.sha256("".join(prints).encode())

    def sources(self) -> list[dict[str, Any]]:
        """Each crop set by its place, and the truth that it was cut from, if it was from any."""
        return [
            {
                "out": book.out,
                "fingerprint": book.fingerprint,
                "kind": book.plan["identity"]["settings"]["kind"],
                "truth": [storage.absolute(path) for path in book.notes.get("truth", ())],
                "truth_sha256": book.plan["identity"]["settings"]["truth_sha256"],
            }
            for book in (*self.sets, *self.background)
        ]

    def trained_on(self, share: float) -> frozenset[str]:
        """The content hashes of the annotated pictures that are learnt from."""
        from nnst.training.stores import unused_pictures

        truth = self._truth()
        training = frozenset(item.image_id for split, item in truth if split == "train")
        return training - unused_pictures(truth, share)

    def boxes(self, share: float) -> int:
        """How many boxes are learnt from."""
        used = self.trained_on(share)
        return sum(
            label in self.labels[1:] and not ignored
            for _, item in self._truth()
            if item.image_id in used
            for label, ignored in zip(item.labels, item.ignore, strict=True)
        )

    def _truth(self) -> list[tuple[str, Annotation]]:
        return [item for book in self.sets for item in crops.read_truth(book)]


def open_sets(wanted: Wanted, dry_run: bool) -> TrainingData:
    """The crop sets; that of the background is cut now if it is not there, unless `dry_run`.

    Raises InputError when a set is unfinished, or none has a logo.
    """
    sets, labels = _opened(wanted.crops)
    height, width = sets[0].plan["identity"]["settings"]["window_hw"]
    background: tuple[Ledger, ...] = ()
    if wanted.background and not dry_run:
        background = (_cut_background(wanted, (height, width)),)
    return TrainingData(sets, background, labels, (height, width))


def logos_of(paths: Sequence[str]) -> tuple[str, ...]:
    """The labels that crop sets teach, in alphabetical order. Raises InputError as `open_sets`."""
    return _opened(paths)[1][1:]


def _opened(paths: Sequence[str]) -> tuple[tuple[Ledger, ...], tuple[str, ...]]:
    """The crop sets at these paths, and their labels, background first."""
    sets = tuple(Ledger.open(storage.absolute(path), "crop") for path in paths)
    for book in sets:
        if not book.is_done():
            raise InputError(f"{book.out} is not finished", "run its nnst crop again")
    found = [annotation for book in sets for _, annotation in crops.read_truth(book)]
    labels = _labels(sets, found)
    if len(labels) == 1:
        names = ", ".join(paths)
        raise InputError(f"no box with a logo in {names}", "draw boxes with imglab, and crop again")
    return sets, labels


def _labels(sets: Sequence[Ledger], found: Sequence[Annotation]) -> tuple[str, ...]:
    """The classes: background, then every label of a box that counts, in alphabetical order."""
    negative = {
        label
        for book in sets
        for label in book.plan["identity"]["settings"]["crop"]["negative_label"]
    }
    labels = {
        label
        for annotation in found
        for label, ignored in zip(annotation.labels, annotation.ignore, strict=True)
        if not ignored
    }
    return ("background", *sorted(labels - negative))


def _cut_background(wanted: Wanted, window_hw: tuple[int, int]) -> Ledger:
    """The crop set of the background archive, cut for this window."""
    from workflows.__main__ import dispatch

    window = f"{window_hw[1]}x{window_hw[0]}"
    source = storage.absolute(wanted.background)
    mark = storage.sha256(f"{source} {window} {wanted.background_crops}".encode())[:12]
    out = storage.join(storage.absolute(wanted.storage), f"background-{mark}")
    values = {
        "out": out,
        "background": source,
        "window": window,
        "crop": {"negatives": wanted.background_crops},
        "fanout": config.to_dict(wanted.fanout),
    }
    try:
        dispatch("crop", values)
    except PlanChanged:  # pictures came or went since it was cut
        dispatch("crop", values, Options(fresh=True))
    return Ledger.open(out, "crop")
