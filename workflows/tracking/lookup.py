"""How `NAME`, `NAME@alias`, `NAME/3` or a folder finds a model, and its files come here."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from nnst import storage
from nnst.errors import InputError
from workflows.tracking import store
from workflows.tracking.registry import CHAMPION, NAME, check_model_name

MOST_NAMES = 1000  # looked through for the nearest one


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model, found: a registered version, or a plain folder with version and run_id ""."""

    name: str
    version: str
    folder: str  # holds model.json and weights.safetensors
    digest: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version else self.name


def resolve(model: str) -> ModelRef:
    """The model that the text names, its files on this machine and what they claim to be.

    NAME (the champion, else the newest version), NAME@alias, NAME/3, or a folder with a slash.
    Raises InputError with the nearest names.
    """
    text = model.removeprefix("models:/")  # as MLflow's pages write it
    name, slash, version = text.rpartition("/")
    if slash and not (version.isdecimal() and NAME.fullmatch(name)):
        return _folder(model)
    name, _, alias = (name if slash else text).partition("@")
    check_model_name(name)
    uri = store.tracking_uri()
    file = store.database_file(uri)
    if file and not os.path.exists(file):
        raise InputError(f"no model {name!r}: nothing is recorded in {file}", _hint(name, text))
    client = store.client(uri)
    with store.explained(uri):
        model = _registered(client, name, text)
        found = _version(client, model, version if slash else "", alias)
        return _fetched(client, uri, found)


def _folder(path: str) -> ModelRef:
    """A plain folder, local or remote. Raises InputError when it holds no whole model."""
    from nnst import models  # brings torch, which resolving a wrong name need not wait for

    folder = storage.absolute(path)
    return ModelRef(folder, "", folder, models.digest(folder), "")


def _registered(client: Any, name: str, text: str) -> Any:
    """MLflow's record of the model. Raises InputError when there is none."""
    try:
        return client.get_registered_model(name)
    except store.mlflow().MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    names = [item.name for item in client.search_registered_models(max_results=MOST_NAMES)]
    raise InputError(f"no model {name!r}", _hint(name, text, names))


def _hint(name: str, text: str, names: Sequence[str] = ()) -> str:
    """What to do about an unknown name."""
    if os.path.isdir(text):
        return f"write ./{text} for the folder of that name"
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"train one: nnst train CROPS --name {name}"


def _version(client: Any, model: Any, version: str, alias: str) -> Any:
    """MLflow's record of one version. Raises InputError when there is none."""
    name, aliases = model.name, model.aliases
    if alias and alias not in aliases:
        known = ", ".join(f"{name}@{item}" for item in sorted(aliases)) or "it has no alias"
        raise InputError(f"no model {name}@{alias}", f"known: {known}")
    order = ["version_number DESC"]
    newest = client.search_model_versions(f"name='{name}'", max_results=5, order_by=order)
    wanted = version or str(aliases.get(alias or CHAMPION, ""))
    if not wanted and newest:
        return newest[0]
    try:
        return client.get_model_version(name, wanted)
    except store.mlflow().MlflowException as error:
        if not store.is_refusal(error):
            raise
        known = ", ".join(f"{name}/{item.version}" for item in newest) or "it has no version"
        raise InputError(f"no model {name}/{wanted}", f"the newest are {known}") from None


def _fetched(client: Any, uri: str, found: Any) -> ModelRef:
    """The version with its files on this machine, checked against its digest."""
    from nnst import models

    name, version, stated = found.name, str(found.version), found.tags.get("digest", "")
    source = client.get_model_version_download_uri(name, version)
    if source.startswith(("file:", "/")):
        folder = url2pathname(urlsplit(source).path)
        if not os.path.isdir(folder):
            remedy = "bring that folder back, or train the model again"
            raise InputError(f"the files of {name}/{version} are not at {folder}", remedy)
    elif source.startswith("mlflow-artifacts:") and store.database_file(uri):
        remedy = "set MLFLOW_TRACKING_URI to the address of that server"
        raise InputError(f"the files of {name}/{version} are behind an MLflow server", remedy)
    else:
        folder = _cached(source, uri, stated)
    digest = models.digest(folder)
    if stated not in ("", digest):
        what = f"the files of {name}/{version} in {folder} are not those that were registered"
        raise InputError(what, "choose another version, or train the model again")
    return ModelRef(name, version, folder, digest, found.run_id or "")


def _cached(source: str, uri: str, stated: str) -> str:
    """A folder of this machine with the two files at the source, downloaded once per digest."""
    from nnst import models

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nnst", "models")
    if re.fullmatch("[0-9a-f]{64}", stated) and (cache / stated).is_dir():
        return str(cache / stated)  # the caller checks it
    cache.mkdir(parents=True, exist_ok=True)
    fetch = store.mlflow().artifacts.download_artifacts
    temporary = tempfile.mkdtemp(dir=cache, prefix=".download-")
    try:
        for file in (models.WEIGHTS, models.DESCRIPTION):
            fetch(artifact_uri=f"{source}/{file}", dst_path=temporary, tracking_uri=uri)
        place = cache / models.digest(temporary)
        if not place.is_dir():
            os.rename(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(place)
