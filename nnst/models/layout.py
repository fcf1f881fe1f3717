"""From what is to be found to the spec of a network, or of a cascade, that may learn it."""

from __future__ import annotations

from dataclasses import dataclass

from nnst.models.networks import ARCHITECTURES, CASCADE, count_parameters, stride_of, window_of
from nnst.records import ModelSpec

SCOUT_LABELS = ("background", "object")


@dataclass(frozen=True, slots=True)
class CascadeLayout:
    """What a cascade's windows are like; 0 and () are the architecture's own."""

    scout_area: float = 1024  # pixels of the window, at most
    scout_context: float = 1.0  # side of the window over side of the object in it
    scout_widths: tuple[int, ...] = ()
    judge_area: float = 4096
    judge_context: float = 1.35
    levels_per_octave: int = 0


def network_spec(
    architecture: str,
    labels: tuple[str, ...],
    window_hw: tuple[int, int],
    *,
    context: float,
    widths: tuple[int, ...] = (),
    levels_per_octave: int = 0,
) -> ModelSpec:
    """Of one network; what is not given is the architecture's own.

    Raises InputError where there can be no such network.
    """
    known = ARCHITECTURES[architecture]
    spec = ModelSpec(
        architecture=architecture,
        labels=labels,
        window_hw=window_hw,
        stride=stride_of(architecture, window_hw),
        widths=widths or known.widths,
        context=context,
        levels_per_octave=levels_per_octave or known.levels_per_octave,
    )
    count_parameters(spec)
    return spec


def cascade_spec(
    labels: tuple[str, ...], aspect: float, wanted: CascadeLayout | None = None
) -> ModelSpec:
    """Of a scout with windows of this aspect, and a judge that sees them larger, with more around.

    Raises InputError as `network_spec`.
    """
    wanted = wanted or CascadeLayout()
    scout = network_spec(
        "scout",
        SCOUT_LABELS,
        window_of("scout", aspect, wanted.scout_area),
        context=wanted.scout_context,
        widths=wanted.scout_widths,
        levels_per_octave=wanted.levels_per_octave,
    )
    judge = network_spec(
        "judge",
        labels,
        window_of("judge", aspect, wanted.judge_area),
        context=wanted.judge_context,
    )
    return ModelSpec(
        architecture=CASCADE,
        labels=labels,
        window_hw=scout.window_hw,
        stride=scout.stride,
        context=scout.context,
        levels_per_octave=scout.levels_per_octave,
        stages=(scout, judge),
    )
