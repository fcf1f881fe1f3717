"""The networks by name compute what the talk computes by hand, and cost what is said."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnst.errors import InputError
from nnst.models import networks
from nnst.records import ModelSpec

TALK = ModelSpec("mlp", ("", "logo"), (22, 75), 4)
LENET = replace(TALK, architecture="lenet")
SCOUT = ModelSpec("scout", ("", "logo"), (16, 32), 4)
JUDGE = ModelSpec("judge", ("", "logo", "other"), (48, 48), 8, context=1.3)
CASCADE = ModelSpec("cascade", JUDGE.labels, SCOUT.window_hw, 4, stages=(SCOUT, JUDGE))
SPECS = {spec.architecture: spec for spec in (TALK, LENET, SCOUT, JUDGE)}
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def neuron() -> networks.Network:
    """A network whose hidden layer is the talk's one neuron: its inputs are one pixel's R, G, B."""
    network = networks.build(ModelSpec("mlp", ("", "logo"), (1, 1), 4, widths=(1,), **PLAIN))
    with torch.no_grad():
        network.layers.hidden.weight[:] = torch.tensor([0.5, -0.5, -0.5]).view(1, 3, 1, 1)
    return network


@pytest.mark.parametrize(
    ("activation", "expected"),
    [(nn.Identity(), -1.65), (nn.Sigmoid(), 0.1611), (nn.Tanh(), -0.9289), (None, 0.0)],
    ids=["identity", "sigmoid", "tanh", "the network's own ReLU"],
)
def test_a_neuron_gives_the_talks_numbers(activation: nn.Module | None, expected: float) -> None:
    network = neuron()
    pixel = torch.tensor([0.8, 0.1, 4.0]).view(1, 3, 1, 1)
    weighted = network.layers.hidden(pixel)
    result = (activation or network.layers.relu)(weighted)
    assert result.item() == pytest.approx(expected, abs=5e-5)


def test_layers_compose_as_f_of_w2_f_of_w1_x_plus_b1_plus_b2() -> None:
    spec = ModelSpec("mlp", ("", "logo"), (1, 1), 4, widths=(2,), **PLAIN)
    network = networks.build(spec)
    with torch.no_grad():
        w1 = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
        network.layers.hidden.weight[:] = w1.view(2, 3, 1, 1)
        network.layers.hidden.bias[:] = torch.tensor([0.0, 1.0])
        w2 = torch.tensor([[1.0, 1.0], [2.0, -1.0]])
        network.layers.score.weight[:] = w2.view(2, 2, 1, 1)
        network.layers.score.bias[:] = torch.tensor([0.5, 0.0])
    # W1 x + B1 = (-2, 4); ReLU: (0, 4); W2 (0, 4) + B2 = (4.5, -4)
    logits = network(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1))
    assert logits.flatten().tolist() == [4.5, -4.0]


def test_labels_are_one_hot_in_the_loss() -> None:
    """A class number given to the loss means the one-hot vector of the talk's slide."""
    pixels = torch.rand(4, 3, 22, 75, generator=torch.Generator().manual_seed(1)) * 255
    logits = networks.build(LENET)(pixels)[:, :, 0, 0]
    labels = torch.tensor([0, 1, 1, 0])
    one_hot = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    by_hand = -(one_hot * logits.softmax(1).log()).sum(1).mean()
    loss = nn.functional.cross_entropy(logits, labels)
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


# A step from dark to light, 7 x 7: columns 0 to 3 are 0, columns 4 to 6 are 1.
STEP = [[0, 0, 0, 0, 1, 1, 1]] * 7
# A single bright point in the middle.
POINT = [[0] * 7] * 3 + [[0, 0, 0, 1, 0, 0, 0]] + [[0] * 7] * 3


