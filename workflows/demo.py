"""`nnst demo`: draws scenes with a made-up logo, and runs the other verbs on them as a user would.

Only the drawing is this verb's own. A demo that was cut short goes on where it was, because the
verbs do; a finished one says again what came out.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnst import config, images, imglab, ledger, records, scenes, storage
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
    background: int = setting(16, "pictures without the logo, to learn from")
    archive: int = setting(48, "pictures to search, on photographs that nothing was learnt from")
    epochs: int = setting(8, "rounds of training")
    steps: int = setting(40, "updates in a round")
    min_width: int = setting(48, "the smallest logo looked for, in pixels")

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if min(self.scenes, self.background, self.archive) < 8:
            raise ValueError("scenes, background and archive must each be 8 or more")
        if storage.is_remote(self.out):
            raise ValueError(f"out must be a folder of this machine, got {self.out}")


@dataclass(frozen=True, slots=True)
class _Part:
    """A folder of drawn pictures, and the XML file that says where their logos are."""

    folder: str
    truth: str  # relative to OUT; "" for pictures that have no logo
    labels: tuple[str, ...]  # whose boxes the truth has
    photographs: tuple[str, ...]
    marks: tuple[tuple[int, int], ...]  # logos, and others, in each next picture


# The numbers of photographs and of `marks` have no common divisor: every pair comes up.
_PARTS = (
    _Part(
        "scenes",
        "scenes/truth.xml",
        (scenes.OURS, scenes.OTHER),
        scenes.TO_LEARN_FROM,
        ((1, 1), (1, 0), (2, 1), (1, 1), (1, 2)),
    ),
    _Part(
        "background",
        "",
        (),
        scenes.TO_LEARN_FROM,
        ((0, 0), (0, 1), (0, 2), (0, 0), (0, 1)),
    ),
    _Part(
        "archive",
        "truth.xml",
        (scenes.OURS,),
        scenes.TO_SEARCH,
        ((1, 0), (0, 1), (1, 1), (0, 0), (2, 0), (0, 1), (1, 1)),
    ),
)


def run(settings: DemoConfig, options: Options) -> Outcome:
    """Draw, crop, train, scan, evaluate, report."""
    if options.dry_run:
        return _dry_run(settings)
    started = time.monotonic()
    book = _book(settings, options)
    if not book.is_done():
        draw(settings)
        book.succeed()
    _step("crop", _crop(settings))
    trained = _train(settings)
    scanned = _step("scan", _scan(settings, trained["model"]))
    judged = _step("evaluate", _evaluate(settings))
    made = _step("report", _report(settings))
    document = {
        "out": book.out,
        "model": trained["model"],
        "train_run_id": trained["run_id"],
        "scan_run_id": scanned["run_id"],
        "evaluation": judged,
        "page": made["page"],
        "seconds": round(time.monotonic() - started, 1),
    }
    return Outcome(document, _describe(document))


def draw(settings: DemoConfig) -> None:
    """Write every picture, and the truth of a folder when its pictures are there."""
    _say("drawing photographs with a made-up logo in them")
    counts = _counts(settings)
    with Progress("draw", sum(counts.values())) as progress:
        for number, part in enumerate(_PARTS):
            entries = []
            for name, scene in _scenes(part, counts[part.folder], (settings.seed, number)):
                data = images.encode_jpeg(scene.pixels, scene.quality)
                storage.put(storage.join(settings.out, part.folder, name), data)
                entries.append(_entry(part, name, scene))
                progress.advance(1)
            if part.truth:
                dataset = imglab.Dataset(tuple(entries), name="nnst demo", comment=_COMMENT)
                imglab.write(dataset, storage.join(settings.out, *part.truth.split("/")))


_COMMENT = "a made-up word mark, drawn into photographs"


def _counts(settings: DemoConfig) -> dict[str, int]:
    return {part.folder: getattr(settings, part.folder) for part in _PARTS}


def _scenes(part: _Part, count: int, seed: tuple[int, int]) -> Iterator[tuple[str, scenes.Scene]]:
    """The part's pictures with their names; each depends on the seed and its own number only."""
    photographs = scenes.photographs(part.photographs)
    for index in range(count):
        name = part.photographs[index % len(part.photographs)]
        ours, others = part.marks[index % len(part.marks)]
        rng = np.random.default_rng([*seed, index])
        yield f"{index:03d}-{name}.jpg", scenes.draw(photographs[name], ours, others, rng)


