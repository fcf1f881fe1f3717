"""An explanation as a page to look at: the picture, the windows, the levels and the evidence."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import images, storage
from nnst.boxes import Boxes
from nnst.report import page

if TYPE_CHECKING:  # brings torch, which the report itself can do without
    from nnst.detector.explaining import Explained, Explanation, Saliency

FOLDER = "explain"  # of a scan
_STYLES = ("report.css", "pictures.css", "colours.css", "explain.css")
_SCRIPTS = ("pictures.js", "explain.js")
_PICTURE_SIDE, _CLOSEUP_SIDE, _SEEN_SIDE = 1280, 480, 320  # longest sides on the page, in pixels
_QUALITY = 85
_MARGIN = 0.1  # of a closeup's sides, around the windows
# From least to most: told apart without colour too, as each is lighter than the one before.
_HEAT = np.array([[70, 10, 110], [200, 50, 80], [250, 150, 30], [255, 245, 120]], np.float32)


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to see of a picture that could be looked at."""

    pixels: NDArray[np.uint8]  # (H, W, 3) upright
    explanation: Explanation  # in these pixels
    labels: tuple[str, ...]  # [0] is background


def name_of(image: str) -> str:
    """The folder's name for a picture: to be read by people, and another one for each picture."""
    return f"{storage.safe_name(image, 60)}-{storage.sha256(image.encode())[:8]}"


def write(folder: str, document: Mapping[str, Any], shown: Shown | None) -> str:
    """The page in a folder of its own, with what the network saw as PNG beside it.

    `document` is the chain from the source to the scores, as the page tells it; `shown` is None
    for a picture that could not be looked at.
    """
    storage.remove(folder)  # another explanation of the same picture
    found = [] if shown is None else [_item(shown, each) for each in shown.explanation.explained]
    for number, item in enumerate(found, 1):
        for name, key in (("seen", "seen"), ("saliency", "saliency_png")):
            path = storage.join(folder, f"{name}-{number}.png")
            storage.put(path, base64.b64decode(item[key]))
    data = {
        "title": f"{document['image']}: what {document['model']['name']} saw",
        "chain": document,
        "picture": None if shown is None else _picture(shown),
        "items": found,
    }
    index = storage.join(folder, "index.html")
    storage.put(index, page.assemble("explain.html", _STYLES, _SCRIPTS, data))
    return index


def describe(
    explanation: Explanation, labels: tuple[str, ...], place: Callable[[Boxes], Boxes]
) -> dict[str, Any]:
    """The explanation as JSON, its boxes (N, 4) brought by `place` to where they are wanted."""
    items = [_facts(each, labels, place) for each in explanation.explained]
    return {"reached": explanation.reached, "items": items}


def _facts(
    explained: Explained, labels: tuple[str, ...], place: Callable[[Boxes], Boxes]
) -> dict[str, Any]:
    votes, saliency = explained.votes, explained.saliency
    return {
        "box": _rows(place(explained.box))[0],
        "score": _short(explained.score),
        "label": labels[explained.label],
        "windows": [
            {"box": box, "moved_to": end, "scout": scout, "score": score, "counted": counted}
            for box, end, scout, score, counted in zip(
                _rows(place(votes.windows)),
                _rows(place(votes.ends)),
                [None if np.isnan(value) else _short(value) for value in votes.scouts],
                map(_short, votes.scores),
                votes.counted.tolist(),
                strict=True,
            )
        ],
        "levels": [
            {
                "width": round(level.width, 1),
                "scout": None if level.scout is None else _short(level.scout),
                "score": _short(level.score),
            }
            for level in explained.levels
        ],
        "saliency": {
            "frame": _rows(place(saliency.frame))[0],
            "score": _short(saliency.score),
            "covered": [[_short(value) for value in row] for row in saliency.covered],
        },
    }


def _item(shown: Shown, explained: Explained) -> dict[str, Any]:
    """What the page shows of one detection."""
    seen, heat = _seen(explained.saliency)
    return {
        **_facts(explained, shown.labels, lambda boxes: boxes),
        "closeup": _closeup(shown.pixels, explained),
        "seen": base64.b64encode(images.encode_png(seen)).decode(),
        "saliency_png": base64.b64encode(images.encode_png(heat)).decode(),
        "least": _short(explained.saliency.covered.min()),
        "most": _short(explained.saliency.covered.max()),
    }


def _picture(shown: Shown) -> dict[str, Any]:
    height, width = shown.pixels.shape[:2]
    return {"width": width, "height": height, "thumbnail": _jpeg(shown.pixels, _PICTURE_SIDE)}


def _closeup(pixels: NDArray[np.uint8], explained: Explained) -> dict[str, Any]:
    """The piece of the picture that holds the box and its windows, and where it lies."""
    hw = (pixels.shape[0], pixels.shape[1])
    every = np.concatenate([explained.box, explained.votes.windows, explained.saliency.frame])
    low, high = every[:, :2].min(axis=0), every[:, 2:].max(axis=0)
    margin = (high - low) * _MARGIN
    around = boxes_.clip(np.concatenate([low - margin, high + margin])[None], hw)[0]
    x0, y0 = np.minimum(np.floor(around[:2]).astype(int), np.array(hw[::-1]) - 1).tolist()
    x1, y1 = np.maximum(np.ceil(around[2:]).astype(int), (x0 + 1, y0 + 1)).tolist()
    jpeg = _jpeg(np.ascontiguousarray(pixels[y0:y1, x0:x1]), _CLOSEUP_SIDE)
    return {"jpeg": jpeg, "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}


def _seen(saliency: Saliency) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What the network saw, in the proportions of its frame, plain and under heat."""
    height, width = boxes_.size_hw(saliency.frame)[0].tolist()
    zoom = _SEEN_SIDE / max(height, width)
    hw = (max(1, round(height * zoom)), max(1, round(width * zoom)))
    seen = images.resize(saliency.seen, hw)
    most = float(saliency.fall.max())
    share = np.clip(saliency.fall / most if most > 0 else 0 * saliency.fall, 0, 1)
    levels = np.repeat((255 * share).astype(np.uint8)[:, :, None], 3, axis=2)
    amount = images.resize(levels, hw)[:, :, 0].astype(np.float32) / 255  # (h, w)
    grey = seen.mean(axis=2, keepdims=True) * 0.6
    steps = np.linspace(0, 1, len(_HEAT))
    heat = np.stack([np.interp(amount, steps, _HEAT[:, channel]) for channel in range(3)], axis=2)
    weight = 0.75 * amount[:, :, None]
    return seen, np.rint(grey * (1 - weight) + heat * weight).astype(np.uint8)


def _jpeg(pixels: NDArray[np.uint8], side: int) -> str:
    """JPEG in base64, made smaller where a side is longer than `side`."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, side / max(height, width))
    hw = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    return base64.b64encode(images.encode_jpeg(images.resize(pixels, hw), _QUALITY)).decode()


def _rows(boxes: Boxes) -> list[list[float]]:
    return [[round(float(value), 2) for value in box] for box in boxes]


def _short(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