@pytest.mark.parametrize(
    ("kernel", "picture", "expected"),
    [
        # The kernel sees the step when it covers columns 2-4 and 3-5: 0 - 1, three rows of it.
        ([[1, 0, -1]] * 3, STEP, [[0, 0, -3]] * 3),
        # The upright kernel turned on its side does not see an upright edge.
        ([[1, 1, 1], [0, 0, 0], [-1, -1, -1]], STEP, [[0, 0, 0]] * 3),
        # 8 where the point lies under the middle, -1 where it lies under the rim.
        (
            [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
            POINT,
            [[0, 0, 0], [0, -1, -1], [0, -1, 8]],
        ),
    ],
    ids=["vertical edge", "horizontal edge", "point"],
)
def test_the_talks_kernels_in_lenets_first_layer(
    kernel: list[list[int]], picture: list[list[int]], expected: list[list[int]]
) -> None:
    """A 3 x 3 kernel in the corner of the 5 x 5 one sees rows and columns 0 to 4 of 7 x 7."""
    layer = networks.build(LENET).layers.conv1
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, :3, :3] = torch.tensor(kernel)
        pixels = torch.zeros(1, 3, 7, 7)
        pixels[0, 0] = torch.tensor(picture)
        found = layer(pixels)[0, 0]
    assert found.tolist() == expected


def test_max_pooling_takes_the_greatest_of_each_two_by_two() -> None:
    """An odd last row and column are left out, as they are in a window of odd size."""
    values = torch.tensor(
        [[1.0, 2, 5, 0, 9], [3, 4, 1, 1, 9], [-1, -2, 0, 7, 9], [-3, -4, 8, 6, 9], [9, 9, 9, 9, 9]]
    )
    pooled = networks.build(LENET).layers.pool1(values.view(1, 1, 5, 5))
    assert pooled[0, 0].tolist() == [[4, 5], [-1, 8]]


def test_the_talks_dense_network_has_its_4950000_first_weights() -> None:
    assert networks.build(TALK).layers.hidden.weight.numel() == 4_950_000
    assert networks.count_parameters(TALK) == 4_950_000 + 1_000 + 2_000 + 2


def test_the_cost_of_a_window_is_what_a_pencil_says() -> None:
    assert networks.multiply_adds(TALK) == 4_950_000 + 2_000
    conv1, conv2 = 18 * 71 * 16 * 75, 5 * 31 * 32 * 16 * 25
    assert networks.multiply_adds(LENET) == conv1 + conv2 + 2 * 15 * 32 * 64 + 64 * 2


def test_the_cost_of_a_scout_is_what_a_pencil_says() -> None:
    """Cells of a window of 16 x 32 pixels: 4 x 8, then 2 x 6, then, as only 2 rows are left, 1 x 4;
    no row and three columns remain to be taken together."""
    stem = 4 * 8 * 8 * 3 * 16
    conv1, conv2 = 2 * 6 * 16 * 8 * 9, 1 * 4 * 16 * 16 * 6
    tall, wide, score = 1 * 4 * 24 * 16, 24 * 24 * 4, 24 * 2
    assert networks.multiply_adds(SCOUT) == stem + conv1 + conv2 + tall + wide + score


def test_the_cost_of_a_coarse_scout_is_what_a_pencil_says() -> None:
    """Cells of a window of 28 x 32 pixels: 7 x 8, then 5 x 6, then by twos 2 x 2, of 3 rows and,
    as their number is even, of 4 columns; both that remain of each are taken together."""
    spec = replace(SCOUT, window_hw=(28, 32), stride=8)
    stem, conv1, conv2 = 7 * 8 * 8 * 3 * 16, 5 * 6 * 16 * 8 * 9, 2 * 2 * 16 * 16 * 12
    tall, wide, score = 2 * 24 * 16 * 2, 24 * 24 * 2, 24 * 2
    assert networks.multiply_adds(spec) == stem + conv1 + conv2 + tall + wide + score


def test_a_cascade_costs_what_its_scout_does_and_holds_the_weights_of_both() -> None:
    for hw in (None, (200, 300)):
        assert networks.multiply_adds(CASCADE, hw) == networks.multiply_adds(SCOUT, hw)
    both = networks.count_parameters(SCOUT) + networks.count_parameters(JUDGE)
    assert networks.count_parameters(CASCADE) == both


