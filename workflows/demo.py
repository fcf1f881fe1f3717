"""`nnst demo`: draws scenes with a made-up logo, and runs the other verbs on them as a user would.

Only the drawing is this verb's own. A demo that was cut short goes on where it was, because the
verbs do; a finished one says again what came out.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nnst import config, ledger, records, scenes, storage
from nnst.config import setting
from nnst.errors import InputError
from workflows import provenance
from workflows.commands import COMMANDS, Options, Outcome
from workflows.progress import Progress

MODEL = "demo"  # the name that the model is registered under
_CONTENTS = ("scenes", "background", "archive", "truth.xml", "crops", "model.json", "scan")


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Settings of nnst demo."""

    out: str = setting("demo", "the folder to write everything to")
    seed: int = setting(0, "decides what is drawn and how it is learnt")
    scenes: int = setting(40, "pictures with boxes, to learn from")
    background: int = setting(32, "pictures without the logo, to learn from")
    archive: int = setting(48, "pictures to search, on photographs that nothing was learnt from")
    epochs: int = setting(0, "rounds of training of each network; 0 is the model's own")
    steps: int = setting(40, "updates in a round")
    min_width: int = setting(48, "the smallest logo looked for, in pixels")

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if min(self.scenes, self.background, self.archive) < 8:
            raise ValueError("scenes, background and archive must each be 8 or more")
        if storage.is_remote(self.out):
            raise ValueError(f"out must be a folder of this machine, got {self.out}")


def run(settings: DemoConfig, options: Options) -> Outcome:
    """Draw, crop, train, scan, evaluate, report."""
    settings = replace(settings, out=os.path.expanduser(settings.out))  # --out=~/demo is not, by sh
    if options.dry_run:
        return _dry_run(settings)
    started = time.monotonic()
    book = _book(settings, options)
    if not book.is_done():
        draw(settings)
        book.succeed()
    learning = steps(settings, MODEL)
    _run_step("crop", learning["crop"])
    trained = _train(settings, learning["train"])
    finding = steps(settings, trained["model"])  # this very version, whatever is trained later
    found = {verb: _run_step(verb, finding[verb]) for verb in ("scan", "evaluate", "report")}
    document = {
        "out": book.out,
        "model": trained["model"],
        "train_run_id": trained["run_id"],
        "scan_run_id": found["scan"]["run_id"],
        "evaluation": found["evaluate"],
        "page": found["report"]["page"],
        "seconds": round(time.monotonic() - started, 1),
    }
    return Outcome(document, _describe(document))


def draw(settings: DemoConfig) -> None:
    """Write the pictures to learn from and those to search, and the truth of both."""
    _say("drawing a made-up logo into photographs of installed packages")
    counts = _counts(settings)
    with Progress("draw", sum(counts.values())) as progress:
        for chosen in scenes.SETS:
            count = counts[chosen.folder]
            for _ in scenes.write(settings.out, chosen, count, settings.seed):
                progress.advance(1)


def steps(settings: DemoConfig, model: str) -> dict[str, dict[str, Any]]:
    """The verbs in their order, each with its settings; `model` is the one to scan with."""
    folder = {name: storage.join(settings.out, name) for name in _CONTENTS}
    return {
        "crop": {
            "truth": (storage.join(folder["scenes"], "truth.xml"),),
            "negative_label": (scenes.OTHER,),
            "out": folder["crops"],
        },
        "train": {
            "crops": (folder["crops"],),
            "name": MODEL,
            "background": folder["background"],
            "epochs": settings.epochs,
            "seed": settings.seed,
            "training": {"steps": settings.steps},
        },
        "scan": {
            "archive": folder["archive"],
            "model": model,
            "out": folder["scan"],
            "min_width": settings.min_width,
            "shard_images": 8,  # few pictures: this way every worker has some
        },
        "evaluate": {"scan": folder["scan"], "truth": folder["truth.xml"]},
        "report": {"scan": folder["scan"]},
    }


