"""`nnst promote`: a version becomes the champion of its name, if it is better than that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnst.config import setting
from nnst.errors import InputError, JobFailed
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    from workflows.tracking import Judgement, ModelRef

# MLflow costs seconds to import: functions import what needs it.


@dataclass(frozen=True, slots=True)
class PromoteConfig:
    """Settings of nnst promote."""

    name: str = setting(help="the model's name")
    version: str = setting(help="a version, as 3, or an alias, as challenger")
    force: bool = setting(False, "promote it whatever the figures are, or if there are none")


@dataclass(frozen=True, slots=True)
class Gate:
    """What was found out before anything is changed; `why` speaks for the version, or against."""

    passed: bool
    why: str
    challenger: Judgement | None = None
    champion: Judgement | None = None


def run(settings: PromoteConfig, options: Options) -> Outcome:
    """Compare the version with the champion on the same truth, and move the alias."""
    from workflows import tracking

    tracking.check_model_name(settings.name)
    sign = "/" if settings.version.isdecimal() else "@"
    version = tracking.resolve(f"{settings.name}{sign}{settings.version}")
    before = tracking.champion_version(settings.name)
    champion = tracking.resolve(f"{settings.name}/{before}") if before else None
    if champion is not None and champion.version == version.version:
        document = _document(version, champion, Gate(True, "it is the champion"), False)
        return Outcome(document, f"{version} is the champion already")
    gate = _gate(version, champion, settings.force)
    if not gate.passed and not settings.force:
        remedy = f"keep {champion}, or give --force"
        raise JobFailed(f"{version} is not promoted: {gate.why}", remedy)
    forced = not gate.passed
    document = _document(version, champion, gate, forced)
    if options.dry_run:
        return Outcome(document, f"would make {version} the champion: {gate.why}")
    tracking.promote(settings.name, version.version, f"forced: {gate.why}" if forced else gate.why)
    return Outcome(document, _describe(version, gate, forced))


def _gate(version: ModelRef, champion: ModelRef | None, force: bool) -> Gate:
    """Whether the version is better. Raises InputError when that is not known, unless forced."""
    from workflows import tracking

    if champion is None:
        return Gate(True, f"{version.name} had no champion")
    mine = tracking.judgements(version.name, version.digest)
    theirs = tracking.judgements(version.name, champion.digest)
    pair = _comparable(mine, theirs)
    if pair is None:
        what, remedy = _missing(version, champion, mine, theirs)
        if not force:
            raise InputError(what, remedy)
        return Gate(False, what)
    ours, other = pair
    better = ours.map50 > other.map50
    why = (
        f"{'better' if better else 'not better'} than {champion} on {ours.truth}: average "
        f"precision {_figure(ours)} against {_figure(other)}, on {ours.pictures} pictures that "
        "neither was trained on"
    )
    return Gate(better, why, ours, other)


def _comparable(
    mine: Sequence[Judgement], theirs: Sequence[Judgement]
) -> tuple[Judgement, Judgement] | None:
    """The newest evaluation that the other version has its equal to, and that one.

    Equal are truth, pictures that count and the way to judge.
    """
    known = {judgement.same: judgement for judgement in reversed(theirs) if _is_known(judgement)}
    for judgement in mine:
        if _is_known(judgement) and judgement.same in known:
            return judgement, known[judgement.same]
    return None


def _is_known(judgement: Judgement) -> bool:
    return judgement.map50 == judgement.map50  # not nan


def _missing(
    version: ModelRef, champion: ModelRef, mine: Sequence[Judgement], theirs: Sequence[Judgement]
) -> tuple[str, str]:
    """What stands in the way of a comparison, and what to do about it."""
    what = f"{version} and the champion {champion} were not evaluated on the same truth"
    shared = {each.truth_digest: each.truth for each in mine}
    both = [each.truth for each in theirs if each.truth_digest in shared]
    if both:
        what = (
            f"of {both[0]} other pictures are new to {version} than to the champion {champion}, "
            "or none is, or they were judged in another way"
        )
        return what, "evaluate both in the same way on pictures that neither was trained on"
    lacking = [str(ref) for ref, known in ((version, mine), (champion, theirs)) if not known]
    if lacking:
        what = f"there is no evaluation of {' nor of '.join(lacking)}"
    commands = f"nnst scan ARCHIVE --model {lacking[0] if lacking else version} --out SCAN"
    return what, f"for each of the two run {commands}, then nnst evaluate SCAN TRUTH"


def _figure(judgement: Judgement) -> str:
    interval = f" ({judgement.low:.3f} to {judgement.high:.3f})" if judgement.low >= 0 else ""
    return f"{judgement.map50:.4f}{interval}"


def _document(
    version: ModelRef, champion: ModelRef | None, gate: Gate, forced: bool
) -> dict[str, Any]:
    return {
        "model": str(version),
        "champion_before": str(champion) if champion else None,
        "why": gate.why,
        "forced": forced,
        "challenger": gate.challenger.to_dict() if gate.challenger else None,
        "champion": gate.champion.to_dict() if gate.champion else None,
    }


def _describe(version: ModelRef, gate: Gate, forced: bool) -> str:
    return "\n".join(
        [
            f"{version} is the champion of {version.name} now{', by force' if forced else ''}",
            f"  {gate.why}",
            f"next: nnst scan ARCHIVE --model {version.name} --out work/scan",
        ]
    )
