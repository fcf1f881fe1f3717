"""The networks by name: their layers, window and stride, and what they cost.

None has inner padding, so laid over a whole level a network gives the score of every window.
B batch, K classes (background first), H W pixels, h w cells of the score map.
"""

from __future__ import annotations

import difflib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nnst.errors import InputError
from nnst.records import ModelSpec

BOX_DELTAS = 4  # outputs of a judge after those of the labels: dx, dy, log of dw, log of dh
MAX_PARAMETERS = 100_000_000
MAX_WINDOW = 1024  # pixels a side
MAX_WIDTH = 8192  # channels of a layer
MAX_LABELS = 20_000

Layers = OrderedDict[str, nn.Module]


@dataclass(frozen=True, slots=True)
class Architecture:
    """What one name stands for."""

    layers: Callable[[ModelSpec, tuple[int, ...]], Layers]  # from a spec and its widths
    widths: tuple[int, ...]  # channels of the layers, where the spec does not say
    stride: int  # level pixels between neighbouring windows
    smallest_window: int  # pixels a side
    short_side: int = MAX_WINDOW  # of a window's shorter side more pixels than this are no use
    coarse_from: int = MAX_WINDOW + 1  # shorter side from which on every second window will do
    levels_per_octave: int = 4  # sizes of an object between which a window need not tell apart
    multiple: int = 1  # what a side of the window is a multiple of
    normalised: bool = False  # whether it is trained with batch normalisation, see `norms`


def _mlp(spec: ModelSpec, widths: tuple[int, ...]) -> Layers:
    """The talk's dense network; a convolution as large as the window gives the same numbers."""
    return OrderedDict(
        hidden=nn.Conv2d(3, widths[0], spec.window_hw, stride=spec.stride),
        relu=nn.ReLU(inplace=True),
        score=nn.Conv2d(widths[0], len(spec.labels), 1),
    )


