"""Where the records are kept, and a client that reaches them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from nnst import storage
from nnst.errors import InputError
from workflows import submitted
from workflows.tracking.outbox import brief

DATABASE = os.path.join("mlruns", "mlflow.db")

_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # it is the outbox that is patient
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds; twice that is the most that a call may wait
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_OLD_TABLES = "out-of-date database schema"
_NO_SUCH_HOST = ("NameResolutionError", "Name or service not known", "Failed to resolve")
_LOUD = ("mlflow", "alembic", "urllib3.connectionpool")


def mlflow() -> Any:
    """MLflow, silent: stdout is the caller's, and errors reach him as exceptions.

    Imported here and not above, because the import takes 1.6 s that `nnst --help` need not wait.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.artifacts
    import mlflow.entities
    import mlflow.exceptions
    import mlflow.models
    import mlflow.types

    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return mlflow


def tracking_uri() -> str:
    """The address of the records, which holds in every working directory.

    MLFLOW_TRACKING_URI, else a database in mlruns/ under the current folder. Raises InputError.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{DATABASE}"
    kind = given.partition(":")[0].partition("+")[0]
    remedy = "unset it to record in mlruns/, or give http://HOST:PORT or sqlite:////PATH/mlflow.db"
    if kind == "sqlite":
        path = given.partition(":///")[2]
        if path in ("", ":memory:"):
            raise InputError(f"MLFLOW_TRACKING_URI={given} names no file", remedy)
        return f"sqlite:///{_absolute(path)}"
    if kind in ("http", "https") and urlsplit(given).hostname:
        return given.rstrip("/")
    if kind in ("postgresql", "mysql", "mssql"):
        return given
    what = f"MLFLOW_TRACKING_URI={shown(given)} is neither a server nor a database"
    raise InputError(f"{what} (MLflow has closed its store of plain files)", remedy)


def _absolute(path: str) -> str:
    """The path in full; refused in a submitted job, whose folder is a copy that gets lost."""
    if submitted.inside() and not os.path.isabs(path):
        raise InputError(
            f"what a submitted job records in {path} would be lost with its folder",
            "set MLFLOW_TRACKING_URI to a server that the cluster reaches",
        )
    return os.path.abspath(path)


def database_file(uri: str) -> str:
    """The path of an SQLite database; "" for every other address."""
    return uri.removeprefix("sqlite:///") if uri.startswith("sqlite:") else ""


def artifact_folder(uri: str) -> str:
    """Where the files of runs go that are recorded in a database: beside it, if it is a file."""
    beside = os.path.dirname(database_file(uri) or os.path.abspath(DATABASE))
    return os.path.join(beside, "artifacts")


def shown(uri: str) -> str:
    """The text without the passwords of addresses in it."""
    return re.sub(r"//[^/@\s]*@", "//", uri)


def client(uri: str) -> Any:
    """An MlflowClient for the records at this address. Raises InputError where there are none."""
    with explained(uri):
        return connect(uri)


def connect(uri: str) -> Any:
    """The same; what goes wrong is raised as MLflow has it. A database has its tables then."""
    with _alone(database_file(uri)):
        opened = mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)
        if not uri.startswith("http"):
            opened.search_experiments(max_results=1)
    return opened


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """MLflow's errors become InputError, with what to do."""
    import sqlalchemy.exc  # MLflow lets errors of a database that cannot be opened through

    try:
        yield
    except (mlflow().MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        remedy = "start that server, or unset MLFLOW_TRACKING_URI to record in mlruns/"
        if _OLD_TABLES in str(error):
            remedy = f"back the database up, then run: mlflow db upgrade {shown(uri)}"
        elif database_file(uri):
            remedy = "make that file usable, or name another one with MLFLOW_TRACKING_URI"
        what = f"MLflow at {shown(uri)} cannot be used: {shown(brief(error))}"
        raise InputError(what, remedy) from error


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """One process at a time: two that create MLflow's tables at once break them."""
    if not path:
        yield
        return
    if os.path.exists(path) and storage.read(path, 16) not in (b"", b"SQLite format 3\0"):
        raise OSError("the file is not an SQLite database")  # MLflow would try for 100 s
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_refusal(error: Exception) -> bool:
    """Whether the same call would fail again: MLflow answered, and did not like it."""
    import sqlalchemy.exc

    if isinstance(error, mlflow().MlflowException):
        status = error.get_http_status_code()
        return status < 500 and status not in (408, 429)
    if isinstance(error, sqlalchemy.exc.OperationalError):  # a database that is away or locked
        return False
    return not isinstance(error, OSError) or isinstance(error, FileNotFoundError)


def is_wrong(uri: str, error: Exception) -> bool:
    """Whether it is the address that is wrong, so that waiting for an answer would help nobody."""
    text = str(error)
    if is_refusal(error) or _OLD_TABLES in text or any(each in text for each in _NO_SUCH_HOST):
        return True
    if isinstance(error, mlflow().MlflowException) or "locked" in text:
        return False
    return bool(database_file(uri))  # a file that cannot be opened or written
