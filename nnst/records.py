"""The data types that flow through nnst, and their Arrow schemas. Frozen; arrays read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nnst import boxes as boxes_

BACKGROUND = 0
OK = "ok"

REASONS: Mapping[str, str] = {
    "empty": "the file holds no bytes",
    "too_many_bytes": "the file is larger than the limit on bytes",
    "too_many_pixels": "the picture is larger than the limit on pixels or on its sides",
    "not_an_image": "the bytes do not begin like any picture",
    "unsupported_format": "a picture or document of a kind that nnst does not read",
    "truncated": "the file ends before the picture does",
    "corrupt": "the bytes begin like a picture and cannot be decoded",
    "decoder_crash": "the decoder died on this picture",
    "decoder_timeout": "the decoder did not finish with this picture in time",
    "missing": "the file is listed and is not there",
    "unreadable": "the file is there and cannot be opened",
    "link": "a symbolic or hard link inside an archive, or one that leaves the folder",
    "special_file": "a device, pipe or socket",
    "unsafe_path": "a name that leaves its folder or cannot be a name",
    "duplicate": "a second member of the same name",
    "encrypted": "an encrypted member",
    "too_compressed": "a member that inflates beyond the allowed ratio",
    "bad_address": "an address that nnst does not fetch from: not http or https, or malformed",
    "private_address": "an address inside a private network, or this machine's own",
    "robots_disallowed": "robots.txt asks not to fetch it",
    "robots_unreadable": "robots.txt could not be read, which counts as a no",
    "opted_out": "its headers, its page or its site reserve it (X-Robots-Tag, meta robots, TDMRep)",
    "not_found": "the server has no such file",
    "refused": "the server refused to give it",
    "rate_limited": "the server asked for fewer requests until the tries were spent",
    "server_error": "the server failed until the tries were spent",
    "connection_failed": "no connection to the server, or one that broke",
    "timeout": "the server was too slow",
    "bad_redirect": "a redirect that leads nowhere, in a circle or to an unsafe place",
    "host_down": "given up, as the host failed so many times in a row",
}
"""The closed list of reasons why a picture could not be used."""

Origin = Literal["positive", "negative", "hard_negative"]


def _frozen(values: Any, dtype: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)  # a copy: the caller's array stays his
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a person marked on one picture, in pixels as stored (before any EXIF rotation)."""

    image: str
    image_id: str
    boxes: NDArray[np.float32]  # (N, 4)
    labels: tuple[str, ...]  # (N,)
    ignore: NDArray[np.bool_]  # (N,) neither positive nor negative
    difficult: NDArray[np.bool_]  # (N,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", _frozen(boxes_.as_boxes(self.boxes), np.float32))
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "ignore", _frozen(self.ignore, bool))
        object.__setattr__(self, "difficult", _frozen(self.difficult, bool))
        lengths = {len(self.boxes), len(self.labels), len(self.ignore), len(self.difficult)}
        if len(lengths) != 1:
            raise ValueError(f"an annotation's columns must have one length, got {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Crop:
    """A piece cut for training: the box with context around it, so that a window can move in it."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    label: str  # "" for background
    origin: Origin
    image_id: str
    box: NDArray[np.float32]  # (4,) in the picture as stored
    box_in_crop: NDArray[np.float32]  # (4,) the same box in the crop's own pixels

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _frozen(self.pixels, np.uint8))
        object.__setattr__(self, "box", _frozen(self.box, np.float32))
        object.__setattr__(self, "box_in_crop", _frozen(self.box_in_crop, np.float32))


@dataclass(frozen=True, slots=True)
class Detections:
    """Parallel arrays, one row a detection."""

    boxes: NDArray[np.float32]  # (N, 4)
    scores: NDArray[np.float32]  # (N,) in [0, 1]
    labels: NDArray[np.int64]  # (N,) index into ModelSpec.labels, never BACKGROUND

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", _frozen(boxes_.as_boxes(self.boxes), np.float32))
        object.__setattr__(self, "scores", _frozen(self.scores, np.float32).reshape(-1))
        object.__setattr__(self, "labels", _frozen(self.labels, np.int64).reshape(-1))
        if not len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(
                f"boxes, scores and labels must have one length, got {len(self.boxes)}, "
                f"{len(self.scores)}, {len(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: slice | NDArray[Any]) -> Detections:
        """The rows that a slice, a mask or an index array picks, in its order."""
        return Detections(self.boxes[index], self.scores[index], self.labels[index])

    @classmethod
    def empty(cls) -> Detections:
        """No detection."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """The rows of all parts, in order; of none, the empty detections."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that scoring needs to know of a model beside its weights."""

    architecture: str  # a name of nnst.models
    labels: tuple[str, ...]  # labels[0] is background
    window_hw: tuple[int, int]  # pixels
    stride: int  # level pixels between neighbouring windows
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)  # of RGB in [0, 255]
    std: tuple[float, float, float] = (64.0, 64.0, 64.0)
    threshold: float = 0.5  # the least calibrated score that reports show
    calibration: tuple[float, float] = (1.0, 0.0)  # calibrated log-odds = a * log-odds + b
    widths: tuple[int, ...] = ()  # channels of the layers; () is the architecture's own choice
    context: float = 1.0  # side of the scored window over side of the object it is centred on
    levels_per_octave: int = 4  # pyramid levels for each halving that it was taught for
    stages: tuple[ModelSpec, ...] = ()  # of a cascade: its networks, in the order they look

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"a model needs background and one label, got {self.labels}")
        if min(self.window_hw) < 1 or self.stride < 1:
            raise ValueError(f"bad window {self.window_hw} or stride {self.stride}")


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """A picture at one size. `scale_xy` is level pixels per picture pixel, exactly, per axis.

    `pad_xy` level pixels of border were added left and above, so a level pixel (x, y) is the
    picture's ((x - pad_x) / scale_x, (y - pad_y) / scale_y).
    """

    scale_xy: tuple[float, float]
    pixels: NDArray[np.uint8]  # (h, w, 3) RGB, border included
    pad_xy: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Failure:
    """One item that could not be done, and why: `reason` is a word of REASONS."""

    item: str
    stage: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is not in the closed list of reasons")