def test_dense_scoring_saves_lenet_much_and_the_dense_network_nothing() -> None:
    """What the convolution shares between windows is the reason for scoring a level at once."""
    windows = ((1000 - 22) // 4 + 1) * ((1000 - 75) // 4 + 1)
    megapixel = (1000, 1000)
    assert networks.multiply_adds(TALK, megapixel) == windows * networks.multiply_adds(TALK)
    saved = windows * networks.multiply_adds(LENET) / networks.multiply_adds(LENET, megapixel)
    assert saved > 20


@pytest.mark.parametrize("spec", [TALK, LENET], ids=["mlp", "lenet"])
def test_one_window_gives_one_cell_of_logits(spec: ModelSpec) -> None:
    spec = replace(spec, labels=("", "a", "b"), widths=())
    pixels = torch.randint(0, 256, (2, 3, 22, 75), dtype=torch.uint8)
    network = networks.build(spec)
    assert network(pixels).shape == (2, 3, 1, 1)
    assert torch.equal(network(pixels), network(pixels.float()))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 12), columns=st.integers(2, 24))
def test_a_scout_of_any_window_gives_one_window_one_cell_and_steps_by_its_stride(
    rows: int, columns: int
) -> None:
    window_hw = 4 * rows, 4 * columns
    stride = networks.stride_of("scout", window_hw)
    spec = replace(SCOUT, window_hw=window_hw, stride=stride)
    network = networks.build(spec)
    height, width = spec.window_hw
    assert network(torch.zeros(2, 3, height, width)).shape == (2, 2, 1, 1)
    assert network(torch.zeros(1, 3, height + stride, width + 3 * stride)).shape == (1, 2, 2, 4)
    assert network(torch.zeros(1, 3, height + stride - 1, width + stride - 1)).shape == (1, 2, 1, 1)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(31, 90), width=st.integers(31, 90))
def test_a_judge_of_any_window_gives_logits_and_a_move_for_it(height: int, width: int) -> None:
    spec = replace(JUDGE, window_hw=(height, width), widths=(3, 4, 5, 6, 7, 8))
    found = networks.build(spec)(torch.zeros(2, 3, height, width))
    assert found.shape == (2, len(spec.labels) + networks.BOX_DELTAS, 1, 1)


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
@settings(max_examples=30, deadline=None)
@given(aspect=st.floats(1 / 12, 12), area=st.floats(100, 4000))
def test_the_window_found_for_an_aspect_is_one_that_the_network_can_have(
    name: str, aspect: float, area: float
) -> None:
    window_hw = networks.window_of(name, aspect, area)
    stride = networks.stride_of(name, window_hw)
    networks.check(replace(SPECS[name], window_hw=window_hw, stride=stride))
    known = networks.ARCHITECTURES[name]
    area = min(area, known.short_side**2 * max(aspect, 1 / aspect))
    wanted = math.sqrt(area / aspect), math.sqrt(area * aspect)
    for side, exact in zip(window_hw, wanted, strict=True):
        assert side == known.smallest_window or abs(side - exact) <= known.multiple / 2


