"""Jobs of a Ray cluster, over its dashboard: begun once, followed to their end, stopped.

A job's id is made from its command, so that the same command finds the job that it began; a number
at its end counts how often that command was run. What a job did is told by its output folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nnst.errors import InputError, JobFailed

# ray costs a second to import: functions import it, so that help need not.

_PATIENCE_S = 120.0  # for a dashboard that does not answer while a job is followed
_PAUSE_S = 1.0
_INTERRUPTED = 130
_LOUD = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray takes them before what it is given


# What Ray says where the process that watches over a driver is gone, and its node mostly with it.
_LOSSES = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run: `name` stands for its command, `folder` holds the code."""

    name: str
    entrypoint: str
    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended."""

    code: int
    message: str  # Ray's word on it where it was not the command's own; else ""
    lost: bool  # whether its driver went with the machine that it was on


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a job is begun anew, and what hears its log."""

    write: Callable[[str], object]
    losses: int = 3  # of the driver's machine
    pause: float = 75.0  # seconds, until its lease on the output folder has run out


def connect(address: str) -> Any:
    """A client of the dashboard at this address. Raises InputError when it lets nobody in."""
    from ray.job_submission import JobSubmissionClient

    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with _without(_ADDRESSES):
            return JobSubmissionClient(address)
    except Exception as error:  # of requests, of Ray, of the address itself
        what = f"no Ray cluster takes jobs at {address}: {_first_line(error)}"
        remedy = (
            "check --address (the dashboard's, often behind ssh -L 8265:127.0.0.1:8265 HEAD) and "
            "the cluster's token (RAY_AUTH_TOKEN_PATH)"
        )
        raise InputError(what, remedy) from None


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Inside, these variables are not set."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def latest(client: Any, name: str) -> Any:
    """Ray's record of the last job of this name, None where there was none."""
    jobs = {_number(name, job.submission_id): job for job in client.list_jobs()}
    jobs.pop(0, None)
    return jobs[max(jobs)] if jobs else None


def _number(name: str, identity: str | None) -> int:
    """The 3 of `NAME-3`; 0 of what is no job of this name."""
    head, _, tail = (identity or "").rpartition("-")
    return int(tail) if head == name and tail.isdecimal() else 0


def begin(client: Any, job: Job) -> tuple[str, bool]:
    """The id of the job, and whether it is new: one that runs already is not begun twice."""
    began = time.monotonic()
    while True:
        found = latest(client, job.name)
        if found is not None and not found.status.is_terminal():
            return found.submission_id, False
        number = _number(job.name, found.submission_id) + 1 if found is not None else 1
        identity = f"{job.name}-{number}"
        runtime = {"working_dir": job.folder, "env_vars": dict(job.environment)}
        try:
            client.submit_job(
                entrypoint=job.entrypoint, submission_id=identity, runtime_env=runtime
            )
        except RuntimeError as error:
            young = "try again" in str(error) and time.monotonic() - began < _PATIENCE_S
            if not young and "already exists" not in str(error):
                raise JobFailed(f"the cluster did not take the job: {_first_line(error)}") from None
            time.sleep(_PAUSE_S)
        else:
            return identity, True


def stop(client: Any, identity: str) -> None:
    """Ask the job to end; `follow` sees when it has."""
    client.stop_job(identity)


def see_through(client: Any, job: Job, identity: str, patience: Patience) -> tuple[str, End]:
    """Follow the job, and begin it anew where the machine of its driver was lost: which does only
    what is missing. The id of the last, and its end. Raises JobFailed as `follow` does.
    """
    for _ in range(patience.losses):
        end = follow(client, identity, patience.write)
        if not end.lost:
            return identity, end
        patience.write(f"nnst: the machine of job {identity} is lost; it begins anew\n")
        time.sleep(patience.pause)
        identity, _ = begin(client, job)
    return identity, follow(client, identity, patience.write)


def follow(client: Any, identity: str, write: Callable[[str], object]) -> End:
    """How the job ended.

    Its log is written as it comes, and each line of it once. A connection that drops is made again.
    Raises JobFailed when the dashboard stays away.
    """
    log, answered = _Log(write), time.monotonic()
    while True:
        try:
            asyncio.run(log.tail(client, identity))
        except (RuntimeError, OSError):  # of time running out, too
            pass  # the record below tells whether the cluster is still there
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "aiohttp":
                raise
        try:
            record = client.get_job_info(identity)
        except (RuntimeError, OSError) as error:  # of requests, all are OSErrors
            if time.monotonic() - answered > _PATIENCE_S:
                what = f"the cluster's dashboard does not answer: {_first_line(error)}"
                remedy = "the job may go on; the same command follows it again"
                raise JobFailed(what, remedy) from None
        else:
            answered = time.monotonic()
            if record.status.is_terminal():
                return _end_of(record)
        time.sleep(_PAUSE_S)


def _end_of(record: Any) -> End:
    own = record.driver_exit_code is not None  # then its log says why
    message = "" if own else _first_line(record.message or "")
    return End(exit_code(record), message, not own and record.error_type in _LOSSES)


def exit_code(record: Any) -> int:
    """What a job's command ended with; 130 for one that was stopped, which Ray calls no failure."""
    if record.status == "SUCCEEDED":
        return 0
    if record.status == "STOPPED":
        return _INTERRUPTED
    code = record.driver_exit_code
    if code is None or code == 0:  # Ray lost it, or never got so far as to start it
        return 1
    return int(code) if code > 0 else 128 - int(code)  # as shells count signals


class _Log:
    """A job's log, which every new connection tells from its start."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._told = 0  # characters

    async def tail(self, client: Any, identity: str) -> None:
        """Write what is new until the job ends or the connection does."""
        seen = 0
        async for text in client.tail_job_logs(identity):
            new = text[max(0, self._told - seen) :]
            seen += len(text)
            if new:
                self._write(new)
                self._told = seen


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
