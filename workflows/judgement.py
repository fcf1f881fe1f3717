"""An evaluation in MLflow: its figures in the scan's run, and a run of its own below that.

The run of its own is what `nnst promote` looks for: it names the model, the truth and the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnst import ledger, storage
from nnst.errors import InputError
from workflows import pairing, summary
from workflows.pairing import Judged

if TYPE_CHECKING:
    from nnst.evaluation import Evaluation
    from workflows.tracking import Run

_PATIENCE_S = 30.0  # for MLflow: a person waits, and can ask again


@dataclass(frozen=True, slots=True)
class Figures:
    """What an evaluation came to."""

    whole: Evaluation
    held_out: Evaluation | None  # pictures that the model was not trained on, if it was on others
    unseen_digest: str  # which pictures count that it was not trained on
    all_unseen: bool  # whether that is all of them

    @property
    def unseen(self) -> Evaluation | None:
        """The figures on pictures that the model was not trained on; None: there is none."""
        return self.whole if self.all_unseen else self.held_out


@dataclass(frozen=True, slots=True)
class Recorded:
    """What decided the figures."""

    params: Mapping[str, Any]
    truth_sha256: str
    truth_counts: Mapping[str, int]


def log(
    book: ledger.Ledger,
    judged: Judged,
    figures: Figures,
    document: Mapping[str, Any],
    recorded: Recorded,
) -> list[str]:
    """What could not be recorded, which is no reason to fail: a line each."""
    from workflows import plots, tracking

    notes, patience = book.notes, tracking.TrackingSettings(finish=_PATIENCE_S)
    whole, held_out = figures.whole, figures.held_out
    try:
        with tracking.resume(notes["run_id"], notes.get("run_mark", ""), patience) as run:
            run.log_metrics(summary.metrics(whole))
            run.log_metrics(summary.metrics(held_out, "held_out_") if held_out else {})
            run.log_bytes("evaluation.json", storage.to_json(document))
            if points := document["learning_curve"]:
                run.log_bytes("plots/learning_curve.png", plots.learning_curve(points))
        if run.problems:  # it would only be waited for once more
            return [*run.problems, "the evaluation has no run of its own: evaluate once more"]
        with _start(book, run, figures, recorded, patience) as own:
            _log_own(own, judged, figures, document)
        return [*run.problems, *own.problems]
    except InputError as error:
        return [str(error)]


def _start(
    book: ledger.Ledger, run: Run, figures: Figures, recorded: Recorded, patience: Any
) -> Run:
    """The evaluation's run, below the scan's; the one of before for the same truth and settings."""
    from workflows import tracking

    model, decided = book.plan["identity"]["model"], recorded.params
    truth = str(decided["truth"])
    scan_run = run.run_id or run.mark
    identity = {**decided, "scan_run": scan_run, "truth_sha256": recorded.truth_sha256}
    mark = storage.sha256(storage.to_json(identity))[:32]
    own = tracking.start(
        tracking.experiment_of(model["name"]),
        f"evaluate {pairing.model_of(book)} on {storage.safe_name(truth.rpartition('/')[2])}",
        params=decided,
        tags={
            "verb": "evaluate",
            "model": pairing.model_of(book),
            "model_digest": model["digest"],
            "labels": ", ".join(model["labels"][1:]),
            "scan": book.out,
            "scan_run_id": run.run_id,
            "truth_digest": recorded.truth_sha256,
            "unseen_digest": figures.unseen_digest,
        },
        parent=run.run_id or None,
        mark=mark,
        patience=patience,
    )
    name = storage.safe_name(truth.rpartition("/")[2])
    own.log_dataset(name, recorded.truth_sha256, truth, recorded.truth_counts, "evaluation")
    return own


def _log_own(own: Run, judged: Judged, figures: Figures, document: Mapping[str, Any]) -> None:
    from nnst import evaluation
    from workflows import plots

    whole, unseen = figures.whole, figures.unseen
    own.log_metrics(summary.metrics(whole) | summary.interval_metrics("map50", whole.map50))
    own.log_metrics({"pictures": whole.pictures, "unreadable": whole.unreadable})
    if unseen is not None:
        own.log_metrics(summary.metrics(unseen, "unseen_"))
        own.log_metrics(summary.interval_metrics("unseen_map50", unseen.map50))
        own.log_metrics({"unseen_pictures": unseen.pictures})
    own.log_bytes("evaluation.json", storage.to_json(document))
    own.log_bytes("plots/precision_recall.png", plots.precision_recall(whole, "Judged pictures"))
    listed = [picture for picture in judged.pictures if picture.truth is not None]
    labels = [item.label for item in whole.labels]
    scores, is_true, _ = evaluation.pooled(listed, labels)
    own.log_bytes("plots/scores.png", plots.scores(scores, is_true, whole.threshold))
    own.log_bytes("plots/calibration.png", plots.calibration(scores, is_true))
