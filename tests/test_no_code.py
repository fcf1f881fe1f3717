"""No code from data: what is opened is tensors, tables, JSON, XML and pictures, never a pickle."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nnst import archive, images
from nnst.errors import InputError

ROOT = Path(__file__).resolve().parents[1]

# Modules that run code from what they read, or exist to write such files.
BANNED = ("cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve")
# Functions that do, by their last two names as they are called.
OPENERS = {
    "torch.load",
    "jit.load",
    "export.load",
    "hub.load",
    "np.load",
    "numpy.load",
    "pd.read_pickle",
    "pandas.read_pickle",
    "pytorch.load_model",
    "pyfunc.load_model",
    "pa.deserialize",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}


def called(node: ast.Call) -> str:
    """The last two names of what is called: `torch.load` of `torch.load(...)`."""
    return ".".join(ast.unparse(node.func).split(".")[-2:])


def doors(tree: ast.AST) -> Iterator[str]:
    """Everything in the code that could run code from data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in BANNED)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield from (base for _ in node.names[:1] if base.split(".")[0] in BANNED)
            names = {f"{base.split('.')[-1]}.{a.name}" for a in node.names}
            yield from sorted(names & OPENERS)
            whole = {f"{base}.{a.name}" for a in node.names}
            yield from sorted(name for name in whole if name.split(".")[-1] in BANNED)
        elif isinstance(node, ast.Call):
            name = called(node)
            # safetensors.torch.load is the one that is meant.
            safe = ast.unparse(node.func).startswith("safetensors.")
            if (name in OPENERS and not safe) or name in BUILTINS:
                yield name
            yield from (k.arg for k in node.keywords if k.arg == "allow_pickle" and k.arg)


def test_the_search_for_doors_sees_every_form() -> None:
    """Else the test below would pass by not looking."""
    code = """
import pickle
import joblib.numpy_pickle as n
from marshal import loads
from ray import cloudpickle
from torch import load
def function():
    import yaml
    yaml.load(text, yaml.Loader)
    yaml.safe_load(text)
    torch.load(path, weights_only=True)
    torch.jit.load(path)
    torch.export.load(path)
    np.load(path)
    np.savez(path, allow_pickle=True)
    mlflow.pytorch.load_model(uri)
    eval(text)
    safetensors.torch.load(data)
    model.eval()
    json.load(stream)
"""
    expected = (
        "pickle joblib.numpy_pickle marshal ray.cloudpickle torch.load yaml.load torch.load "
        "jit.load export.load np.load allow_pickle pytorch.load_model eval"
    )
    assert sorted(doors(ast.parse(code))) == sorted(expected.split())


