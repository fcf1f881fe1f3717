"""The detectors that `bench_peers` puts side by side, each with the one shape of `Peer`.

Each is made from training pictures where it has to be, and then takes files and gives boxes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from nnst import boxes as boxes_
from nnst import images, models, nms, pyramid
from nnst.detector import DetectorSettings, detector_of
from nnst.records import Annotation, Detections
from workflows import bench

MOST_DETECTIONS = 50  # of a picture, for peers that have no limit of their own
IOU_THRESHOLD = 0.3


@dataclass(frozen=True)
class Picture:
    """A file and its truth."""

    data: bytes
    truth: Annotation


class Peer(Protocol):
    """A detector of one label. Boxes are in pixels as stored, scores of any range."""

    name: str
    notes: dict[str, Any]

    def find(self, files: Sequence[bytes]) -> list[Detections]:
        """What is in each file, decoding included."""


def wanted(truth: Annotation, label: str) -> boxes_.Boxes:
    """(N, 4) the boxes of the label that are not set aside."""
    own = np.array([name == label for name in truth.labels], dtype=bool)
    return truth.boxes[own & ~truth.ignore]


def found(boxes: boxes_.Boxes, scores: Sequence[float] | np.ndarray) -> Detections:
    """Detections of the one label, best first, suppressed as nnst does."""
    all_of_them = Detections(boxes, np.asarray(scores, np.float32), np.ones(len(boxes), np.int64))
    return nms.non_max_suppression(all_of_them, IOU_THRESHOLD)[:MOST_DETECTIONS]


class Nnst:
    """A model of nnst in a folder; small pictures are looked at together, as a scan does."""

    def __init__(self, folder: str, label: str, min_width: int) -> None:
        model = models.load(folder)
        self.name = f"nnst {model.spec.architecture}"
        self.notes: dict[str, Any] = {"model": folder, "min_width": min_width}
        self._detector = detector_of(model, DetectorSettings(min_width=min_width))
        self._label = model.spec.labels.index(label)
        self.trained_on = frozenset(model.provenance.get("trained_on", ()))

    def find(self, files: Sequence[bytes]) -> list[Detections]:
        """What is in each file."""
        found = bench.look(self._detector, files)
        return [each[each.labels == self._label] for each in found]


class Dlib:
    """dlib's HOG detector: Felzenszwalb's features, a linear SVM, the picture enlarged or not."""

    UPSAMPLE_LIMIT = 2  # how often dlib may double a training picture so that boxes fit its window
    LEAST_FIT = 0.6  # IoU of a box with the window's shape laid over it

    def __init__(self, detector: Any, notes: dict[str, Any], doublings: int) -> None:
        self.name = "dlib HOG" + (" x2" if doublings else "")
        self.notes = notes
        self._detector, self._doublings = detector, doublings

    @classmethod
    def trained(cls, pictures: Sequence[Picture], label: str, options: Any) -> tuple[Dlib, Dlib]:
        """The detector on pictures as they are, and on pictures of twice the sides."""
        import dlib

        training = dlib.simple_object_detector_training_options()
        training.C = options.dlib_c
        training.detection_window_size = 80 * 80
        training.upsample_limit = cls.UPSAMPLE_LIMIT
        training.add_left_right_image_flips = False
        training.num_threads = 1
        training.max_runtime_seconds = options.dlib_seconds
        pixels, fitting, left_out = cls._fitting(pictures, label)
        rectangles = [
            [
                dlib.rectangle(*(int(edge) for edge in (x0, y0, x1 - 1, y1 - 1)))
                for x0, y0, x1, y1 in boxes.tolist()
            ]
            for boxes in fitting
        ]  # dlib's rectangles are inclusive
        trained = dlib.train_simple_object_detector(pixels, rectangles, training)
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "detector.svm")
            trained.save(file)
            detector = dlib.fhog_object_detector(file)
        notes = {"boxes": sum(map(len, rectangles)), "boxes_left_out": left_out, "C": training.C}
        return cls(detector, notes, 0), cls(detector, notes, 1)

    @classmethod
    def _fitting(
        cls, pictures: Sequence[Picture], label: str
    ) -> tuple[list[images.Pixels], list[boxes_.Boxes], int]:
        """Pixels and boxes of the pictures whose boxes dlib's one window can be laid over.

        Others would make dlib refuse the training: too small, or of too different a shape. Their
        pictures go too, as the logo would be taught as background.
        """
        every = [wanted(picture.truth, label) for picture in pictures]
        hw = boxes_.size_hw(np.concatenate(every))  # (N, 2)
        median = np.median(hw[:, 1] / hw[:, 0])
        pixels, kept, left_out = [], [], 0
        for picture, boxes in zip(pictures, every, strict=True):
            height, width = boxes_.size_hw(boxes).T
            stretch = np.sqrt(np.maximum(width / height / median, median / (width / height)))
            fits = 1 / (2 * stretch - 1) >= cls.LEAST_FIT  # IoU of two boxes of one area, centred
            large = height * width >= 80 * 80 / 4**cls.UPSAMPLE_LIMIT
            if (fits & large).all():
                pixels.append(np.array(images.decode(picture.data).pixels))
                kept.append(boxes)
            else:
                left_out += len(boxes)
        return pixels, kept, left_out

    def find(self, files: Sequence[bytes]) -> list[Detections]:
        """What is in each file, with scores down to well below dlib's own threshold of 0."""
        return [self._find(np.array(images.decode(data).pixels)) for data in files]

    def _find(self, pixels: images.Pixels) -> Detections:
        rectangles, scores, _ = self._detector.run(pixels, self._doublings, -0.8)
        corners = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in rectangles]
        boxes = boxes_.clip(boxes_.as_boxes(corners), pixels.shape[:2])
        return Detections(boxes, np.array(scores), np.ones(len(boxes)))