def test_normalisation_is_inside_the_network_and_not_among_its_weights() -> None:
    network = networks.build(replace(LENET, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0)))
    raw = torch.randint(0, 256, (1, 3, 22, 75), dtype=torch.uint8)
    mean, std = torch.tensor([10.0, 20, 30]), torch.tensor([2.0, 4, 5])
    normal = (raw - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.equal(network(raw), network.layers(normal))
    assert all(name.startswith("layers.") for name in network.state_dict())


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
def test_no_layer_pads(name: str) -> None:
    """With inner padding a window alone and a window in a level would see different numbers."""
    for layer in networks.skeleton(SPECS[name]):
        assert getattr(layer, "padding", 0) in (0, (0, 0))


def test_weights_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (networks.build(LENET, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.layers.conv1.weight, other.layers.conv1.weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "lenett"}, "did you mean 'lenet'"),
        ({"architecture": "vit"}, "known are mlp, lenet"),
        ({"window_hw": (15, 75)}, "16 to 1024"),
        ({"window_hw": (22, 1025)}, "16 to 1024"),
        ({"stride": 8}, "give it 4"),
        ({"widths": (16, 32)}, "lenet has 3 widths, got 2"),
        ({"widths": (16, 32, 0)}, "1 to 8192"),
        ({"widths": (16, 8192, 8192), "window_hw": (400, 400)}, "too many weights"),
        ({"labels": ("", "a", "a")}, "all different"),
        ({"std": (1.0, 0.0, 1.0)}, "std is above 0"),
        ({"mean": (float("nan"), 0.0, 0.0)}, "finite"),
        ({"threshold": 1.5}, "threshold lies in"),
        ({"calibration": (-1.0, 0.0)}, "above 0"),
        ({"context": 0.5}, "context is 1 to 16"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused_with_what_can(change: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        networks.build(replace(LENET, **change))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (replace(SCOUT, window_hw=(18, 32)), "multiples of 4"),
        (replace(SCOUT, window_hw=(4, 32)), "8 to 1024"),
        (replace(JUDGE, window_hw=(30, 48)), "31 to 1024"),
        (replace(JUDGE, stride=4), "give it 8"),
        (replace(LENET, stages=(SCOUT, JUDGE)), "a lenet has no stages; only a cascade has"),
        (CASCADE, "no architecture 'cascade'"),
    ],
)
def test_networks_of_a_cascade_are_held_to_their_own_rules(spec: ModelSpec, said: str) -> None:
    with pytest.raises(InputError, match=said):
        networks.build(spec)


def cascade(scout: Any = SCOUT, judge: Any = JUDGE, **changes: Any) -> ModelSpec:
    """The cascade, of other stages or otherwise changed."""
    return replace(CASCADE, **{"stages": (scout, judge), **changes})


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (cascade(stages=()), "two stages, a scout and a judge; train it again"),
        (cascade(stages=(JUDGE, SCOUT)), "two stages"),
        (cascade(stages=(SCOUT, JUDGE, JUDGE)), "two stages"),
        (cascade(scout=LENET), "two stages"),
        (cascade(window_hw=(16, 36)), "do not fit together"),
        (cascade(stride=8), "do not fit together"),
        (cascade(context=1.5), "do not fit together"),
        (cascade(labels=("", "logo")), "do not fit together"),
        (cascade(widths=(3,)), "do not fit together"),
        (cascade(scout=replace(SCOUT, labels=("", "a", "b"))), "do not fit together"),
        (cascade(scout=replace(SCOUT, threshold=0.0)), "threshold must lie between"),
        (cascade(scout=replace(SCOUT, threshold=1.0)), "threshold must lie between"),
        (cascade(judge=replace(JUDGE, window_hw=(30, 30))), "31 to 1024"),
        (cascade(judge=replace(JUDGE, stages=(SCOUT,))), "has no stages"),
        (cascade(scout=replace(SCOUT, std=(0.0, 1.0, 1.0))), "std is above 0"),
        (cascade(calibration=(0.0, 0.0)), "above 0"),
        (cascade(threshold=float("nan")), "threshold lies in"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_cascade_whose_stages_do_not_fit_is_refused(spec: ModelSpec, said: str) -> None:
    with pytest.raises(InputError, match=said):
        networks.assemble(spec)


def test_a_cascade_is_assembled_of_its_stages() -> None:
    found = networks.assemble(CASCADE)
    assert isinstance(found, networks.Cascade)
    assert (found.spec, found.scout.spec, found.judge.spec) == (CASCADE, SCOUT, JUDGE)
    parts = {name.split(".")[0] for name in found.state_dict()}
    assert parts == {"scout", "judge"}