def test_no_code_of_the_project_opens_a_pickle() -> None:
    paths = [path for folder in ("nnst", "workflows") for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 100
    found = [
        f"{path.relative_to(ROOT)}: {door}"
        for path in sorted(paths)
        for door in doors(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


# Bombs


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """The file that is there when code has run."""
    return tmp_path / "canary"


def plain(canary: Path) -> bytes:
    return pickle.dumps(Bomb(canary))


def saved(canary: Path) -> bytes:
    """As torch.save writes it."""
    sink = io.BytesIO()
    torch.save({"weight": Bomb(canary)}, sink)
    return sink.getvalue()


def exported(canary: Path) -> bytes:
    """A .pt2 is a zip, and what torch.export.load opens in it is pickled."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as made:
        made.writestr("archive/archive_format", "pt2")
        made.writestr("archive/data/sample_inputs/model.pt", saved(canary))
        made.writestr("archive/models/model.json", "{}")
    return sink.getvalue()


MADE: dict[str, Callable[[Path], bytes]] = {
    "bomb.pt": saved,
    "bomb.pkl": plain,
    "bomb.pt2": exported,
    "bomb.ckpt": saved,
}


def test_the_bombs_are_bombs(canary: Path) -> None:
    for made in (plain, saved):
        data = made(canary)
        assert not canary.exists()
        if made is plain:
            pickle.loads(data)
        else:
            torch.load(io.BytesIO(data), weights_only=False)
        assert canary.exists()
        canary.unlink()


def scan(nnst: Callable[..., Any], scenes: Any, tmp_path: Path, model: str) -> Any:
    """What a scan with a model says."""
    return nnst("scan", scenes.folder, "--model", model, "--out", tmp_path / "scan")


@pytest.mark.parametrize("name", MADE)
def test_a_pickled_model_is_refused_by_a_scan(
    name: str, nnst: Callable[..., Any], scenes: Any, tmp_path: Path, canary: Path
) -> None:
    (tmp_path / name).write_bytes(MADE[name](canary))
    done = scan(nnst, scenes, tmp_path, str(tmp_path / name))
    assert (done.code, done.out) == (2, "")
    assert f"{tmp_path / name} is a pickled model, which nnst never opens" in done.err
    assert not (tmp_path / "scan").exists()
    assert not canary.exists()


def test_pickles_in_the_folder_of_a_model_are_not_looked_at(
    nnst: Callable[..., Any], scenes: Any, mark_model: str, tmp_path: Path, canary: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(mark_model).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name, made in MADE.items():
        (folder / name).write_bytes(made(canary))
    (folder / "python_model.pkl").write_bytes(plain(canary))
    done = scan(nnst, scenes, tmp_path, f"{folder}/")
    assert done.code == 0, done.err
    assert not canary.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
@pytest.mark.parametrize("made", [plain, saved, exported])
def test_a_pickle_in_place_of_a_models_file_is_refused_by_a_scan(
    name: str,
    made: Callable[[Path], bytes],
    nnst: Callable[..., Any],
    scenes: Any,
    mark_model: str,
    tmp_path: Path,
    canary: Path,
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(mark_model).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_bytes(made(canary))
    done = scan(nnst, scenes, tmp_path, f"{folder}/")
    assert (done.code, done.out) == (2, "")
    assert f"the model in {folder}" in done.err
    assert name in done.err
    assert not canary.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_one_byte_changed_in_a_models_folder_is_refused_by_a_scan(
    name: str, nnst: Callable[..., Any], scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    """In the digits of the digest itself, too."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(mark_model).iterdir():
        data = bytearray(path.read_bytes())
        if path.name == name:
            place = data.index(b"weights_sha256") + 25 if name == "model.json" else len(data) - 2
            data[place] ^= 1
        (folder / path.name).write_bytes(data)
    done = scan(nnst, scenes, tmp_path, f"{folder}/")
    assert (done.code, done.out) == (2, "")
    assert f"the model in {folder}" in done.err
    assert "weights.safetensors is not the file that model.json was written for" in done.err
    assert not (tmp_path / "scan").exists()


def test_one_byte_changed_in_a_registered_model_is_refused_by_a_scan(
    nnst: Callable[..., Any], scenes: Any, trained: Any, workplace: Path, tmp_path: Path
) -> None:
    """Also where description and weights were both changed to agree: the registry has a digest."""
    (weights,) = (workplace / "mlruns" / "artifacts" / "mark").glob(
        f"{trained.document['run_id']}/artifacts/model/weights.safetensors"
    )
    before = weights.read_bytes()
    data = bytearray(before)
    data[-2] ^= 1
    weights.write_bytes(data)
    try:
        done = scan(nnst, scenes, tmp_path, "mark/1")
    finally:
        weights.write_bytes(before)
    assert (done.code, done.out) == (2, "")
    assert f"the model in {weights.parent}" in done.err
    assert scan(nnst, scenes, tmp_path, "mark/1").code == 0


# Parquet files

PICKLING = (
    "ray.data.arrow_tensor",
    "ray.data.arrow_tensor_v2",
    "ray.data.arrow_variable_shaped_tensor",
    "ray.data.arrow_pickled_object",
    "arrow.py_extension_type",
)


def parquet_bomb(path: Path, kind: str, canary: Path, pictures: bool) -> None:
    """A table whose schema says that a column is of a type which is made by unpickling."""
    bomb = plain(canary)
    metadata = {"ARROW:extension:name": kind, "ARROW:extension:metadata": bomb}
    storage = pa.large_list(pa.int64()) if kind.endswith("_v2") else pa.list_(pa.int64())
    values: list[Any] = [[1, 2], [3]]
    if kind.endswith(("object", "extension_type")):
        storage, values = pa.large_binary(), [bomb, bomb]
    fields, columns = [pa.field("x", storage, metadata=metadata)], [pa.array(values, storage)]
    if pictures:
        png = images.encode_png(np.zeros((40, 60, 3), np.uint8))
        fields.append(pa.field("image", pa.binary()))
        columns.append(pa.array([png, png], pa.binary()))
    else:
        fields[0] = fields[0].with_name("image")
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), path)


@pytest.mark.parametrize("pictures", [True, False], ids=["beside pictures", "as the pictures"])
@pytest.mark.parametrize("kind", PICKLING)
def test_a_table_with_a_type_that_is_unpickled_runs_nothing(
    kind: str, pictures: bool, tmp_path: Path, canary: Path
) -> None:
    """With Ray's types known to Arrow, as they are wherever Ray Data was imported."""
    import ray.data  # noqa: F401

    path = tmp_path / "bomb.parquet"
    parquet_bomb(path, kind, canary, pictures)
    members = []
    with contextlib.suppress(InputError):
        plan = archive.plan(str(path), 10)
        members = list(archive.stream(str(path), plan.inputs))
    assert all(member.data is None or isinstance(member.data, bytes) for member in members)
    assert not canary.exists()


def test_of_such_a_table_either_the_pictures_are_read_or_it_is_refused_by_name(
    tmp_path: Path, canary: Path
) -> None:
    import ray.data  # noqa: F401

    read, refused = [], []
    for kind in PICKLING:
        path = tmp_path / f"{kind}.parquet"
        parquet_bomb(path, kind, canary, pictures=True)
        try:
            read.append(archive.plan(str(path), 10).inputs.num_rows)
        except InputError as error:
            refused.append((path, str(error)))
    assert read
    assert set(read) == {2}
    assert all(f"cannot read the Parquet file {path.name}: " in told for path, told in refused)


def test_such_a_table_does_run_code_where_rays_door_stands_open(
    tmp_path: Path, canary: Path
) -> None:
    """So the tests above do hold something off; `fanout.start` refuses to begin then."""
    path = tmp_path / "bomb.parquet"
    parquet_bomb(path, "ray.data.arrow_tensor", canary, pictures=True)
    code = (
        "import contextlib, sys, ray.data, pyarrow.parquet\n"
        "with contextlib.suppress(Exception):\n"
        "    pyarrow.parquet.ParquetFile(sys.argv[1])\n"
    )
    door = {"RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "1"}
    for environment, ran in ((os.environ, False), (os.environ | door, True)):
        command = [sys.executable, "-c", code, str(path)]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True)
        assert canary.exists() is ran


def test_a_scan_of_such_a_table_runs_nothing(
    nnst: Callable[..., Any], mark_model: str, tmp_path: Path, canary: Path
) -> None:
    for kind in PICKLING:
        path = tmp_path / f"{kind}.parquet"
        parquet_bomb(path, kind, canary, pictures=True)
        done = nnst("scan", path, "--model", mark_model, "--out", tmp_path / kind)
        assert done.code in (0, 2), done.err
        assert not canary.exists()
