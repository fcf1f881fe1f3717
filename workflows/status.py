"""`nnst status`: how far an output folder is, on any machine that can read it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from nnst import ledger, storage
from nnst.config import setting
from nnst.ledger import Standing
from workflows.commands import Options, Outcome


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """Settings of nnst status."""

    out: str = setting(help="an output folder of any verb, local or remote")


def run(settings: StatusConfig, options: Options) -> Outcome:
    """Read the ledger, and nothing else."""
    book = ledger.Ledger.open(storage.absolute(settings.out))
    found = ledger.standing(book)
    document = dataclasses.asdict(found) | {"out": book.out, "seconds_left": found.seconds_left}
    return Outcome(document, _text(book.out, found))


def _text(out: str, found: Standing) -> str:
    share = found.done / found.inputs if found.inputs else 1.0
    lines = [
        f"{out}: nnst {found.verb}, {_state(found)}",
        f"  {found.done:,} of {found.inputs:,} inputs have their row ({share:.1%}), "
        f"{found.shards_done:,} of {found.shards:,} shards are done",
    ]
    lines += [f"  {count:>6,} bad: {reason}" for reason, count in sorted(found.bad.items())]
    if found.rate:
        lines.append(f"  {found.rate:,.1f} a second of late{_left(found)}")
    return "\n".join(lines)


def _state(found: Standing) -> str:
    if found.is_done:
        return "finished"
    if found.driver:
        return f"at work: {found.driver}"
    return "not finished, and nobody is at work; the same command goes on"


def _left(found: Standing) -> str:
    if found.seconds_left is None or not found.driver:
        return ""
    hours, seconds = divmod(round(found.seconds_left), 3600)
    return f", {hours} h {seconds // 60:02d} min left" if hours else f", {seconds} s left"
