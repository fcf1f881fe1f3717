"""`nnst evaluate`: a scan against truth -> average precision, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nnst import config, ledger, storage
from nnst.config import setting
from nnst.errors import InputError
from workflows import judgement, learning_curve, pairing, summary
from workflows.commands import Options, Outcome
from workflows.judgement import Figures, Recorded
from workflows.pairing import Judged, Truth

if TYPE_CHECKING:
    from nnst.evaluation import Evaluation, EvaluationSettings, JudgedPicture, PrecisionTarget


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """Settings of nnst evaluate."""

    scan: str = setting(help="the output folder of nnst scan")
    truth: str = setting(help="an imglab XML file, or VOC, COCO or YOLO truth")
    unlisted: Literal["skip", "negative"] = setting(
        "skip", "what a scanned picture is that the truth does not list: skip or negative"
    )
    target_precision: float | None = setting(
        None, "judge at the least threshold with this precision, not at the model's own"
    )
    learning_curve: bool = setting(
        False, "train the model anew with fewer boxes: would it help to draw more?"
    )
    learning_curve_shares: tuple[float, ...] = setting(
        (0.25, 0.5, 1.0), "shares of the training pictures that the curve learns from"
    )
    false_positives_per_picture: float = setting(0.1, "the rate at which recall is read")
    false_positives_per_100_megapixels: float = setting(1.0, "the other rate for recall")
    pictures: str = setting("", "the folder of VOC's or COCO's pictures, if not a usual one")
    boxes_upright: bool = setting(
        False, "boxes of VOC, COCO or YOLO truth are those of pictures turned by EXIF"
    )
    count_difficult: bool = setting(False, "judge difficult boxes too, as PASCAL VOC does not")
    resamples: int = setting(1000, "bootstrap resamples for the intervals")
    seed: int = setting(0, "of the bootstrap")

    def __post_init__(self) -> None:
        if self.target_precision is not None and not 0 < self.target_precision <= 1:
            raise ValueError(
                f"target_precision must be above 0 and at most 1, got {self.target_precision}"
            )
        if not self.learning_curve_shares or not all(
            0 < s <= 1 for s in self.learning_curve_shares
        ):
            raise ValueError("learning_curve_shares must be above 0 and at most 1, one at least")
        if min(self.false_positives_per_picture, self.false_positives_per_100_megapixels) < 0:
            raise ValueError("rates of false positives must be 0 or more")
        if self.resamples < 0 or self.seed < 0:
            raise ValueError("resamples and seed must be 0 or more")


def run(settings: EvaluateConfig, options: Options) -> Outcome:
    """Meet, match, count; write the figures beside the scan and into its run."""
    book = ledger.Ledger.open(storage.absolute(settings.scan), "scan")
    truth = pairing.read_truth(settings.truth, settings.pictures, settings.boxes_upright)
    judged = pairing.judged(book, truth)
    _check_labels(book, truth, settings)
    path = storage.join(book.out, "evaluation", f"{truth.sha256[:12]}.json")
    task = learning_curve.plan(book, judged) if settings.learning_curve else None
    if options.dry_run:
        return _dry_run(settings, judged, path)
    if options.fresh:
        storage.remove(learning_curve.curve_folder(book))
    points = None
    if task is not None:
        shares = sorted(set(settings.learning_curve_shares))
        points = learning_curve.points(task, shares, _chosen(settings))
    document, figures = _judge(book, judged, settings)
    document |= {
        "truth": storage.absolute(settings.truth),
        "scan": book.out,
        "learning_curve": points,
    }
    storage.put(path, storage.to_json(document))
    problems = judgement.log(book, judged, figures, document, _recorded(settings, truth))
    document |= {"evaluation": path, "problems": problems}
    return Outcome(document, _describe(figures.whole, figures.held_out, document))


def _check_labels(book: ledger.Ledger, truth: Truth, settings: EvaluateConfig) -> None:
    """Raise when the truth's boxes are all of other things than the model looks for."""
    wanted = book.plan["identity"]["model"]["labels"][1:]
    drawn = sorted({label for item in truth.annotations for label in item.labels})
    if drawn and not set(drawn) & set(wanted):
        raise InputError(
            f"{settings.truth} has boxes of {', '.join(drawn[:5])}, the model of {settings.scan} "
            f"finds {', '.join(wanted)}",
            "give truth of what the model finds",
        )


def _dry_run(settings: EvaluateConfig, judged: Judged, path: str) -> Outcome:
    count = len(judged.pictures)
    text = f"would judge {count} pictures and write {path}"
    if settings.learning_curve:
        text += f", and train {len(set(settings.learning_curve_shares))} models for the curve"
    return Outcome({"pictures": count, "evaluation": path}, text)


