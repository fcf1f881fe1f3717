"""`nnst submit`: a verb, run as a job of a Ray cluster that is followed from here."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nnst.config import setting
from nnst.errors import InputError, JobEnded
from workflows import jobs
from workflows.commands import Options, Outcome

_HERE = ("submit", "ui", "label", "review")  # they are for the machine that one sits at
_PACKAGES = ("nnst", "workflows")
_SETTINGS = "settings.toml"  # the file of --config, as it travels
_SECRET = re.compile(r"//[^/@\s]+@")  # a user, and perhaps a password, in an address
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class SubmitConfig:
    """Settings of nnst submit."""

    address: str = setting(help="the cluster's dashboard, as http://127.0.0.1:8265")
    command: tuple[str, ...] = setting(help="the verb and all that belongs to it, behind --")
    stop: bool = setting(False, "stop the running job of this command instead")
    detach: bool = setting(False, "come back once the job is handed over")
    losses: int = setting(3, "times that it begins anew where its driver's machine was lost")
    plain_http: bool = setting(False, "whether the token may travel to another host without TLS")

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"address must be http://HOST:PORT, got {self.address!r}")
        if self.losses < 0:
            raise ValueError("losses must be 0 or more")
        if parts.username or parts.password:
            raise ValueError("address must hold no password: the token comes from its own file")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.plain_http:
            raise ValueError(
                f"the token would travel to {parts.hostname} for all to read: use https, a tunnel "
                "(ssh -L 8265:127.0.0.1:8265 HEAD) or, in a network of your own, "
                "--set plain_http=true"
            )


def run(settings: SubmitConfig, options: Options) -> Outcome:
    """Hand the command over, or find the job that it began before, and follow it."""
    _check(settings.command)
    name = name_of(settings.command)
    environment = _environment()
    with code_folder() as folder:
        entrypoint = _entrypoint(settings.command, folder)
        if options.dry_run:
            return _dry_run(name, entrypoint, folder)
        _find_token()
        client = jobs.connect(settings.address)
        job = jobs.Job(name, entrypoint, str(folder), environment)
        identity = _stopped(client, name) if settings.stop else _begun(client, job)
        if settings.detach:
            text = f"job: {identity}\nthe same command without --detach follows it"
            return Outcome({"job": identity, "address": settings.address}, text)
        losses = 0 if settings.stop else settings.losses
        identity, end = _followed(client, job, identity, losses)
    text = f"job {identity} has ended with exit code {end.code}"
    wanted = 0 if not settings.stop else 130
    remedy = end.message or "its log says why; the same command does what is missing"
    error = None
    if end.code not in (0, wanted):
        error = JobEnded(_what(identity, end.code), remedy, end.code)
    document = {"job": identity, "address": settings.address, "code": end.code}
    return Outcome(document, text, error)


def _begun(client: object, job: jobs.Job) -> str:
    """The id of the job that runs now."""
    identity, new = jobs.begin(client, job)
    _say(f"job {identity} {'begins' if new else 'runs already; this is its log'}")
    return identity


def _followed(client: object, job: jobs.Job, identity: str, losses: int) -> tuple[str, jobs.End]:
    """The id of the job that came to an end, and that end."""
    try:
        return jobs.see_through(client, job, identity, jobs.Patience(_log, losses))
    except KeyboardInterrupt:
        _say("the job goes on; the same command with --stop ends it")
        raise


def _what(identity: str, code: int) -> str:
    if code == 130:
        return f"job {identity} was stopped"
    return f"job {identity} has failed with exit code {code}"


def _check(command: Sequence[str]) -> None:
    """Raises InputError for a command that could not be run, or that would tell a secret."""
    from workflows.__main__ import check_command  # it imports this module when it runs the verb

    if command[0] in _HERE:
        raise InputError(f"nnst {command[0]} is of no use on a cluster", "run it here")
    for word in command:
        if _SECRET.search(word):
            what = f"{_SECRET.sub('//', word)} holds a user or password, which everybody who sees "
            remedy = "give the nodes their credentials in their own environment"
            raise InputError(f"{what}the job would read", remedy)
    check_command(command)


def name_of(command: Sequence[str]) -> str:
    """The name of a command's job: the same for the same words and the same file of settings."""
    digest = hashlib.sha256(json.dumps(list(command)).encode())
    path = _config_file(command)
    if path is not None:
        digest.update(Path(path).read_bytes())
    return f"nnst-{digest.hexdigest()[:12]}"


def _config_file(command: Sequence[str]) -> str | None:
    """The file that --config names."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None


def _environment() -> dict[str, str]:
    """The variables that travel: where runs are recorded, and nothing else.

    Raises InputError where a password would travel with it, as whoever may see the cluster's jobs
    sees their variables.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return {}
    if _SECRET.search(uri):
        raise InputError(
            "MLFLOW_TRACKING_URI holds a user or password, which everybody who sees the job would "
            "read",
            "unset it here, and set it in the environment of the cluster's nodes",
        )
    return {"MLFLOW_TRACKING_URI": uri}


@contextmanager
def code_folder() -> Iterator[Path]:
    """Inside, a folder with the code of nnst and nothing else, from a checkout or a package."""
    with tempfile.TemporaryDirectory(prefix="nnst-") as name:
        for package in _PACKAGES:
            (source,) = importlib.import_module(package).__path__
            waste = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
            shutil.copytree(source, Path(name, package), ignore=waste)
        yield Path(name)


def _entrypoint(command: Sequence[str], folder: Path) -> str:
    """The command as the cluster's shell runs it; the file of --config goes into the folder."""
    path = _config_file(command)
    words = list(command)
    if path is not None:
        shutil.copyfile(path, folder / _SETTINGS)
        words = [_SETTINGS if word == path else word for word in words]
        words = [f"--config={_SETTINGS}" if word == f"--config={path}" else word for word in words]
    return shlex.join(["python", "-m", "workflows", *words])


def _find_token() -> None:
    """Let Ray send the cluster's token where there is one; without being told to, it does not."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    if os.environ.get("RAY_AUTH_TOKEN") or Path(path).is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _stopped(client: object, name: str) -> str:
    """The id of the running job of this name, which is told to stop."""
    found = jobs.latest(client, name)
    if found is None or found.status.is_terminal():
        raise InputError("no job of this command is running", "give the command as it was begun")
    jobs.stop(client, found.submission_id)
    return str(found.submission_id)


def _dry_run(name: str, entrypoint: str, folder: Path) -> Outcome:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    document = {"job": name, "entrypoint": entrypoint, "files": len(files), "bytes": size}
    text = f"would run: {entrypoint}\nas {name}-N, with {len(files)} files of {size / 1e6:.1f} MB"
    return Outcome(document, text)


def _say(text: str) -> None:
    print(f"nnst: {text}", file=sys.stderr, flush=True)


def _log(text: str) -> None:
    """Show a piece of the job's log, which is progress and no result."""
    print(text, end="", file=sys.stderr, flush=True)
