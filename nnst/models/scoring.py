"""A network made ready to score: on its device, in its type, in the layout that is fastest."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from nnst.errors import InputError
from nnst.models.networks import Network
from nnst.records import ModelSpec

MIDDLE = 128  # of a byte, which an exclusive or takes away: x ^ 128 is x - 128 as a signed byte


class Scorer(nn.Module):
    """What a network computes, with bytes centred before the first layer and nothing else done.

    The rest of the normalisation is in that layer's weights and bias. Centred bytes are exact in
    bfloat16. The last layers are computed in float32, so that scores are not rounded.
    """

    def __init__(self, network: Network, dtype: torch.dtype, head: int) -> None:
        super().__init__()
        self.spec: ModelSpec = network.spec
        layers = list(_folded(network, dtype).children())
        cut = len(layers) - head
        self.trunk = nn.Sequential(*layers[:cut]).to(dtype)
        self.head = nn.Sequential(*layers[cut:]).float()
        self.dtype = dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, K, h, w) float32 outputs of (B, 3, H, W) uint8 RGB pixels."""
        centred = pixels.bitwise_xor(MIDDLE).view(torch.int8).to(self.dtype)
        return cast(Tensor, self.head(self.trunk(centred).float())).float()


def ready(
    network: Network, device: str = "cpu", dtype: torch.dtype = torch.float32, head: int = 0
) -> Scorer:
    """A copy of the network on a device; its last `head` layers stay in float32.

    Raises InputError when the device cannot be used.
    """
    scorer = Scorer(network, dtype, head).requires_grad_(False).eval()
    try:
        moved = scorer.to(device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"cannot use the device {device!r} ({first})", "use cpu") from None
    # Measured: twice as fast on a CPU, as pixels come with channels last anyway.
    return moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _folded(network: Network, dtype: torch.dtype) -> nn.Sequential:
    """The layers, the first of which takes centred bytes: nothing is padded, so that is exact.

    w (x - mean) / std + b = w' (x - 128) + b + w' (128 - mean), where w' = w / std.
    """
    layers = copy.deepcopy(network.layers)
    first = cast(nn.Conv2d, next(layers.children()))
    with torch.no_grad():
        first.weight /= network.std
        rounded = first.weight.to(dtype).float()  # what will be multiplied
        offset = rounded * (MIDDLE - network.mean)
        cast(Tensor, first.bias).add_(offset.sum(dim=(1, 2, 3)))
    return layers
