"""Batch normalisation (Ioffe and Szegedy, ICML 2015), while a network learns and no longer.

Each layer's output is brought to one mean and size over the batch. Afterwards that is a constant
factor and offset of each channel, which the convolution before it can take over.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from nnst.models.networks import ARCHITECTURES, Network, build
from nnst.records import ModelSpec

SUFFIX = "_norm"  # of the name of the layer that normalises another


def with_norms(network: Network) -> Network:
    """The network with a normalisation after every convolution but the last; it shares nothing."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    names = [name for name, layer in network.layers.named_children() if _is_conv(layer)]
    for name, layer in network.layers.named_children():
        layers[name] = copy.deepcopy(layer)
        if name in names[:-1]:
            layers[name + SUFFIX] = nn.BatchNorm2d(cast(nn.Conv2d, layer).out_channels)
    return Network(network.spec, nn.Sequential(layers))


def fold_norms(network: Network) -> Network:
    """The plain network that gives what this one gives in evaluation mode; it shares nothing."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in network.layers.named_children():
        if name.endswith(SUFFIX):
            before = name.removesuffix(SUFFIX)
            conv, norm = cast(nn.Conv2d, layers[before]), cast(nn.BatchNorm2d, layer)
            _fold(conv, norm)
        else:
            layers[name] = copy.deepcopy(layer)
    return Network(network.spec, nn.Sequential(layers)).to(network.mean)  # its device and type


def plain_weights(spec: ModelSpec, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict of the plain network, from that of one that learnt with normalisation or not.

    Raises RuntimeError where the weights are not of such a network.
    """
    network = learner(spec, seed=0)
    network.load_state_dict(dict(weights))
    return fold_norms(network.eval()).state_dict()


def learner(spec: ModelSpec, seed: int) -> Network:
    """A fresh network in the form in which its architecture learns."""
    network = build(spec, seed)
    return with_norms(network) if ARCHITECTURES[spec.architecture].normalised else network


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Take the normalisation's factor and offset into the convolution before it."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    with torch.no_grad():
        factor = norm.weight / torch.sqrt(variance + norm.eps)  # (channels,)
        conv.weight *= factor.view(-1, 1, 1, 1)
        bias = cast(Tensor, conv.bias)
        bias.copy_((bias - mean) * factor + norm.bias)


def _is_conv(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d)
