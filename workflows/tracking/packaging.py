"""The files beside a model that make it one of MLflow's: what it takes and gives, how it loads."""

from __future__ import annotations

import base64
import os
import platform
from typing import Any

import numpy as np

from nnst import storage
from nnst.records import ModelSpec
from workflows.tracking import store

CODE, EXAMPLE = "picture_model.py", "input_example.json"
# A model from code, in MLflow's words: no pickle, and the weights hold no code either.
CODE_TEXT = """\
# By this MLflow loads the model: mlflow.pyfunc.load_model("models:/NAME/VERSION"). It needs nnst.
from mlflow.models import set_model

from workflows.tracking.serving import PictureModel

set_model(PictureModel())
"""


def write_description(folder: str, run_id: str, spec: ModelSpec, digest: str) -> list[str]:
    """The paths of the files written: MLmodel, its code, and an example of its input."""
    from nnst import models

    mlflow = store.mlflow()
    model = mlflow.models.Model(artifact_path="model", run_id=run_id, signature=_signature(spec))
    model.add_flavor("nnst", architecture=spec.architecture, labels=list(spec.labels))
    model.add_flavor(
        "python_function",  # by hand: importing mlflow.pyfunc takes seconds and warns of itself
        loader_module="mlflow.pyfunc.model",
        python_version=platform.python_version(),
        config={"digest": digest},
        model_code_path=CODE,
        artifacts={
            name: {"path": file, "uri": file}
            for name, file in (("weights", models.WEIGHTS), ("description", models.DESCRIPTION))
        },
    )
    model.saved_input_example_info = {
        "artifact_path": EXAMPLE,
        "type": "dataframe",
        "pandas_orient": "split",
    }
    storage.put(storage.join(folder, EXAMPLE), storage.to_json(_example(spec)))
    storage.put(storage.join(folder, CODE), CODE_TEXT.encode())
    model.save(os.path.join(folder, "MLmodel"))
    return [os.path.join(folder, name) for name in (EXAMPLE, CODE, "MLmodel")]


def _signature(spec: ModelSpec) -> Any:
    """Bytes of picture files in; boxes in pixels of the stored picture, scores, labels out."""
    types = store.mlflow().types
    kind, column = types.DataType, types.ColSpec
    array = types.schema.Array
    return store.mlflow().models.ModelSignature(
        inputs=types.Schema([column(kind.binary, "image")]),
        outputs=types.Schema(
            [
                column(kind.string, "status"),
                column(array(array(kind.double)), "boxes"),
                column(array(kind.double), "scores"),
                column(array(kind.string), "labels"),
            ]
        ),
        params=types.ParamSchema([types.ParamSpec("threshold", kind.double, spec.threshold)]),
    )


def _example(spec: ModelSpec) -> dict[str, Any]:
    """A picture file as MLflow keeps a row: grey, two windows large, so that it shows nobody."""
    from nnst import images  # brings OpenCV, which sets its limits in the environment

    height, width = (2 * side for side in spec.window_hw)
    slope = np.linspace(96, 160, width).astype(np.uint8)
    pixels = np.repeat(np.tile(slope, (height, 1))[:, :, None], 3, axis=2)  # (H, W, 3)
    data = base64.b64encode(images.encode_png(pixels)).decode()
    return {"columns": ["image"], "data": [[data]]}
