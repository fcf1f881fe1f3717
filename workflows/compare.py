"""`nnst compare`: two scans of the same pictures -> what one finds and the other does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnst import storage
from nnst.config import setting
from nnst.errors import InputError
from workflows import opponents
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    from nnst.report.comparison import Compared, ComparedPicture
    from workflows.opponents import Side

_PATIENCE_S = 30.0  # for MLflow: a person waits


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """Settings of nnst compare."""

    a: str = setting(help="a scan's folder, the id of a run, or a model version as NAME/1")
    b: str = setting(help="the other one, of the same pictures")
    out: str = setting("", "the folder for the page; by default compare/ in the scan of A")
    iou: float = setting(0.5, "overlap from which on two boxes are of the same logo")
    thumbnails: int = setting(200, "pictures shown, those that differ most")

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou must be above 0 and at most 1, got {self.iou}")
        if self.thumbnails < 0:
            raise ValueError(f"thumbnails must be 0 or more, got {self.thumbnails}")


def run(settings: CompareConfig, options: Options) -> Outcome:
    """Find the two scans, meet their pictures by content, write the page, record it."""
    from nnst.report import comparison

    a, b = opponents.find(settings.a, settings.b)
    out = _folder(settings, a, b)
    index = storage.join(out, "index.html")
    if options.dry_run:
        text = f"would compare {a.book.out} with {b.book.out} in {index}"
        return Outcome({"a": a.book.out, "b": b.book.out, "page": index}, text)
    compared = comparison.compare(a.book, b.book, settings.iou)
    if not compared.counts["pictures"]["both"]:
        what = f"{a.book.out} and {b.book.out} have no picture in common"
        raise InputError(what, "compare scans of the same archive")
    names = _names(a, b)
    document = {
        "a": _facts(a, names[0]),
        "b": _facts(b, names[1]),
        "iou": settings.iou,
        **compared.counts,
    }
    page = comparison.page_of(a.book, document, compared, settings.thumbnails)
    document |= {"differing": [each.to_dict() for each in compared.pictures if each.differs]}
    storage.put(storage.join(out, "comparison.json"), storage.to_json(document))
    storage.put(index, page)
    problems = _log(a, b, page, document)
    document |= {"page": index, "problems": problems}
    return Outcome(document, _describe(document, compared))


def _folder(settings: CompareConfig, a: Side, b: Side) -> str:
    if settings.out:
        return storage.absolute(settings.out)
    mark = storage.sha256(b.book.out.encode())[:8]
    name = f"{storage.safe_name(b.book.out.rstrip('/').rpartition('/')[2], 60)}-{mark}"
    return storage.join(a.book.out, "compare", name)


def _names(a: Side, b: Side) -> tuple[str, str]:
    """What the two are called: by their models, or where that is one by their folders."""
    if a.model != b.model:
        return a.model, b.model
    return a.book.out, b.book.out


def _facts(side: Side, name: str) -> dict[str, Any]:
    model, notes = side.book.plan["identity"]["model"], side.book.notes
    return {
        "name": name,
        "scan": side.book.out,
        "model": side.model,
        "digest": model["digest"],
        "threshold": float(model["threshold"]),
        "run_id": notes.get("run_id") or "",
        "model_run_id": notes.get("model_run_id") or "",
    }


def _log(a: Side, b: Side, page: bytes, document: Mapping[str, Any]) -> list[str]:
    """Put page and figures into both scans' runs; what cannot be is told, and no failure."""
    from workflows import tracking

    patience = tracking.TrackingSettings(finish=_PATIENCE_S)
    problems = []
    for mine, other in ((a, b), (b, a)):
        name = f"compare/{storage.safe_name(other.model)}-{other.book.fingerprint[:8]}"
        notes = mine.book.notes
        try:
            run_id, mark = notes.get("run_id") or "", notes.get("run_mark", "")
            with tracking.resume(run_id, mark, patience) as run:
                run.log_bytes(f"{name}.html", page)
                run.log_bytes(f"{name}.json", storage.to_json(document))
            problems += run.problems
        except InputError as error:
            problems.append(str(error))
    return problems


def _describe(document: Mapping[str, Any], compared: Compared) -> str:
    a, b = document["a"], document["b"]
    pictures, found = document["pictures"], document["found"]
    logos, change = document["logos"], document["change"]
    lines = [
        f"A: {a['name']}, from a score of {a['threshold']:.2f} on",
        f"B: {b['name']}, from a score of {b['threshold']:.2f} on",
        f"{'':<24}{'both':>9}{'only A':>9}{'only B':>9}",
        *(
            f"{name:<24}{row['both']:>9,}{row['a']:>9,}{row['b']:>9,}"
            for name, row in (("pictures", pictures), ("with a logo", found), ("logos", logos))
        ),
    ]
    if change["mean"] is not None:
        lines.append(
            f"scores of what both found: B's are {change['mean']:+.3f} on average, from "
            f"{change['least']:+.3f} to {change['most']:+.3f}"
        )
    lines += [f"  {_line(each)}" for each in compared.pictures[:5] if each.differs]
    lines += [f"note: {problem}" for problem in document["problems"]]
    return "\n".join([*lines, f"page: {document['page']}"])


def _line(picture: ComparedPicture) -> str:
    """One picture that differs: what only one of the two found in it."""
    lonely = [pair for pair in picture.logos if pair.kind != "both"]
    told = [
        f"only {pair.kind.upper()} {pair.score_a if pair.kind == 'a' else pair.score_b:.2f}"
        f" ({_seen(pair.score_b if pair.kind == 'a' else pair.score_a)})"
        for pair in lonely[:3]
    ]
    more = f" and {len(lonely) - 3} more" if len(lonely) > 3 else ""
    return f"{picture.image}: {', '.join(told)}{more}"


def _seen(score: float | None) -> str:
    return "the other saw nothing" if score is None else f"the other {score:.2f}"
