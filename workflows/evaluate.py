"""`nnst evaluate`: a scan against truth -> average precision, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from nnst import images, imglab, ledger, records, storage
from nnst.config import setting
from nnst.errors import ImageError, InputError
from nnst.records import Annotation
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    from nnst.evaluation import Estimate, Evaluation, JudgedPicture, LabelEvaluation


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """Settings of nnst evaluate."""

    scan: str = setting(help="the output folder of nnst scan")
    truth: str = setting(help="an imglab XML file")
    unlisted: Literal["skip", "negative"] = setting(
        "skip", "what a scanned picture is that the truth does not list: skip or negative"
    )
    false_positives_per_picture: float = setting(0.1, "the rate at which recall is read")
    count_difficult: bool = setting(False, "judge difficult boxes too, as PASCAL VOC does not")
    resamples: int = setting(1000, "bootstrap resamples for the intervals")
    seed: int = setting(0, "of the bootstrap")


@dataclass(frozen=True, slots=True)
class _Truth:
    """The truth's pictures, known by content where they can be opened."""

    annotations: tuple[Annotation, ...]
    sha256: str


def run(settings: EvaluateConfig, options: Options) -> Outcome:
    """Meet, match, count; write the figures beside the scan and into its run."""
    book = ledger.Ledger.open(storage.absolute(settings.scan), "scan")
    truth = _read_truth(settings.truth)
    pictures, unscanned = _judged(book, truth, settings)
    _check_labels(book, truth, settings)
    path = storage.join(book.out, "evaluation", f"{truth.sha256[:12]}.json")
    if options.dry_run:
        text = f"would judge {len(pictures)} pictures and write {path}"
        return Outcome({"pictures": len(pictures), "evaluation": path}, text)
    whole = _evaluate(book, pictures, settings)
    held_out = _held_out(book, pictures, settings)
    document = whole.to_dict() | {
        "truth": storage.absolute(settings.truth),
        "scan": book.out,
        "not_scanned": unscanned,
        "held_out": held_out.to_dict() if held_out else None,
    }
    storage.put(path, storage.to_json(document))
    problems = _log(book, whole, held_out, document)
    document |= {"evaluation": path, "problems": problems}
    return Outcome(document, _describe(whole, held_out, document))


def _read_truth(path: str) -> _Truth:
    """The XML's annotations; a picture that can be opened gets its content's hash."""
    dataset = imglab.read(path)
    if not dataset.images:
        raise InputError(f"{path} lists no picture", "give the truth of the scanned pictures")
    found = [
        replace(imglab.annotation(image), image_id=_content(dataset, image))
        for image in dataset.images
    ]
    return _Truth(tuple(found), storage.sha256(Path(path).read_bytes()))


def _check_labels(book: ledger.Ledger, truth: _Truth, settings: EvaluateConfig) -> None:
    """Raise when the truth's boxes are all of other things than the model looks for."""
    wanted = book.plan["identity"]["model"]["labels"][1:]
    drawn = sorted({label for item in truth.annotations for label in item.labels})
    if drawn and not set(drawn) & set(wanted):
        raise InputError(
            f"{settings.truth} has boxes of {', '.join(drawn[:5])}, the model of {settings.scan} "
            f"finds {', '.join(wanted)}",
            "give truth of what the model finds",
        )


def _content(dataset: imglab.Dataset, image: imglab.Image) -> str:
    try:
        return images.content_hash(dataset.resolve(image).read_bytes())
    except (ImageError, OSError):
        return ""  # met by its name


def _judged(
    book: ledger.Ledger, truth: _Truth, settings: EvaluateConfig
) -> tuple[list[JudgedPicture], int]:
    """Every picture of the scan with its truth, and how many of the truth were not scanned."""
    from nnst import evaluation

    scanned = book.read("images", ["image", "image_id", "status"]).to_pylist()
    named = [(row["image"], row["image_id"] or "") for row in scanned]
    listed = [(item.image, item.image_id) for item in truth.annotations]
    pairing = evaluation.meet(named, listed, settings.scan, settings.truth)
    detections = _by_image(book.read("detections"))
    nothing = records.DETECTIONS.empty_table()
    pictures = []
    for row, index in zip(scanned, pairing.truth_of, strict=True):
        mine = detections.get(row["image"], nothing)
        pictures.append(
            evaluation.JudgedPicture(
                image=row["image"],
                boxes=np.stack(
                    [mine[name].to_numpy() for name in ("x0", "y0", "x1", "y1")], axis=1
                ),
                scores=mine["score"].to_numpy(),
                labels=np.array(mine["label"].to_pylist(), np.str_),
                truth=None if index is None else truth.annotations[index],
                readable=row["status"] == records.OK,
            )
        )
    return pictures, len(pairing.unscanned)


