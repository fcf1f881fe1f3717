"""How far the work on an output folder is, told from the folder alone, on any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnst.ledger import lease
from nnst.ledger.folder import Ledger

_RECENT = 600.0  # seconds of work that the rate is taken from


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the work on a folder stands."""

    verb: str
    inputs: int
    done: int  # inputs that have their row
    bad: Mapping[str, int]  # of these, by reason
    shards: int
    shards_done: int
    is_done: bool  # committed as a whole
    driver: str  # who is at work; "" where nobody is, or nobody who can be seen
    rate: float | None  # inputs a second of late; None where too little was noted

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None where nobody knows."""
        if self.is_done or not self.rate:
            return None
        return (self.inputs - self.done) / self.rate


def standing(ledger: Ledger) -> Standing:
    """Where the work on the ledger's folder stands."""
    planned, totals = ledger.planned(), ledger.totals()
    return Standing(
        verb=str(ledger.plan["identity"]["verb"]),
        inputs=sum(planned.values()),
        done=totals["rows_in"],
        bad=totals["bad"],
        shards=len(planned),
        shards_done=totals["shards"],
        is_done=ledger.is_done(),
        driver=lease.holder(ledger.out),
        rate=_rate(ledger.events(), planned),
    )


def _rate(events: Sequence[Mapping[str, Any]], planned: Mapping[int, int]) -> float | None:
    """Inputs a second of late. The first of the shards only says when the others began."""
    done = [event for event in events if "seconds" in event and event.get("shard") in planned]
    if not done:
        return None
    recent = [event for event in done if event["time"] >= done[-1]["time"] - _RECENT]
    first, *others = recent
    began = first["time"] if others else first["time"] - first["seconds"]
    span = recent[-1]["time"] - began
    counted = others or [first]
    return sum(planned[event["shard"]] for event in counted) / span if span > 0 else None
