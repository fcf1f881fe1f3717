"""Average precision against the number of boxes: whether it is worth while to draw more.

The scan's model is trained anew from shares of its training pictures, each time with its own
settings, and judged on pictures that it was not trained on. All that is made lies below
SCAN/evaluation/curve/; what is finished there is not made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nnst import archive, images, storage
from nnst.errors import InputError
from nnst.ledger import Ledger
from nnst.records import Annotation
from workflows import pairing
from workflows.pairing import Judged

if TYPE_CHECKING:
    from nnst.evaluation import EvaluationSettings

LEAST_RISE = 0.02  # of average precision; less is not worth a person's work

# torch and MLflow cost seconds to import: functions import what needs them.


@dataclass(frozen=True, slots=True)
class CurveTask:
    """What the points of a learning curve have in common."""

    book: Ledger  # the scan
    training: Mapping[str, Any]  # settings of the training that made its model
    truth: Mapping[str, Annotation]  # of the pictures not trained on, by their name in the scan

    @property
    def folder(self) -> str:
        """Where the curve's models and scans are kept."""
        return curve_folder(self.book)


def curve_folder(book: Ledger) -> str:
    """The folder of a scan's learning curves."""
    return storage.join(book.out, "evaluation", "curve")


def plan(book: Ledger, judged: Judged) -> CurveTask:
    """What is to be done. Raises InputError when something that it needs is not there."""
    model = pairing.model_of(book)
    run_id = book.notes.get("model_run_id")
    if not run_id:
        what = f"a learning curve trains {model} anew, and how it was trained is not recorded"
        raise InputError(what, "scan with a model that nnst train has registered")
    training = _training(run_id, model)
    _check_there(book, training, model)
    unseen = judged.unseen(pairing.trained_on(model))
    truth = {each.image: each.truth for each in unseen if each.truth is not None and each.readable}
    wanted = set(book.plan["identity"]["model"]["labels"][1:])
    if not any(wanted & set(each.labels) for each in truth.values()):
        what = f"{model} was trained on every picture of the truth that has a box"
        raise InputError(what, "give truth of other pictures: a learning curve is judged on them")
    return CurveTask(book, training, truth)


def _training(run_id: str, model: str) -> dict[str, Any]:
    """The settings with which a model was trained, from its run."""
    from workflows.tracking import store

    uri = store.tracking_uri()
    try:
        with store.explained(uri):
            found = store.client(uri).get_run(run_id).data.params
    except InputError as error:
        what = f"the run that trained {model} is not to be had: {error.what}"
        raise InputError(what, "set MLFLOW_TRACKING_URI to where it was recorded") from None
    values: dict[str, Any] = {}
    for key, text in found.items():
        *groups, name = key.split(".")
        target = values
        for group in groups:
            target = target.setdefault(group, {})
        # Lists and nothing are recorded as JSON; text, and numbers which are read as text, plain.
        target[name] = json.loads(text) if text == "null" or text.startswith("[") else text
    return values


def _check_there(book: Ledger, training: Mapping[str, Any], model: str) -> None:
    """Raise when the archive, a crop set or the background is gone."""
    needed = [book.source, *training["crops"], training.get("background", "")]
    for path in filter(None, needed):
        if not storage.exists(storage.absolute(path)):
            raise InputError(
                f"a learning curve trains {model} anew, and {path} is gone",
                "bring it back, or run this where that model was trained",
            )


