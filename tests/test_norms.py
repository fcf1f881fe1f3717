"""What a network learnt with normalisation it keeps without, and what is folded is not changed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnst import models
from nnst.errors import InputError
from nnst.models import norms, scoring
from nnst.models.networks import Network
from nnst.records import ModelSpec

SPECS = {
    "mlp": ModelSpec("mlp", ("", "logo"), (6, 9), 4, widths=(5,)),
    "lenet": ModelSpec("lenet", ("", "logo"), (20, 24), 4, widths=(3, 4, 5)),
    "scout": ModelSpec("scout", ("", "logo"), (16, 24), 4, widths=(3, 4, 5, 6)),
    "judge": ModelSpec("judge", ("", "a", "b"), (32, 40), 8, widths=(3, 4, 5, 6, 7, 8)),
}
NORMALISED = ("scout", "judge")
UNEVEN = {"mean": (120.0, 125.0, 130.0), "std": (50.0, 60.0, 70.0)}


def pixels_of(spec: ModelSpec, seed: int = 0, count: int = 4) -> torch.Tensor:
    """(count, 3, h, w) bytes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, 3, *spec.window_hw), dtype=torch.uint8, generator=generator
    )


def learnt(spec: ModelSpec, seed: int) -> Network:
    """A network with normalisation whose every number is other than it was at first."""
    network = norms.with_norms(models.build(spec, seed))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.layers:
            if isinstance(layer, nn.BatchNorm2d):
                for values in (layer.weight, layer.running_var):
                    values.copy_(torch.rand(values.shape, generator=generator) * 3 + 0.05)
                for values in (layer.bias, layer.running_mean):
                    values.copy_(torch.randn(values.shape, generator=generator))
            elif isinstance(layer, nn.Conv2d):
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))
    return network.eval()


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To 1e-5 of the largest number; to 1e-9 in float64, where rounding does not hide a fault."""
    largest = max(1.0, expected.abs().max().item())
    tolerance = 1e-9 if expected.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_a_folded_network_gives_what_the_one_with_norms_gives(name: str, seed: int) -> None:
    network = learnt(SPECS[name], seed).double()
    pixels = pixels_of(network.spec, seed)
    expected = network(pixels)
    plain = norms.fold_norms(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.layers)
    assert plain.state_dict().keys() == models.build(network.spec).state_dict().keys()
    assert_same(plain(pixels), expected)
    assert_same(network(pixels), expected)  # what was folded stays as it was


def test_the_fold_is_also_right_after_real_steps_of_training() -> None:
    """With the statistics that the layers gathered themselves."""
    network = norms.learner(SPECS["scout"], seed=1).double()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    for step in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(
            network(pixels_of(network.spec, step, 8)).flatten(1), torch.arange(8) % 2
        ).backward()
        optimiser.step()
    pixels = pixels_of(network.spec, 99)
    in_training = network(pixels)
    expected = network.eval()(pixels)
    assert (in_training - expected).abs().max() > 0.01  # the batch's own statistics are others
    assert_same(norms.fold_norms(network)(pixels), expected)


@pytest.mark.parametrize("name", SPECS)
def test_norms_follow_every_convolution_but_the_last(name: str) -> None:
    plain = models.build(SPECS[name])
    layers = norms.with_norms(plain).layers
    convolutions = [key for key, layer in layers.named_children() if isinstance(layer, nn.Conv2d)]
    order = [key for key, _ in layers.named_children()]
    after = [order[order.index(key) + 1] for key in convolutions[:-1]]
    assert after == [key + norms.SUFFIX for key in convolutions[:-1]]
    assert convolutions[-1] == order[-1] == "score"
    assert [key for key in order if not key.endswith(norms.SUFFIX)] == [
        key for key, _ in plain.layers.named_children()
    ]


def test_a_network_with_norms_shares_nothing_with_the_plain_one() -> None:
    plain = models.build(SPECS["scout"])
    before = plain.layers.stem.weight.clone()
    network = norms.with_norms(plain)
    with torch.no_grad():
        network.layers.stem.weight.zero_()
    assert torch.equal(plain.layers.stem.weight, before)


@pytest.mark.parametrize("name", SPECS)
def test_a_learner_begins_as_the_plain_network_of_its_seed(name: str) -> None:
    """In evaluation mode fresh norms change next to nothing."""
    spec = SPECS[name]
    network, plain = norms.learner(spec, seed=5).eval(), models.build(spec, seed=5)
    has_norms = any(isinstance(layer, nn.BatchNorm2d) for layer in network.layers)
    assert has_norms == (name in NORMALISED)
    pixels = pixels_of(spec)
    torch.testing.assert_close(network(pixels), plain(pixels), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SPECS)
def test_plain_weights_are_those_of_the_network_that_is_saved(name: str) -> None:
    spec = SPECS[name]
    network = learnt(spec, 7) if name in NORMALISED else norms.learner(spec, 7).eval()
    weights = network.state_dict()
    before = {key: value.clone() for key, value in weights.items()}
    plain = models.build(spec)
    plain.load_state_dict(norms.plain_weights(spec, weights))
    pixels = pixels_of(spec)
    assert_same(plain(pixels), network(pixels))
    assert all(torch.equal(weights[key], value) for key, value in before.items())


def test_weights_of_another_network_are_refused() -> None:
    weights = norms.learner(SPECS["scout"], 0).state_dict()
    with pytest.raises(RuntimeError, match="loading state_dict"):
        norms.plain_weights(SPECS["judge"], weights)


# Ready to score


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("name", SPECS)
def test_a_network_made_ready_gives_the_same_scores_and_shares_nothing(
    name: str, head: int
) -> None:
    """Its first layer takes the normalisation over; no channel has the mean of another here."""
    network = models.build(ModelSpec(**{**as_dict(SPECS[name]), **UNEVEN}), seed=2)
    first = next(network.layers.children())
    weight, bias = first.weight.clone(), first.bias.clone()
    pixels = pixels_of(network.spec)
    ready = scoring.ready(network, head=head)
    assert_same(ready(pixels), network(pixels))
    assert torch.equal(first.weight, weight)
    assert torch.equal(first.bias, bias)
    assert not ready.training
    assert not any(weight.requires_grad for weight in ready.parameters())


def as_dict(spec: ModelSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in spec.__slots__}


def test_every_byte_is_exact_in_bfloat16() -> None:
    """Else dark and light pixels would be rounded before the first layer sees them."""
    spec = ModelSpec("mlp", ("", "logo"), (1, 1), 4, widths=(1,), std=(1.0, 1.0, 1.0))
    network = models.build(spec)
    with torch.no_grad():
        network.layers.hidden.weight.fill_(0.5)
        network.layers.hidden.weight[:, 1:] = 0
        network.layers.hidden.bias.fill_(63.75)  # half of the mean: every byte gives its half
        network.layers.score.weight.fill_(2.0)
    pixels = torch.zeros(256, 3, 1, 1, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(256)
    found = scoring.ready(network, dtype=torch.bfloat16, head=1)(pixels)[:, 0, 0, 0]
    torch.testing.assert_close(found, torch.arange(256.0), rtol=0, atol=0)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="cannot use the device 'nonsense'"):
        scoring.ready(models.build(SPECS["mlp"]), device="nonsense")