def _judge(
    book: ledger.Ledger, judged: Judged, settings: EvaluateConfig
) -> tuple[dict[str, Any], Figures]:
    """The figures as JSON, of all pictures, and of those that the model was not trained on."""
    model = book.plan["identity"]["model"]
    threshold, threshold_from = float(model["threshold"]), "model"
    target = _target(book, judged.pictures, settings)
    if target is not None:
        threshold, threshold_from = target.threshold, f"target precision {target.target:g}"
    whole = _evaluate(book, judged.pictures, threshold, settings)
    trained = pairing.trained_on(pairing.model_of(book))
    held_out = _held_out(book, judged, trained, threshold, settings)
    document = whole.to_dict() | {
        "threshold_from": threshold_from,
        "target_precision": target.to_dict() if target else None,
        "not_scanned": judged.not_scanned,
        "held_out": held_out.to_dict() if held_out else None,
    }
    counted = settings.unlisted == "negative"
    return document, Figures(whole, held_out, *judged.unseen_digest(trained, counted))


def _recorded(settings: EvaluateConfig, truth: Truth) -> Recorded:
    """What decided the figures, as the run of the evaluation has it."""
    chosen = config.to_dict(settings)
    del chosen["learning_curve"], chosen["learning_curve_shares"]
    places = {name: storage.absolute(chosen[name]) for name in ("scan", "truth")}
    boxes = sum(len(item) for item in truth.annotations)
    counts = {"pictures": len(truth.annotations), "boxes": boxes}
    return Recorded(chosen | places, truth.sha256, counts)


def _target(
    book: ledger.Ledger, pictures: Sequence[JudgedPicture], settings: EvaluateConfig
) -> PrecisionTarget | None:
    """The threshold for the precision that is wanted, if one is."""
    from nnst import evaluation

    if settings.target_precision is None:
        return None
    labels = book.plan["identity"]["model"]["labels"][1:]
    wanted = settings.target_precision
    return evaluation.least_threshold(pictures, labels, wanted, _chosen(settings))


def _chosen(settings: EvaluateConfig) -> EvaluationSettings:
    from nnst import evaluation

    return evaluation.EvaluationSettings(
        unlisted=settings.unlisted,
        false_positives_per_picture=settings.false_positives_per_picture,
        false_positives_per_100_megapixels=settings.false_positives_per_100_megapixels,
        count_difficult=settings.count_difficult,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def _evaluate(
    book: ledger.Ledger,
    pictures: Sequence[JudgedPicture],
    threshold: float,
    settings: EvaluateConfig,
) -> Evaluation:
    from nnst import evaluation

    labels = book.plan["identity"]["model"]["labels"][1:]
    return evaluation.evaluate(pictures, labels, threshold, _chosen(settings))


def _held_out(
    book: ledger.Ledger,
    judged: Judged,
    trained: set[str],
    threshold: float,
    settings: EvaluateConfig,
) -> Evaluation | None:
    """The same figures on the pictures that the model was not trained on, if it was on some."""
    unseen = judged.unseen(trained)
    known = [picture for picture in unseen if picture.truth is not None]
    if not trained or len(unseen) == len(judged.pictures) or not known:
        return None
    return _evaluate(book, unseen, threshold, settings)


def _describe(whole: Evaluation, held_out: Evaluation | None, document: Mapping[str, Any]) -> str:
    lines = [*summary.lines(whole, f"{whole.pictures} pictures judged")]
    if whole.skipped:
        lines.append(f"  {whole.skipped} scanned pictures are not in the truth: skipped")
    if document["not_scanned"]:
        lines.append(f"  {document['not_scanned']} pictures of the truth were not scanned")
    if held_out:
        title = f"of these, {held_out.pictures} that the model was not trained on"
        lines += summary.lines(held_out, title)
    if document["target_precision"]:
        lines.append(summary.target_line(document["target_precision"]))
        if held_out:
            lines.append("  chosen on all judged pictures, those that were trained on included")
    if points := document["learning_curve"]:
        lines += summary.curve_lines(points, learning_curve.advice(points))
    lines += [f"note: {problem}" for problem in document["problems"]]
    lines += [
        f"evaluation: {document['evaluation']}",
        f"next:       nnst report {document['scan']}{_threshold_flag(document)}",
    ]
    return "\n".join(lines)


def _threshold_flag(document: Mapping[str, Any]) -> str:
    target = document["target_precision"] or {}
    return f" --threshold {target['threshold']}" if target.get("threshold") is not None else ""