def _by_image(detections: pa.Table) -> dict[str, pa.Table]:
    """The rows of each picture; a picture's rows stand together."""
    names = detections["image"].to_pylist()
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    ends = [*starts[1:], len(names)]
    return {
        names[start]: detections.slice(start, end - start)
        for start, end in zip(starts, ends, strict=True)
    }


def _evaluate(
    book: ledger.Ledger, pictures: Sequence[JudgedPicture], settings: EvaluateConfig
) -> Evaluation:
    from nnst import evaluation

    model = book.plan["identity"]["model"]
    chosen = evaluation.EvaluationSettings(
        unlisted=settings.unlisted,
        false_positives_per_picture=settings.false_positives_per_picture,
        count_difficult=settings.count_difficult,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return evaluation.evaluate(pictures, model["labels"][1:], model["threshold"], chosen)


def _held_out(
    book: ledger.Ledger, pictures: Sequence[JudgedPicture], settings: EvaluateConfig
) -> Evaluation | None:
    """The same figures on the pictures that the model was not trained on, if it was on some."""
    trained = _trained_on(book)
    ids = dict(
        zip(
            *(column.to_pylist() for column in book.read("images", ["image", "image_id"]).columns),
            strict=True,
        )
    )
    unseen = [picture for picture in pictures if ids[picture.image] not in trained]
    known = [picture for picture in unseen if picture.truth is not None]
    if not trained or len(unseen) == len(pictures) or not known:
        return None
    return _evaluate(book, unseen, settings)


def _trained_on(book: ledger.Ledger) -> set[str]:
    """Content hashes of the pictures that the scan's model was trained on, as far as is known."""
    from nnst import models
    from workflows import tracking

    model = book.plan["identity"]["model"]
    name = f"{model['name']}/{model['version']}" if model["version"] else model["name"]
    try:
        provenance = models.load(tracking.resolve(name).folder).provenance
    except InputError:
        return set()  # the model has gone since
    return set(provenance.get("trained_on", ()))


def _log(
    book: ledger.Ledger,
    whole: Evaluation,
    held_out: Evaluation | None,
    document: Mapping[str, Any],
) -> list[str]:
    """Put the figures into the scan's run; what cannot be is told, and no reason to fail."""
    from workflows import tracking

    try:
        with tracking.resume(book.notes["run_id"]) as run:
            run.log_metrics(_metrics(whole, ""))
            run.log_metrics(_metrics(held_out, "held_out_") if held_out else {})
            run.log_bytes("evaluation.json", storage.to_json(document))
        return run.problems
    except InputError as error:
        return [str(error)]


def _metrics(found: Evaluation, prefix: str) -> dict[str, float]:
    metrics = {f"{prefix}map50": found.map50.value}
    for item in found.labels:
        label = storage.safe_name(item.label)
        metrics |= {
            f"{prefix}ap50_{label}": item.ap50.value,
            f"{prefix}ap30_{label}": item.ap30.value,
            f"{prefix}image_ap_{label}": item.image_ap.value,
            f"{prefix}recall_at_fp_rate_{label}": item.recall_at_fp_rate.value,
            f"{prefix}precision_{label}": item.precision,
            f"{prefix}recall_{label}": item.recall,
        }
    return metrics


def _describe(whole: Evaluation, held_out: Evaluation | None, document: Mapping[str, Any]) -> str:
    lines = [*_lines(whole, f"{whole.pictures} pictures judged")]
    if whole.skipped:
        lines.append(f"  {whole.skipped} scanned pictures are not in the truth: skipped")
    if document["not_scanned"]:
        lines.append(f"  {document['not_scanned']} pictures of the truth were not scanned")
    if held_out:
        title = f"of these, {held_out.pictures} that the model was not trained on"
        lines += _lines(held_out, title)
    lines += [f"note: {problem}" for problem in document["problems"]]
    lines += [
        f"evaluation: {document['evaluation']}",
        f"next:       nnst report {document['scan']}",
    ]
    return "\n".join(lines)


def _lines(found: Evaluation, title: str) -> Iterator[str]:
    yield title
    for item in found.labels:
        yield from _label_lines(item, found)


def _label_lines(item: LabelEvaluation, found: Evaluation) -> Iterator[str]:
    rate = found.settings.false_positives_per_picture
    yield f"  {item.label}: {item.truth_boxes} boxes in the truth, {item.ignored_boxes} set aside"
    yield f"    average precision at IoU 0.5    {_interval(item.ap50)}"
    yield f"    average precision at IoU 0.3    {_interval(item.ap30)}"
    yield f"    average precision of pictures   {_interval(item.image_ap)}"
    yield f"    recall at {rate:g} false a picture  {_interval(item.recall_at_fp_rate)}"
    yield (
        f"    at the threshold {found.threshold:.2f}: {item.tp} found, {item.missed} missed, "
        f"{item.fp} false"
    )


def _interval(estimate: Estimate) -> str:
    if np.isnan(estimate.value):
        return "  -"
    if np.isnan(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f}  (95 %: {estimate.low:.3f} to {estimate.high:.3f})"