def _lenet(spec: ModelSpec, widths: tuple[int, ...]) -> Layers:
    """The talk's convolutional network; the dense part covers the whole of a window's last map."""
    height, width = (((side - 4) // 2 - 4) // 2 for side in spec.window_hw)
    return OrderedDict(
        conv1=nn.Conv2d(3, widths[0], 5),
        relu1=nn.ReLU(inplace=True),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(widths[0], widths[1], 5),
        relu2=nn.ReLU(inplace=True),
        pool2=nn.MaxPool2d(2),
        dense=nn.Conv2d(widths[1], widths[2], (height, width)),
        relu3=nn.ReLU(inplace=True),
        score=nn.Conv2d(widths[2], len(spec.labels), 1),
    )


def _scout(spec: ModelSpec, widths: tuple[int, ...]) -> Layers:
    """Few channels at a quarter of the level's size, or from then on an eighth; rows come last.

    The stem looks at 4 x 4 pixels once, so the window's sides are multiples of 4.
    """
    step = spec.stride // 4
    sides = [side // 4 for side in spec.window_hw]
    first = [min(3, side) for side in sides]
    sides = [side - kernel + 1 for side, kernel in zip(sides, first, strict=True)]
    # Of 3 cells or 4, so that the steps end with the window's last cell.
    second = [min(3 + (side - 3) % step, side) for side in sides]
    rows, columns = (
        (side - kernel) // step + 1 for side, kernel in zip(sides, second, strict=True)
    )
    layers: Layers = OrderedDict(
        stem=nn.Conv2d(3, widths[0], 4, stride=4),
        relu0=_relu(),
        conv1=nn.Conv2d(widths[0], widths[1], (first[0], first[1])),
        relu1=_relu(),
        conv2=nn.Conv2d(widths[1], widths[2], (second[0], second[1]), stride=step),
        relu2=_relu(),
    )
    layers["tall"] = nn.Conv2d(widths[2], widths[3], (rows, 1))
    layers["relu3"] = _relu()
    layers["wide"] = nn.Conv2d(widths[3], widths[3], (1, columns))
    layers["relu4"] = _relu()
    layers["score"] = nn.Conv2d(widths[3], len(spec.labels), 1)
    return layers


def _judge(spec: ModelSpec, widths: tuple[int, ...]) -> Layers:
    """A logit for each label, and by how much the box should move, in one output."""
    layers: Layers = OrderedDict()
    height, width = spec.window_hw
    below = 3
    for index, stride in enumerate(_JUDGE_STRIDES):
        layers[f"conv{index + 1}"] = nn.Conv2d(below, widths[index], 3, stride=stride)
        layers[f"relu{index + 1}"] = _relu()
        height, width = (height - 3) // stride + 1, (width - 3) // stride + 1
        below = widths[index]
    layers["dense"] = nn.Conv2d(below, widths[-1], (height, width))
    layers["relu6"] = _relu()
    layers["score"] = nn.Conv2d(widths[-1], len(spec.labels) + BOX_DELTAS, 1)
    return layers


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)


_JUDGE_STRIDES = (2, 1, 2, 1, 2)

ARCHITECTURES: Mapping[str, Architecture] = {
    "mlp": Architecture(_mlp, widths=(1000,), stride=4, smallest_window=1),
    "lenet": Architecture(_lenet, widths=(16, 32, 64), stride=4, smallest_window=16),
    "scout": Architecture(
        _scout,
        widths=(8, 16, 16, 24),
        stride=4,
        smallest_window=8,
        short_side=28,
        coarse_from=24,
        levels_per_octave=1,
        multiple=4,
        normalised=True,
    ),
    "judge": Architecture(
        _judge, widths=(24, 32, 64, 96, 128, 128), stride=8, smallest_window=31, normalised=True
    ),
}
CASCADE = "cascade"  # no network by itself: a scout, then a judge


class Network(nn.Module):
    """Layers, and the normalisation of the pixels that go into them."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, layers: nn.Sequential) -> None:
        super().__init__()
        self.spec = spec
        self.layers = layers
        # Not among the weights: the spec holds them.
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, K, h, w) logits of (B, 3, H, W) RGB pixels in [0, 255], uint8 or float."""
        return cast(Tensor, self.layers((pixels.to(self.mean.dtype) - self.mean) / self.std))


class Cascade(nn.Module):
    """Two networks that share the work: the judge sees only what the scout points at."""

    def __init__(self, spec: ModelSpec, scout: Network, judge: Network) -> None:
        super().__init__()
        self.spec = spec
        self.scout = scout
        self.judge = judge


AnyNetwork = Network | Cascade


def build(spec: ModelSpec, seed: int = 0) -> Network:
    """A network with fresh weights that depend on spec and seed alone; global seeds stay as is.

    Raises InputError when the architecture is not known or cannot be what the spec asks for.
    """
    layers = skeleton(spec).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            # He et al. 2015: keeps the size of the signal through layers that end in ReLU.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(cast(Tensor, layer.bias))
    return Network(spec, layers)


def assemble(spec: ModelSpec) -> AnyNetwork:
    """The network or cascade of a spec, with shapes and no memory. Raises InputError as `build`."""
    if spec.architecture != CASCADE:
        return Network(spec, skeleton(spec))
    check_cascade(spec)
    scout, judge = (Network(stage, skeleton(stage)) for stage in spec.stages)
    return Cascade(spec, scout, judge)


def window_of(architecture: str, aspect: float, area: float) -> tuple[int, int]:
    """(height, width) of a window of about this aspect that the network can have.

    Its area is about what is asked for, or less where the network has no use for more.
    """
    known = ARCHITECTURES[architecture]
    elongated = max(aspect, 1 / aspect)
    area = min(area, known.short_side**2 * elongated)
    height, width = (
        max(known.smallest_window, round(side / known.multiple) * known.multiple)
        for side in (math.sqrt(area / aspect), math.sqrt(area * aspect))
    )
    return height, width


def stride_of(architecture: str, window_hw: tuple[int, int]) -> int:
    """Level pixels between neighbouring windows of the network."""
    known = ARCHITECTURES[architecture]
    return 2 * known.stride if min(window_hw) >= known.coarse_from else known.stride


def skeleton(spec: ModelSpec) -> nn.Sequential:
    """The layers with their shapes and no memory behind them. Raises InputError as `build`."""
    check(spec)
    known = ARCHITECTURES[spec.architecture]
    with torch.device("meta"):
        layers = nn.Sequential(known.layers(spec, spec.widths or known.widths))
    if sum(parameter.numel() for parameter in layers.parameters()) > MAX_PARAMETERS:
        what = f"{spec.architecture} with the window {spec.window_hw} has too many weights"
        raise InputError(what, f"make window or widths smaller, to {MAX_PARAMETERS:,} at most")
    return layers


def count_parameters(spec: ModelSpec) -> int:
    """How many weights and biases the network has, or all those of a cascade."""
    return sum(parameter.numel() for parameter in assemble(spec).parameters())


def multiply_adds(spec: ModelSpec, hw: tuple[int, int] | None = None) -> int:
    """Multiplications, each with its addition, in one pass over a level of this size.

    Without a size: what one window costs by itself. (1000, 1000) is a megapixel, dense.
    """
    if spec.architecture == CASCADE:
        return multiply_adds(spec.stages[0], hw)  # the scout sees all, the judge next to nothing
    total = 0
    values = torch.empty(1, 3, *(hw or spec.window_hw), device="meta")
    for layer in skeleton(spec):
        values = layer(values)
        if isinstance(layer, nn.Conv2d):
            total += values.numel() * layer.weight[0].numel()
    return total


def check(spec: ModelSpec) -> None:
    """Nothing; raises InputError where the spec asks for what no network of its name can be."""
    if spec.architecture not in ARCHITECTURES:
        near = difflib.get_close_matches(spec.architecture, ARCHITECTURES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(ARCHITECTURES)}"
        raise InputError(f"no architecture {spec.architecture[:80]!r}", hint)
    known = ARCHITECTURES[spec.architecture]
    if not all(known.smallest_window <= side <= MAX_WINDOW for side in spec.window_hw):
        limits = f"give it sides of {known.smallest_window} to {MAX_WINDOW} pixels"
        raise InputError(f"{spec.architecture} cannot have the window {spec.window_hw}", limits)
    if any(side % known.multiple for side in spec.window_hw):
        what = f"{spec.architecture} cannot have the window {spec.window_hw}"
        raise InputError(what, f"give it sides that are multiples of {known.multiple}")
    if spec.stages:
        raise InputError(f"a {spec.architecture} has no stages", f"only a {CASCADE} has")
    stride = stride_of(spec.architecture, spec.window_hw)
    if spec.stride != stride:
        what = f"{spec.architecture} cannot have the stride {spec.stride}"
        raise InputError(what, f"give it {stride}")
    if spec.widths and len(spec.widths) != len(known.widths):
        what = f"{spec.architecture} has {len(known.widths)} widths, got {len(spec.widths)}"
        raise InputError(what, f"give that many, or none for its own {known.widths}")
    if not all(1 <= width <= MAX_WIDTH for width in spec.widths):
        raise InputError(f"widths {spec.widths} out of range", f"give 1 to {MAX_WIDTH} channels")
    _check_numbers(spec)


def check_cascade(spec: ModelSpec) -> None:
    """Nothing; raises InputError unless the stages are a scout and a judge that fit the whole."""
    remedy = "train it again"
    if [stage.architecture for stage in spec.stages] != ["scout", "judge"]:
        raise InputError("a cascade has two stages, a scout and a judge", remedy)
    scout, judge = spec.stages
    shared = ("window_hw", "stride", "context", "levels_per_octave")
    fits = all(getattr(scout, name) == getattr(spec, name) for name in shared)
    if not fits or len(scout.labels) != 2 or judge.labels != spec.labels or spec.widths:
        raise InputError("the stages of this cascade do not fit together", remedy)
    if not 0 < scout.threshold < 1:
        raise InputError("the scout's threshold must lie between 0 and 1", remedy)
    _check_numbers(spec)


def _check_numbers(spec: ModelSpec) -> None:
    """Raises InputError for a number that no score can be computed with."""
    finite = all(map(math.isfinite, (*spec.mean, *spec.std, *spec.calibration, spec.context)))
    rules = {
        f"a model has 2 to {MAX_LABELS} labels, all different": len(spec.labels) <= MAX_LABELS
        and len(set(spec.labels)) == len(spec.labels),
        "mean, std, calibration and context are finite": finite,
        "std is above 0": min(spec.std) > 0,
        "threshold lies in [0, 1]": 0 <= spec.threshold <= 1,
        "the first number of calibration is above 0": spec.calibration[0] > 0,
        "context is 1 to 16": 1 <= spec.context <= 16,
        "levels_per_octave is 1 to 16": 1 <= spec.levels_per_octave <= 16,
    }
    for rule, holds in rules.items():
        if not holds:
            raise InputError(f"a {spec.architecture} that cannot be: {spec}"[:300], rule)