def points(
    task: CurveTask, shares: Sequence[float], settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """For each share: boxes and pictures learnt from, pictures judged, average precision."""
    _copy_pictures(task)
    return [_point(task, share, settings) for share in shares]


def _copy_pictures(task: CurveTask) -> None:
    """Copies of the pictures to judge, so that what else the archive holds is not scanned."""
    done = f"{_pictures_folder(task)}.json"
    if storage.exists(done):
        return
    inputs = task.book.inputs()
    inputs = inputs.filter(pc.is_in(inputs["image"], pa.array(list(task.truth), pa.string())))
    scanned = task.book.read("images", ["image", "image_id"]).to_pylist()
    image_ids = {row["image"]: row["image_id"] for row in scanned}
    for member in archive.stream(task.book.source, inputs):
        same = (
            member.data is not None
            and images.content_hash(member.data) == (image_ids[member.image])
        )
        if not same:
            what = f"{member.image} of {task.book.source} is gone or changed since the scan"
            raise InputError(what, "bring it back, or scan the archive anew")
        assert member.data is not None
        storage.put(storage.join(_pictures_folder(task), _name(member.image)), member.data)
    storage.put(done, storage.to_json({"pictures": len(task.truth)}))


def _pictures_folder(task: CurveTask) -> str:
    mark = storage.sha256("\n".join(sorted(task.truth)).encode())[:12]
    return storage.join(task.folder, f"pictures-{mark}")


def _name(image: str) -> str:
    """The name of a picture's copy: its own might lead out of the folder."""
    suffix = storage.safe_name(os.path.splitext(image)[1].lower() or ".jpg")
    return f"{storage.sha256(image.encode())[:16]}.{suffix}"


def _point(task: CurveTask, share: float, settings: EvaluationSettings) -> dict[str, Any]:
    from nnst import evaluation

    trained = _train(task, share)
    book = _scan(task, trained["model"])
    truth = {_name(image): annotation for image, annotation in task.truth.items()}
    names = book.read("images", ["image"])["image"].to_pylist()
    pictures = pairing.pictures_of(book, [truth[name] for name in names])
    labels = task.book.plan["identity"]["model"]["labels"][1:]  # a small share may lack some
    found = evaluation.evaluate(pictures, labels, float("nan"), settings)
    document = found.to_dict()
    return {
        "share": share,
        "boxes": trained["boxes"],
        "pictures": len(pairing.trained_on(trained["model"])),
        "judged": found.pictures,
        "ap50": document["map50"],
        "ap30": document["map30"],
    }


def _train(task: CurveTask, share: float) -> dict[str, Any]:
    """The model of a share and its boxes: trained once, and noted in a file."""
    from workflows.__main__ import dispatch

    values = {**task.training, "share": share, "name": f"{task.training['name']}-curve"}
    values |= {"experiment": "", "parent": ""}  # those of the model's own run
    digest = task.book.plan["identity"]["model"]["digest"]
    mark = storage.sha256(storage.to_json({"model": digest, "training": values}))[:12]
    path = storage.join(task.folder, f"{mark}.json")
    if not storage.exists(path):
        document = dispatch("train", values).document
        kept = {"share": share, "model": document["model"], "boxes": document["boxes"]}
        storage.put(path, storage.to_json(kept))
    noted: dict[str, Any] = storage.read_json(path)
    return noted


def _scan(task: CurveTask, model: str) -> Ledger:
    """The scan of the copied pictures by one of the curve's models, done once."""
    from workflows.__main__ import dispatch

    pictures = _pictures_folder(task)
    mark = pictures.rpartition("-")[2]
    out = storage.join(task.folder, f"{storage.safe_name(model)}-{mark}")
    if not storage.exists(storage.join(out, "_SUCCESS")):
        decided = task.book.plan["identity"]["settings"]
        dispatch("scan", {**decided, "archive": pictures, "model": model, "out": out})
    return Ledger.open(out, "scan")


def advice(found: Sequence[Mapping[str, Any]]) -> str:
    """Whether more boxes promise more, in one sentence; "" where that is not known.

    The curve rises where its last step is more than 0.02 and more than half the interval there.
    """
    if len(found) < 2 or None in [point["ap50"]["value"] for point in found[-2:]]:
        return ""
    before, last = found[-2], found[-1]
    rise = last["ap50"]["value"] - before["ap50"]["value"]
    low, high = last["ap50"]["low"], last["ap50"]["high"]
    half = 0.0 if low is None else (high - low) / 2
    step = f"from {before['boxes']} to {last['boxes']} boxes"
    if rise > max(LEAST_RISE, half):
        return f"it still rises, by {rise:.3f} {step}: draw more boxes"
    if rise > LEAST_RISE:
        return f"it rises by {rise:.3f} {step}, less than its interval tells: judge more pictures"
    return f"it does not rise {step}: more boxes of the same kind promise little"
