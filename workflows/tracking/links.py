"""What a run's page says of where its model comes from, with links that MLflow's pages follow."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from workflows.tracking import store
from workflows.tracking.lookup import ModelRef
from workflows.tracking.runs import Run

NOTE = "mlflow.note.content"  # the description at the head of a run's page, in Markdown


def link_model(run: Run, model: ModelRef) -> None:
    """Have the page of a run lead to the version that it used and to the run that trained it."""
    run.send("links", partial(_link, run, model))


def _link(run: Run, model: ModelRef, client: Any) -> None:
    client.set_tag(run.run_id, NOTE, _note(client, model))


def _note(client: Any, model: ModelRef) -> str:
    if not model.version:
        return f"Scanned with the model in {model.folder}, which is not registered."
    page = f"#/models/{quote(model.name)}/versions/{model.version}"
    note = f"Scanned with [{model}]({page}), sha256 {model.digest[:12]}"
    trained = _training(client, model.run_id)
    if trained is None:
        return f"{note}; the run that trained it is gone."
    experiment, name = trained.info.experiment_id, trained.info.run_name
    address = f"#/experiments/{experiment}/runs/{model.run_id}"
    return f"{note}, which [{name}]({address}) trained."


def _training(client: Any, run_id: str) -> Any:
    """MLflow's record of the run; None where there is none."""
    try:
        return client.get_run(run_id) if run_id else None
    except store.mlflow().MlflowException as error:
        if not store.is_refusal(error):
            raise
        return None
