"""A model, and the folder that holds it: weights.safetensors and model.json.

Nothing here can run code from a file: the weights are safetensors, all else is JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nnst import storage
from nnst.errors import InputError
from nnst.models.networks import AnyNetwork, assemble, count_parameters
from nnst.records import ModelSpec

FORMAT = 1
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
MAX_DESCRIPTION_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 20  # of a safetensors file: names and shapes
PICKLED = (".pt", ".pth", ".pt2", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")

_KINDS: Mapping[str, Any] = {
    "architecture": str,
    "labels": [str, ...],
    "window_hw": [int] * 2,
    "stride": int,
    "mean": [float] * 3,
    "std": [float] * 3,
    "threshold": float,
    "calibration": [float] * 2,
    "widths": [int, ...],
    "context": float,
    "levels_per_octave": int,
    "stages": [dict, ...],
}
"""What model.json holds for each field of a ModelSpec; `...` is any number of them."""


@dataclass(frozen=True, slots=True)
class Model:
    """A network ready to score, and what was saved with it."""

    spec: ModelSpec
    network: AnyNetwork  # in evaluation mode, on the CPU
    digest: str  # sha256 over spec and weights: models of one digest give the same scores
    provenance: Mapping[str, Any]  # free: where it came from


def save(
    folder: str | os.PathLike[str],
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """The digest of the model written; model.json comes last, so its existence means all is there.

    `weights` is the network's state_dict; `provenance` is anything that JSON can hold.
    """
    on_cpu = {name: value.detach().to("cpu").contiguous() for name, value in weights.items()}
    _check_weights(spec, on_cpu, folder)
    data = safetensors.torch.save(on_cpu)
    description = {
        "format": FORMAT,
        "spec": asdict(spec),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "provenance": dict(provenance or {}),
    }
    storage.put(storage.join(folder, WEIGHTS), data)
    storage.put(storage.join(folder, DESCRIPTION), storage.to_json(description))
    return _digest(description)


def load(folder: str | os.PathLike[str]) -> Model:
    """The model in a folder. Raises InputError, with a remedy, for anything but a whole one."""
    description, spec, data = _read(folder)
    try:
        weights = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise _broken(folder, f"{WEIGHTS}: {error}") from None
    _check_weights(spec, weights, folder)
    network = assemble(spec)
    network.load_state_dict(weights, strict=True, assign=True)
    network.requires_grad_(False).eval()
    return Model(spec, network, _digest(description), description["provenance"])


def digest(folder: str | os.PathLike[str]) -> str:
    """The digest of the model in a folder, its weights verified, without building the network."""
    return _digest(_read(folder)[0])


def _read(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], ModelSpec, bytes]:
    """The description, the spec in it, and the weights' bytes, which have the recorded sha256."""
    description = _read_description(folder)
    try:
        spec = _spec(description["spec"])
    except ValueError as error:
        raise _broken(folder, f"{DESCRIPTION}: {error}") from None
    most = 4 * count_parameters(spec) + MAX_HEADER_BYTES
    try:
        data = storage.read(storage.join(folder, WEIGHTS), most + 1)
    except OSError as error:
        raise _broken(folder, f"{WEIGHTS} cannot be read ({error})") from None
    if len(data) > most:
        raise _broken(folder, f"{WEIGHTS} is larger than a {spec.architecture} can be")
    if hashlib.sha256(data).hexdigest() != description["weights_sha256"]:
        raise _broken(folder, f"{WEIGHTS} is not the file that {DESCRIPTION} was written for")
    return description, spec, data


def _read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The document in model.json, its four parts of the right types."""
    remedy = f"give a folder with {DESCRIPTION} and {WEIGHTS}, as `nnst train` writes"
    if str(folder).lower().endswith(PICKLED) and not storage.is_folder(folder):
        raise InputError(f"{folder} is a pickled model, which nnst never opens", remedy)
    try:
        text = storage.read(storage.join(folder, DESCRIPTION), MAX_DESCRIPTION_BYTES + 1)
    except OSError:
        raise InputError(f"{folder} is not the folder of a model", remedy) from None
    if len(text) > MAX_DESCRIPTION_BYTES:
        raise _broken(folder, f"{DESCRIPTION} is larger than {MAX_DESCRIPTION_BYTES:,} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(folder, f"{DESCRIPTION} is not JSON ({error})") from None
    if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
        what = f"{folder} has format {document['format']!r}, this nnst reads {FORMAT}"
        raise InputError(what[:200], "use the version of nnst that wrote it")
    kinds = {"format": int, "spec": dict, "weights_sha256": str, "provenance": dict}
    if not isinstance(document, dict) or document.keys() != kinds.keys():
        raise _broken(folder, f"{DESCRIPTION} should hold {', '.join(kinds)}")
    if not all(_matches(document[name], kind) for name, kind in kinds.items()):
        raise _broken(folder, f"{DESCRIPTION} holds a value of the wrong type")
    return document


def _spec(values: Mapping[str, Any]) -> ModelSpec:
    """The spec that JSON values describe. Raises ValueError."""
    values = {"stages": [], "levels_per_octave": 4, **values}  # what older models do not say
    if values.keys() != _KINDS.keys():
        odd = ", ".join(sorted(values.keys() ^ _KINDS.keys()))
        raise ValueError(f"spec lacks fields, or has some too many: {odd[:200]}")
    for name, kind in _KINDS.items():
        if not _matches(values[name], kind):
            raise ValueError(f"spec.{name} cannot be {str(values[name])[:80]}")
    if any(stage.get("stages") for stage in values["stages"]):
        raise ValueError("a stage has stages of its own")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    stages = tuple(_spec(stage) for stage in values["stages"])
    return ModelSpec(**{**values, **lists, "stages": stages})


def _matches(value: object, kind: Any) -> bool:
    """Whether a JSON value is of a kind; a bool is no number."""
    if isinstance(kind, list) and ... in kind:
        return isinstance(value, list) and all(_matches(item, kind[0]) for item in value)
    if isinstance(kind, list):
        whole = isinstance(value, list) and len(value) == len(kind)
        return whole and all(map(_matches, cast("list[object]", value), kind))
    if kind is float:  # written so that it holds for neither nan nor a whole number of any length
        return type(value) in (int, float) and -1e9 <= cast(float, value) <= 1e9
    return type(value) is kind


def _check_weights(
    spec: ModelSpec, weights: Mapping[str, Tensor], folder: str | os.PathLike[str]
) -> None:
    """Raises InputError unless names, shapes and types are the network's and values finite."""
    expected = assemble(spec).state_dict()
    if weights.keys() != expected.keys():
        odd = ", ".join(sorted(weights.keys() ^ expected.keys())[:5])
        raise _broken(folder, f"weights missing, or not of a {spec.architecture}: {odd[:200]}")
    for name, value in weights.items():
        want = f"{tuple(expected[name].shape)} torch.float32"
        got = f"{tuple(value.shape)} {value.dtype}"
        if want != got:
            raise _broken(folder, f"{name} should be {want} and is {got}")
        if not torch.isfinite(value).all():
            raise _broken(folder, f"{name} holds values that are not finite")


def _digest(description: Mapping[str, Any]) -> str:
    """sha256 over what decides a score; provenance does not."""
    decisive = {name: description[name] for name in ("format", "spec", "weights_sha256")}
    return hashlib.sha256(storage.to_json(decisive)).hexdigest()


def _broken(folder: str | os.PathLike[str], what: str) -> InputError:
    return InputError(f"the model in {folder} is broken: {what}", "copy it anew, or train it again")