class Templates:
    """Normalised cross-correlation of some training logos with every level of a pyramid."""

    name = "templates"
    AREA = 1024  # pixels of a template
    COUNT = 6
    LEAST_SCORE = 0.3

    def __init__(self, pictures: Sequence[Picture], label: str, min_width: int) -> None:
        every = [
            (images.decode(picture.data).pixels, box)
            for picture in pictures
            for box in wanted(picture.truth, label)
        ]
        hw = boxes_.size_hw(np.stack([box for _, box in every]))
        aspect = float(np.median(hw[:, 1] / hw[:, 0]))
        self._hw = round((self.AREA / aspect) ** 0.5), round((self.AREA * aspect) ** 0.5)
        step = max(1, len(every) // self.COUNT)
        self._templates = [self._cut(*each) for each in every[::step][: self.COUNT]]
        self._max_scale = self._hw[1] / min_width if min_width else 1.0
        self.notes: dict[str, Any] = {"templates": len(self._templates), "hw": self._hw}

    def _cut(self, pixels: images.Pixels, box: np.ndarray) -> images.Pixels:
        x0, y0, x1, y1 = boxes_.clip(box[None], pixels.shape[:2])[0].astype(int)
        return images.resize(pixels[y0:y1, x0:x1], self._hw)

    def find(self, files: Sequence[bytes]) -> list[Detections]:
        """What is in each file."""
        return [self._find(images.decode(data).pixels) for data in files]

    def _find(self, pixels: images.Pixels) -> Detections:
        hw = pixels.shape[0], pixels.shape[1]
        scales = pyramid.scales(hw, self._hw, levels_per_octave=3, max_scale=self._max_scale)
        boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        for level in pyramid.levels(pyramid.Halves(pixels), scales):
            if min(side - own for side, own in zip(level.pixels.shape, self._hw, strict=False)) < 0:
                continue
            best = np.max([self._match(level.pixels, each) for each in self._templates], axis=0)
            peak = (best == cv2.dilate(best, np.ones((5, 5)))) & (best >= self.LEAST_SCORE)
            rows, columns = np.nonzero(peak)
            corner = np.stack([columns, rows], axis=1)  # (N, 2) as x, y
            edges = np.concatenate([corner, corner + np.array(self._hw[::-1])], axis=1)
            boxes.append((edges / np.tile(level.scale_xy, 2)).astype(np.float32))
            scores.append(best[peak])
        return found(boxes_.clip(np.concatenate(boxes), hw), np.concatenate(scores))

    @staticmethod
    def _match(pixels: images.Pixels, template: images.Pixels) -> np.ndarray:
        """(h, w) of -1 to 1; a flat place, which OpenCV may give infinity, is 0."""
        scores = cv2.matchTemplate(pixels, template, cv2.TM_CCOEFF_NORMED)
        return np.where(np.isfinite(scores) & (np.abs(scores) <= 1.001), scores, 0)


class Yolo:
    """ultralytics' YOLO11n, trained from scratch. Raises ImportError where it is not to be had."""

    name = "YOLO11n from scratch"

    def __init__(self, pictures: Sequence[Picture], label: str, options: Any) -> None:
        import torchvision  # noqa: F401 - ultralytics needs it, and finds that out late
        from ultralytics import YOLO

        with tempfile.TemporaryDirectory() as folder:
            data = self._write(Path(folder), pictures, label)
            self._model = YOLO("yolo11n.yaml")  # the shape alone, without weights
            self._model.train(
                data=str(data),
                epochs=options.yolo_epochs,
                imgsz=640,
                pretrained=False,
                device="cpu",
                plots=False,
                verbose=False,
                project=folder,
            )
        self.notes: dict[str, Any] = {"epochs": options.yolo_epochs}

    @staticmethod
    def _write(folder: Path, pictures: Sequence[Picture], label: str) -> Path:
        """The pictures as ultralytics reads them: a text of centres and sizes beside each."""
        for part in ("images", "labels"):
            (folder / part).mkdir()
        for index, picture in enumerate(pictures):
            pixels, boxes = images.decode(picture.data).pixels, wanted(picture.truth, label)
            rows = np.concatenate([boxes_.center(boxes), boxes_.size_hw(boxes)[:, ::-1]], axis=1)
            rows /= np.tile(pixels.shape[1::-1], 2)
            lines = [" ".join(["0", *(f"{value:.6f}" for value in row)]) for row in rows]
            (folder / "images" / f"{index}.png").write_bytes(images.encode_png(pixels))
            (folder / "labels" / f"{index}.txt").write_text("\n".join(lines))
        data = folder / "data.yaml"
        data.write_text(f"path: {folder}\ntrain: images\nval: images\nnames: [logo]\n")
        return data

    def find(self, files: Sequence[bytes]) -> list[Detections]:
        """What is in each file."""
        return [self._find(images.decode(data).pixels) for data in files]

    def _find(self, pixels: images.Pixels) -> Detections:
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        (result,) = self._model.predict(bgr, conf=0.001, imgsz=640, device="cpu", verbose=False)
        return found(result.boxes.xyxy.numpy(), result.boxes.conf.numpy())
