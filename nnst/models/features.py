"""What the layers of a network make of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Maps = list[NDArray[np.float32]]  # (C, h, w) of each convolution, in the order they compute


@contextmanager
def watch(network: nn.Module) -> Iterator[Maps]:
    """A list that fills with what each convolution gives for the first picture of every batch.

    Dense layers that are laid out as a convolution count as one, where they give more than a pixel.
    """
    seen: Maps = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        if output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            seen.append(output[0].detach().float().cpu().numpy())

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
