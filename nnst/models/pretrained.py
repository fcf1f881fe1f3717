"""What the judge's convolutions learnt from drawn word marks, for every judge to begin with.

`nnst pretrain` makes the file: a judge that tells a hundred marks and their mirror images apart,
under the same distortions. Its dense layers are of no use for another logo; what its convolutions
see is.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

import safetensors.torch
from torch import Tensor

from nnst.models.networks import Network

FILE = "judge.safetensors"
LAYERS = "layers.conv"  # what the names of the convolutions and of their norms begin with


def begin(network: Network) -> bool:
    """Give a judge that is to learn the pretrained convolutions; False where shapes differ."""
    own = network.state_dict()
    learnt = safetensors.torch.load((files("nnst.models") / FILE).read_bytes())
    wanted = {name: value.shape for name, value in own.items() if name.startswith(LAYERS)}
    if {name: value.shape for name, value in learnt.items()} != wanted:
        return False
    network.load_state_dict(learnt, strict=False)
    return True


def of(weights: Mapping[str, Tensor]) -> bytes:
    """The file's content, from the weights of a judge that has learnt."""
    kept = {
        name: value.detach().cpu().contiguous()
        for name, value in weights.items()
        if name.startswith(LAYERS)
    }
    return safetensors.torch.save(kept)