@dataclass(frozen=True, slots=True)
class PartFile:
    """One Parquet part of a shard; its name holds the first 12 hex digits of its sha256."""

    table: str
    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a shard's work came to. Conservation: rows_in == rows_ok + rows_bad."""

    shard: int
    rows_in: int
    rows_ok: int
    rows_bad: int
    files: tuple[PartFile, ...]
    fingerprint: str
    bad: Mapping[str, int] = field(default_factory=dict)  # reason -> how many

    def __post_init__(self) -> None:
        if self.rows_in != self.rows_ok + self.rows_bad or sum(self.bad.values()) != self.rows_bad:
            raise ValueError(
                f"shard {self.shard}: {self.rows_in} rows in, {self.rows_ok} ok, "
                f"{self.rows_bad} bad ({dict(self.bad)}) do not add up"
            )

    @classmethod
    def of(
        cls, shard: int, statuses: Iterable[str], files: tuple[PartFile, ...], fingerprint: str
    ) -> Receipt:
        """The receipt of a shard whose rows have these statuses."""
        counts = Counter(statuses)
        ok = counts.pop(OK, 0)
        bad = counts.total()
        return cls(shard, ok + bad, ok, bad, files, fingerprint, dict(counts))


INPUTS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),  # unique in the archive
        pa.field("container", pa.string(), nullable=False),  # file that holds it, "" for a folder
        pa.field("offset", pa.int64(), nullable=False),  # where in the container: byte or row
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),  # mtime, etag or CRC: tells a change
        pa.field("reason", pa.string()),  # known at planning to be unusable, and why
        pa.field("shard", pa.int32(), nullable=False),
    ]
)

IMAGES = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_id", pa.string()),  # null where no byte could be read
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("detections", pa.int32(), nullable=False),
        pa.field("score", pa.float32()),
    ]
)

DETECTIONS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("x0", pa.float32(), nullable=False),
        pa.field("y0", pa.float32(), nullable=False),
        pa.field("x1", pa.float32(), nullable=False),
        pa.field("y1", pa.float32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
    ]
)

CROPS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # "" is background
        pa.field("origin", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train or validation
        pa.field("box", pa.list_(pa.float32(), 4), nullable=False),
        pa.field("box_in_crop", pa.list_(pa.float32(), 4), nullable=False),
        pa.field("pixels", pa.binary(), nullable=False),  # BMP: every worker reads them all first
    ]
)

PICTURES = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_id", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("orientation", pa.int32()),  # EXIF, 1 to 8; boxes are in the picture as stored
        pa.field("perceptual_hash", pa.string()),  # 16 hex digits
        pa.field("group", pa.string()),  # near duplicates share it
        pa.field("split", pa.string()),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("ignore", pa.list_(pa.bool_()), nullable=False),
        pa.field("difficult", pa.list_(pa.bool_()), nullable=False),
        pa.field("bytes", pa.binary()),  # the file itself; null where it could not be used
    ]
)

COLLECTED = pa.schema(  # the table `pictures` of nnst collect
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("detail", pa.string()),  # what there is to say about the status
        pa.field("image", pa.string()),  # its name in the archive, the same for the same content
        pa.field("image_id", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("perceptual_hash", pa.string()),  # 16 hex digits
        pa.field("code", pa.int32()),  # of the last HTTP answer; null where none came
        pa.field("content_type", pa.string()),  # as the server said; the bytes decide
        pa.field("final_url", pa.string()),  # behind all redirects
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("fetched", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # as it was given to nnst collect
        pa.field("page", pa.string()),  # that shows the picture
        pa.field("licence", pa.string()),
        pa.field("licence_url", pa.string()),
        pa.field("creator", pa.string()),
        pa.field("attribution", pa.string()),
        pa.field("title", pa.string()),
        pa.field("carried", pa.string()),  # other columns of a URL list, as JSON
    ]
)

STORED = pa.schema(  # the archive of a collection: every distinct picture once
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("container", pa.string(), nullable=False),  # its file, or the tar that holds it
        pa.field("offset", pa.int64(), nullable=False),  # in the tar; -1 where it is a file
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("perceptual_hash", pa.string()),  # null where it was not decoded
        pa.field("group", pa.string(), nullable=False),  # near duplicates share it
        pa.field("urls", pa.int32(), nullable=False),  # how many addresses gave these bytes
        pa.field("url", pa.string(), nullable=False),  # the first of them
    ]
)
