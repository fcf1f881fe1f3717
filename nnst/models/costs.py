"""What a network costs beside its multiplications, which `networks` counts."""

from __future__ import annotations

from torch import nn

from nnst.models.networks import CASCADE, skeleton
from nnst.records import ModelSpec


def first_layer_weights(spec: ModelSpec) -> int:
    """Weights of the layer that sees the pixels, of a cascade that of its scout; no biases.

    4,950,000 of the talk's dense network: 75 x 22 pixels of three colours, 1,000 neurons.
    """
    if spec.architecture == CASCADE:
        return first_layer_weights(spec.stages[0])
    first = next(layer for layer in skeleton(spec) if isinstance(layer, nn.Conv2d))
    return first.weight.numel()
