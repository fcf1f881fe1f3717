"""A registered model as MLflow loads it: picture files in, detections out.

This module imports MLflow, and nothing imports it but the file of code beside a model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mlflow.pyfunc.model import PythonModel
from pandas import DataFrame

from nnst import images, records
from nnst.errors import ImageError, InputError


class PictureModel(PythonModel):
    """The detector of the folder that MLflow brings, as `mlflow.pyfunc.load_model` gives it."""

    def load_context(self, context: Any) -> None:
        """Build the detector. Raises InputError unless the files are those that were registered."""
        from nnst.detector import load_detector

        folder = os.path.dirname(context.artifacts["description"])
        self._detector = load_detector(folder, context.model_config["digest"])

    def predict(
        self, context: Any, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> DataFrame:
        """A row a picture: what was found with a score of at least `threshold`, and the status.

        `model_input` is a data frame whose column `image` holds the bytes of picture files.
        """
        least = (params or {}).get("threshold")
        least = self._detector.spec.threshold if least is None else float(least)
        files = model_input["image"].tolist()
        odd = [each for each in files if not isinstance(each, bytes | bytearray)]
        if odd:
            what = f"the column image holds {type(odd[0]).__name__}, not the bytes of picture files"
            raise InputError(what, "read the files, and give what is in them")
        return DataFrame([self._row(bytes(data), least) for data in files])

    def _row(self, data: bytes, least: float) -> Mapping[str, Any]:
        """What one picture gives; a status that is not `ok` says why it could not be looked at."""
        try:
            picture = images.decode(data, reduction=self._detector.reduction)
        except ImageError as error:
            return {"status": error.reason, "boxes": [], "scores": [], "labels": []}
        found = self._detector.detect_stored(picture)
        found = found[found.scores >= least]
        return {
            "status": records.OK,
            "boxes": found.boxes.astype(float).tolist(),
            "scores": found.scores.astype(float).tolist(),
            "labels": [self._detector.spec.labels[label] for label in found.labels.tolist()],
        }
