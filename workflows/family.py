"""Trainings that belong together: child runs of one MLflow run, each done once.

A folder remembers the parent's run and what each child came to, so that the same command again
does only what is missing; a training that was interrupted goes on from its own checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnst import config, storage
from nnst.errors import InputError, JobFailed
from nnst.ledger import Ledger
from workflows import cropsets, provenance
from workflows.commands import Options

if TYPE_CHECKING:
    from workflows.tracking import Run, TrackingSettings


LONGEST_NAME = 60  # of those that nobody gave


@dataclass(frozen=True, slots=True)
class Shared:
    """What all trainings of a family have in common."""

    crops: tuple[str, ...]
    name: str  # of the experiment, and the beginning of the models' names
    values: Mapping[str, Any]  # settings of nnst train


def shared_settings(crops: Sequence[str], name: str, base: str, given: Mapping[str, Any]) -> Shared:
    """The settings in the TOML file `base`, if there is one, under those that were given.

    Without a name the family is called after its logos. Raises InputError when nnst train would
    not take them, or a crop set is not one.
    """
    from workflows import tracking
    from workflows.__main__ import config_class

    name = name or called_after(cropsets.logos_of(crops))
    tracking.check_model_name(name)
    wanted = {key: value for key, value in given.items() if value}
    values = {**(config.read(base) if base else {}), **wanted}
    for key in ("crops", "name", "experiment", "parent"):
        if key in values:
            raise InputError(f"{base} sets {key}", "leave it out: it is not the same for all")
    for key in ("background", "storage"):
        if values.get(key):
            values[key] = storage.absolute(values[key])
    whole = tuple(storage.absolute(path) for path in crops)
    config.build(config_class("train"), {**values, "crops": whole, "name": name}, base)
    return Shared(whole, name, values)


def called_after(logos: Sequence[str]) -> str:
    """A name that a model may have, of the labels of its logos."""
    words = re.sub(r"[^\w.+-]+", "_", "-".join(logos))
    return words.lstrip(".+-")[:LONGEST_NAME] or "logo"


def folder_of(shared: Shared, place: str, kind: str, more: Mapping[str, Any]) -> str:
    """Where this very family is kept: the same command finds it again."""
    identity = {
        "crops": [Ledger.open(path, "crop").fingerprint for path in shared.crops],
        "values": shared.values,
        "versions": provenance.versions(),
        **more,
    }
    mark = storage.sha256(storage.to_json(identity))[:12]
    return storage.join(storage.absolute(place), f"{shared.name}-{kind}-{mark}")


def parent_run(
    folder: str, shared: Shared, kind: str, params: Mapping[str, Any], patience: TrackingSettings
) -> Run:
    """The run that the trainings are children of: begun before, or new.

    Raises JobFailed while MLflow does not answer.
    """
    from workflows import tracking

    path = storage.join(folder, "parent.json")
    begun = storage.read_json(path) if storage.exists(path) else {"mark": tracking.new_mark()}
    storage.put(path, storage.to_json(begun))  # before there is a run: none can be left alone
    if begun.get("run_id"):
        return tracking.resume(begun["run_id"], begun["mark"], patience)
    run = tracking.start(
        shared.name, kind, params=params, tags={"verb": kind}, mark=begun["mark"], patience=patience
    )
    if not run.run_id:
        run.finish("KILLED")  # waits no longer
        what = "MLflow does not answer, and a child run has to name its parent"
        raise JobFailed(what, "run the same command again when it does")
    storage.put(path, storage.to_json(begun | {"run_id": run.run_id}))
    return run


def trained(shared: Shared, name: str, more: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What nnst train says of a model of this name, with some settings of its own."""
    from workflows.__main__ import dispatch

    own = {"crops": shared.crops, "name": name, "experiment": shared.name}
    return dict(dispatch("train", {**merged(shared.values, more), **own}, options).document)


def merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others laid over them."""
    result = dict(values)
    for key, value in more.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result