def _entry(part: _Part, name: str, scene: scenes.Scene) -> imglab.Image:
    """What the truth says of a picture; its path is relative to the truth's own folder."""
    inside = part.truth.startswith(f"{part.folder}/")
    height, width = scene.pixels.shape[:2]
    boxes = tuple(
        imglab.Box(left=x0, top=y0, width=x1 - x0, height=y1 - y0, label=label)
        for (x0, y0, x1, y1), label in zip(
            scene.boxes.astype(int).tolist(), scene.labels, strict=True
        )
        if label in part.labels
    )
    return imglab.Image(name if inside else f"{part.folder}/{name}", boxes, width, height)


def _book(settings: DemoConfig, options: Options) -> ledger.Ledger:
    """The folder's ledger, which says whose demo it holds and whether all is drawn."""
    out = storage.absolute(settings.out)
    if options.fresh:
        _start_fresh(out)
    values = config.to_dict(settings)
    del values["out"]
    nothing = records.INPUTS.empty_table()
    return ledger.Ledger.create(
        out, ledger.Job("demo", nothing, values, versions=provenance.versions())
    )


def _start_fresh(out: str) -> None:
    if storage.exists(storage.join(out, "plan.json")):
        ledger.Ledger.open(out, "demo")  # raises when it is another verb's folder
        for name in _CONTENTS:
            storage.remove(storage.join(out, name))
    ledger.start_fresh(out)


# --- The steps, each the settings of a verb


def _crop(settings: DemoConfig) -> dict[str, Any]:
    return {
        "truth": (storage.join(settings.out, "scenes", "truth.xml"),),
        "negative_label": (scenes.OTHER,),
        "out": storage.join(settings.out, "crops"),
    }


def _learn(settings: DemoConfig) -> dict[str, Any]:
    return {
        "crops": (storage.join(settings.out, "crops"),),
        "name": MODEL,
        "background": storage.join(settings.out, "background"),
        "epochs": settings.epochs,
        "seed": settings.seed,
        "training": {"steps": settings.steps},
    }


def _scan(settings: DemoConfig, model: str) -> dict[str, Any]:
    return {
        "archive": storage.join(settings.out, "archive"),
        "model": model,
        "out": storage.join(settings.out, "scan"),
        "min_width": settings.min_width,
        "shard_images": 8,
    }


def _evaluate(settings: DemoConfig) -> dict[str, Any]:
    return {
        "scan": storage.join(settings.out, "scan"),
        "truth": storage.join(settings.out, "truth.xml"),
    }


def _report(settings: DemoConfig) -> dict[str, Any]:
    return {"scan": storage.join(settings.out, "scan")}


def _step(verb: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run a verb as its command would, which is shown, and return its document."""
    from workflows.__main__ import dispatch

    _say(f"$ {command_line(verb, values)}")
    outcome = dispatch(verb, values)
    if outcome.error is not None:
        raise outcome.error
    return outcome.document


def _train(settings: DemoConfig) -> Mapping[str, Any]:
    """The model version of this demo and its run: trained once, then read from a file."""
    from workflows import tracking

    path = storage.join(settings.out, "model.json")
    if not storage.exists(path):
        trained = _step("train", _learn(settings))
        kept = {name: trained[name] for name in ("model", "run_id")}
        storage.put(path, storage.to_json(kept))
    found = storage.read_json(path)
    try:
        tracking.resolve(found["model"])
    except InputError as error:
        raise InputError(
            f"the model of this demo, {found['model']}, is not recorded here: {error.what}",
            "run it in the folder where its mlruns/ is, or give --fresh to start anew",
        ) from None
    return found


def command_line(verb: str, values: Mapping[str, Any]) -> str:
    """The command that a person types to run the verb with these settings."""
    command = COMMANDS[verb]
    positional = [word.removesuffix("...") for word in command.positional]
    words = ["nnst", verb]
    for name in positional:
        words += _texts(values[name])
    for name, value in config.flatten(values):
        if name in command.flags:
            words += [word for text in _texts(value) for word in (_flag(name), text)]
        elif name not in positional:
            words += ["--set", f"{name}={','.join(_texts(value))}"]
    return shlex.join(words)


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _dry_run(settings: DemoConfig) -> Outcome:
    counts = _counts(settings)
    steps = (
        ("crop", _crop(settings)),
        ("train", _learn(settings)),
        ("scan", _scan(settings, MODEL)),
        ("evaluate", _evaluate(settings)),
        ("report", _report(settings)),
    )
    commands = [command_line(verb, values) for verb, values in steps]
    drawn = ", ".join(f"{count} in {folder}" for folder, count in counts.items())
    text = f"would draw {sum(counts.values())} pictures into {settings.out} ({drawn}), and run"
    document = {"out": storage.absolute(settings.out), "pictures": counts, "commands": commands}
    return Outcome(document, "\n".join([text, *(f"  {line}" for line in commands)]))


def _describe(document: Mapping[str, Any]) -> str: ...
