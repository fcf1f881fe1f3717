"""The networks by name, and the folder that holds a trained one.

`networks` has their layers, window and stride, `folder` saves and loads without running code.
"""

from __future__ import annotations

from nnst.models.costs import first_layer_weights
from nnst.models.folder import DESCRIPTION, WEIGHTS, Model, digest, load, save
from nnst.models.networks import (
    ARCHITECTURES,
    CASCADE,
    AnyNetwork,
    Cascade,
    Network,
    build,
    count_parameters,
    multiply_adds,
    stride_of,
    window_of,
)

__all__ = [
    "ARCHITECTURES",
    "CASCADE",
    "DESCRIPTION",
    "WEIGHTS",
    "AnyNetwork",
    "Cascade",
    "Model",
    "Network",
    "build",
    "count_parameters",
    "digest",
    "first_layer_weights",
    "load",
    "multiply_adds",
    "save",
    "stride_of",
    "window_of",
]
