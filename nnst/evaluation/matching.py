"""What belongs together: detections and truth boxes, pictures of a scan and of the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnst import boxes as boxes_
from nnst.errors import InputError

Mask = NDArray[np.bool_]
Named = Sequence[tuple[str, str | None]]  # (image, image_id), the id None or "" if not known
Parts = tuple[str, ...]  # the components of a path


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of the detections of one label on one picture; neither mask: a false positive."""

    tp: Mask  # (N,)
    ignored: Mask  # (N,)
    found: NDArray[np.intp]  # (N,) the truth box that a true detection found; -1 for the others


def match(
    boxes: boxes_.Boxes,
    scores: ArrayLike,
    truth_boxes: boxes_.Boxes,
    ignore: ArrayLike,
    iou_threshold: float,
) -> Matched:
    """Detections matched to truth as PASCAL VOC does, the best score first.

    A detection belongs to the truth box with which it has the largest IoU, if that is at least
    `iou_threshold`; the best detection of a truth box is true, its others are false. A detection
    is ignored if its largest IoU is with an ignore box, or if it belongs to no truth box and an
    ignore box covers at least that share of it (COCO's rule for regions).
    """
    tp, ignored = np.zeros(len(boxes), dtype=bool), np.zeros(len(boxes), dtype=bool)
    if not len(boxes) or not len(truth_boxes):
        return Matched(tp, ignored, np.full(len(boxes), -1))
    aside = np.asarray(ignore, dtype=bool)  # (M,)
    iou = boxes_.pairwise_iou(boxes, truth_boxes)  # (N, M)
    owner = np.where(aside, -1, iou).argmax(axis=1)  # (N,)
    owned = np.where(aside, 0, iou).max(axis=1)  # (N,)
    hit = (owned >= iou_threshold) & (owned >= iou.max(axis=1))
    shared = boxes_.pairwise_intersection(boxes, truth_boxes[aside]).max(axis=1, initial=0)  # (N,)
    ignored = ~hit & (shared > 0) & (shared >= iou_threshold * boxes_.area(boxes))
    ranked = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ranked = ranked[hit[ranked]]
    _, first = np.unique(owner[ranked], return_index=True)
    tp[ranked[first]] = True
    return Matched(tp, ignored, np.where(tp, owner, -1))


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which picture of the truth each picture of a scan is."""

    truth_of: tuple[int | None, ...]  # one per picture of the scan; None: not in the truth
    by_path: int  # how many met by path, their content being unknown or another
    unscanned: tuple[int, ...]  # pictures of the truth whose content or path the scan does not hold


def meet(
    scan_images: Named,
    truth_images: Named,
    scan_name: str = "the scan",
    truth_name: str = "the truth",
) -> Pairing:
    """Pictures of scan and truth that have the same content, else the longest common path suffix.

    Truth that lists one content several times gives it the nearest path, else the first. By path,
    only pictures whose content met none are paired, one to one, and at least the file name must be
    the same, letter for letter. Raises InputError, naming both, if two fit equally well, if the
    truth lists a picture twice, and if it names no picture of the scan.
    """
    _refuse_repeats(truth_images, truth_name)
    scan_parts = [_parts(image) for image, _ in scan_images]
    truth_parts = [_parts(image) for image, _ in truth_images]
    met = _meet_by_content(scan_images, truth_images, scan_parts, truth_parts)
    contents = {image_id for _, image_id in scan_images if image_id}
    open_truth = {
        index: parts
        for index, parts in enumerate(truth_parts)
        if truth_images[index][1] not in contents
    }
    names = {parts[-1:] for parts in open_truth.values()}
    open_scan = {
        index: parts
        for index, parts in enumerate(scan_parts)
        if index not in met and parts[-1:] in names
    }
    by_path = _meet_by_path(open_scan, open_truth, scan_name, truth_name)
    met |= by_path
    if not met:
        raise InputError(
            f"{truth_name} names no picture of {scan_name}"
            f" ({_first(truth_images)} against {_first(scan_images)})",
            "give the truth of the scanned pictures: same content, or at least the same file names",
        )
    unscanned = tuple(sorted(open_truth.keys() - met.values()))
    return Pairing(tuple(map(met.get, range(len(scan_images)))), len(by_path), unscanned)


def _meet_by_content(
    scan_images: Named,
    truth_images: Named,
    scan_parts: Sequence[Parts],
    truth_parts: Sequence[Parts],
) -> dict[int, int]:
    copies: dict[str, list[int]] = {}
    for index, (_, image_id) in enumerate(truth_images):
        if image_id:
            copies.setdefault(image_id, []).append(index)
    return {
        index: max(copies[image_id], key=lambda t: _common(scan_parts[index], truth_parts[t]))
        for index, (_, image_id) in enumerate(scan_images)
        if image_id and image_id in copies
    }


def _meet_by_path(
    scan: Mapping[int, Parts], truth: Mapping[int, Parts], scan_name: str, truth_name: str
) -> dict[int, int]:
    met: dict[int, int] = {}
    open_scan, open_truth = dict(scan), dict(truth)
    for length in range(max(map(len, truth.values()), default=0), 0, -1):
        scan_groups = _by_suffix(open_scan, length)
        for suffix, of_truth in _by_suffix(open_truth, length).items():
            if suffix not in scan_groups:
                continue
            of_scan = scan_groups[suffix]
            _refuse_tie([scan[i] for i in of_scan], scan_name, truth[of_truth[0]], truth_name)
            _refuse_tie([truth[i] for i in of_truth], truth_name, scan[of_scan[0]], scan_name)
            met[of_scan[0]] = of_truth[0]
            del open_scan[of_scan[0]], open_truth[of_truth[0]]
    return met


def _by_suffix(paths: Mapping[int, Parts], length: int) -> dict[Parts, list[int]]:
    groups: dict[Parts, list[int]] = {}
    for index, parts in paths.items():
        if len(parts) >= length:
            groups.setdefault(parts[-length:], []).append(index)
    return groups


def _refuse_tie(tied: Sequence[Parts], where: str, other: Parts, other_where: str) -> None:
    if len(tied) > 1:
        raise InputError(
            f'"{"/".join(tied[0])}" and "{"/".join(tied[1])}" of {where}'
            f' fit "{"/".join(other)}" of {other_where} equally well',
            "scan from a folder further up, or take one of them out, so that paths tell them apart",
        )


def _refuse_repeats(truth_images: Named, truth_name: str) -> None:
    seen: set[tuple[str, str | None]] = set()
    for entry in truth_images:
        if entry in seen:
            raise InputError(
                f'{truth_name} lists "{entry[0]}" twice', "put its boxes into one entry"
            )
        seen.add(entry)


def _parts(image: str) -> Parts:
    return tuple(part for part in image.replace("\\", "/").split("/") if part not in ("", "."))


def _common(parts1: Parts, parts2: Parts) -> int:
    length = 0
    for part1, part2 in zip(reversed(parts1), reversed(parts2), strict=False):
        if part1 != part2:
            break
        length += 1
    return length


def _first(images: Named) -> str:
    return f'"{images[0][0]}"' if images else "nothing"