def command_line(verb: str, values: Mapping[str, Any]) -> str:
    """The command that a person types to run the verb with these settings."""
    command = COMMANDS[verb]
    positional = [word.removesuffix("...") for word in command.positional]
    words = ["nnst", verb, *(text for name in positional for text in _texts(values[name]))]
    for name, value in config.flatten(values):
        if name in command.flags:
            words += [word for text in _texts(value) for word in (_flag(name), text)]
        elif name not in positional:
            words += ["--set", f"{name}={','.join(_texts(value))}"]
    return shlex.join(words)


def next_commands() -> list[str]:
    """What to try when the demo is over: the examples of the same verbs, and the page of runs."""
    return [COMMANDS[verb].example for verb in ("crop", "train", "scan", "report", "ui")]


def _counts(settings: DemoConfig) -> dict[str, int]:
    return {chosen.folder: getattr(settings, chosen.folder) for chosen in scenes.SETS}


def _book(settings: DemoConfig, options: Options) -> ledger.Ledger:
    """The folder's ledger: whose demo it holds, and whether its pictures are all drawn."""
    out = storage.absolute(settings.out)
    if options.fresh:
        _start_fresh(out)
    values = config.to_dict(settings)
    del values["out"]
    nothing = records.INPUTS.empty_table()
    job = ledger.Job("demo", nothing, values, versions=provenance.versions())
    return ledger.Ledger.create(out, job)


def _start_fresh(out: str) -> None:
    if storage.exists(storage.join(out, "plan.json")):
        ledger.Ledger.open(out, "demo")  # raises when it is another verb's folder
        for name in _CONTENTS:
            storage.remove(storage.join(out, name))
    ledger.start_fresh(out)


def _run_step(verb: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run a verb, telling the command that does the same, and return its document."""
    from workflows.__main__ import dispatch

    _say(f"$ {command_line(verb, values)}")
    outcome = dispatch(verb, values)
    if outcome.error is not None:
        raise outcome.error
    return outcome.document


def _train(settings: DemoConfig, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model version of this demo and its run: trained once, and noted in a file."""
    from workflows import tracking

    path = storage.join(settings.out, "model.json")
    if not storage.exists(path):
        trained = _run_step("train", values)
        kept = {name: trained[name] for name in ("model", "run_id")}
        storage.put(path, storage.to_json(kept))
    found: dict[str, Any] = storage.read_json(path)
    try:
        tracking.resolve(found["model"])
    except InputError as error:
        raise InputError(
            f"this demo trained {found['model']}, which is not recorded here: {error.what}",
            "run it where its mlruns/ is, or give --fresh to start anew",
        ) from None
    return found


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _dry_run(settings: DemoConfig) -> Outcome:
    counts = _counts(settings)
    drawn = ", ".join(f"{count} in {folder}" for folder, count in counts.items())
    commands = [command_line(verb, values) for verb, values in steps(settings, MODEL).items()]
    text = f"would draw {sum(counts.values())} pictures into {settings.out} ({drawn}), and run"
    document = {"out": storage.absolute(settings.out), "pictures": counts, "commands": commands}
    return Outcome(document, "\n".join([text, *(f"  {command}" for command in commands)]))


def _describe(document: Mapping[str, Any]) -> str:
    judged = document["evaluation"]
    lines = [
        f"{judged['pictures']} pictures were searched, all on photographs that the model never saw",
        *(f"  {line}" for item in judged["labels"] for line in _figures(item)),
        f"page:  {document['page']}",
        f"model: {document['model']}",
        f"runs:  {document['train_run_id']} (train), {document['scan_run_id']} (scan)",
        f"took:  {document['seconds']:.0f} s",
        "next:  open the page in a browser, see the runs with `nnst ui`, and with pictures of",
        "your own, on which you drew boxes with imglab:",
        *(f"  {command}" for command in next_commands()[:-1]),
    ]
    return "\n".join(lines)


def _figures(item: Mapping[str, Any]) -> list[str]:
    ap50 = item["ap50"]
    interval = "" if ap50["low"] is None else f"  (95 %: {ap50['low']:.3f} to {ap50['high']:.3f})"
    return [
        f"average precision at IoU 0.5: {ap50['value']:.3f}{interval}",
        f"at the model's threshold: {item['tp']} of {item['truth_boxes']} logos found, "
        f"{item['fp']} found where there is none",
    ]
