"""The command line as a table, and what a verb takes and gives back.

`nnst --help` is answered from this table alone: no verb, and so no torch and no ray, is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnst.errors import NnstError


@dataclass(frozen=True, slots=True)
class Command:
    """One verb: what it reads and writes, and which of its settings are arguments and flags.

    `positional` and `flags` name fields of the verb's config dataclass (`fanout.max_bad` one of a
    group, whose flag is --max-bad); every other field is reached with --set. A name in `positional`
    that ends in "..." takes several values. `rest` names the field that takes all behind `--`.
    """

    summary: str
    reads: str
    writes: str
    example: str
    positional: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags that all verbs share and that are no settings of theirs."""

    dry_run: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb did: `document` for --json, `text` for people; `error` if not all is well."""

    document: Mapping[str, Any]
    text: str
    error: NnstError | None = field(default=None)


COMMANDS: Mapping[str, Command] = {
    "demo": Command(
        summary="Draw scenes with a made-up logo, then crop, train, scan, evaluate and report.",
        reads="nothing: the logo is drawn, the photographs come with installed packages",
        writes="a folder with scenes, crops, a scan and its page; MLflow runs; a model version",
        example="nnst demo --out demo",
        flags=("out",),
    ),
    "collect": Command(
        summary="Collect pictures from the web, politely, with one row for every address.",
        reads="URL lists, web pages, sitemaps, or a search as openverse:QUERY, commons:, flickr:",
        writes="an archive, its rows (why, whence, which licence), an XML to draw in (--imglab)",
        example="nnst collect urls.csv --out work/photos --contact me@example.org",
        positional=("sources...",),
        flags=(
            "out",
            "contact",
            "format",
            "retry_failed",
            "refresh",
            "imglab",
            "allow_private",
            "fanout.max_bad",
        ),
    ),
    "crop": Command(
        summary="Cut training crops around drawn boxes, and background beside them.",
        reads="imglab XML, or VOC, COCO or YOLO truth, and the pictures that it names",
        writes="a crop set: tables of crops and pictures, and look/, small pictures by label",
        example="nnst crop logos.xml --out work/crops",
        positional=("truth...",),
        flags=("out", "window", "negative_label", "beside", "background", "fanout.max_bad"),
    ),
    "train": Command(
        summary="Train a detector on crop sets and register it as a version of NAME.",
        reads="crop sets, and pictures without the logo (--background) for more negatives",
        writes="one MLflow run with curves and plots, and a model version",
        example="nnst train work/crops --name pare --background photos",
        positional=("crops...",),
        flags=(
            "name",
            "background",
            "model",
            "rounds",
            "workers",
            "gpus_per_worker",
            "epochs",
            "seed",
        ),
    ),
    "compare-models": Command(
        summary="Train several models on the same crops and compare what they cost and find.",
        reads="crop sets, and pictures without the logo (--background) for more negatives",
        writes="an MLflow run with the table and figures, a child run and a model for each",
        example="nnst compare-models work/crops --name pare --models mlp --models cascade",
        positional=("crops...",),
        flags=("name", "models", "background", "base", "workers", "epochs", "seed"),
    ),
    "mine": Command(
        summary="Cut out what a model takes for a logo in pictures that show none.",
        reads="pictures without the logo, or a crop set, whose boxes are left alone; a model",
        writes="a crop set of hard negatives",
        example="nnst mine photos --model pare --out work/hard",
        positional=("archive",),
        flags=("model", "out", "min_width", "fanout.max_bad"),
    ),
    "scan": Command(
        summary="Look for the logo in every picture of an archive.",
        reads="a folder, tar, zip, Parquet or output folder with pictures; a model",
        writes="a scan: one row a picture, one row a detection; an MLflow run",
        example="nnst scan photos --model pare --out work/scan",
        positional=("archive",),
        flags=("model", "out", "min_width", "since", "fanout.max_bad"),
    ),
    "evaluate": Command(
        summary="Measure a scan against truth: average precision, with intervals.",
        reads="a scan, and truth as imglab XML, VOC, COCO or YOLO",
        writes="SCAN/evaluation/, and the figures into the scan's MLflow run",
        example="nnst evaluate work/scan logos.xml",
        positional=("scan", "truth"),
        flags=("unlisted", "target_precision", "learning_curve"),
    ),
    "bench": Command(
        summary="Measure what a scan costs beside the mere decoding of the same pictures.",
        reads="pictures of an archive; a model",
        writes="nothing",
        example="nnst bench photos --model pare --min-width 56",
        positional=("archive",),
        flags=("model", "min_width", "threads"),
    ),
    "report": Command(
        summary="Make a page of what a scan found, to look at in a browser, and a CSV.",
        reads="a scan, and the archive it looked at for the thumbnails",
        writes="SCAN/report/index.html and SCAN/report/detections.csv",
        example="nnst report work/scan",
        positional=("scan",),
        flags=("thumbnails", "threshold", "beside", "heat"),
    ),
    "explain": Command(
        summary="Show why a picture of a scan was found, or was not: windows, levels, evidence.",
        reads="a scan, the picture in its archive, and the model it was scanned with",
        writes="SCAN/explain/IMAGE/: a page, what the network saw as PNG, and all of it as JSON",
        example="nnst explain work/scan photos/0815.jpg",
        positional=("scan", "image"),
        flags=("threshold", "detections"),
    ),
    "export": Command(
        summary="Write what a scan found as imglab, COCO, YOLO or VOC truth, or as CSV.",
        reads="a scan; for YOLO its pictures too, which are linked where they are a folder",
        writes="a file (imglab, COCO, CSV) or a folder (VOC, YOLO), best picture first",
        example="nnst export work/scan --to imglab --out found.xml",
        positional=("scan",),
        flags=("to", "out", "threshold", "boxes_upright"),
    ),
    "convert": Command(
        summary="Turn truth of one format into another's: imglab, Pascal VOC, COCO, YOLO.",
        reads="imglab XML, a folder of VOC or YOLO files, or COCO's JSON; pictures for sizes",
        writes="a file (imglab, COCO) or a folder (VOC, YOLO); what is lost is counted on stderr",
        example="nnst convert logos.xml logos.json",
        positional=("source", "out"),
        flags=("to", "pictures", "boxes_upright"),
    ),
    "label": Command(
        summary="Draw boxes on pictures in the browser, saved as imglab XML at every change.",
        reads="a folder of pictures, or an imglab XML file and the pictures it names; a model",
        writes="the XML: FOLDER/truth.xml, or the file that was given",
        example="nnst label photos --model pare",
        positional=("pictures",),
        flags=("out", "model", "port"),
    ),
    "review": Command(
        summary="Say of a scan's detections which are right, the most telling first.",
        reads="a scan, and the archive it looked at; another version's scan with --against",
        writes="SCAN/review/verdicts.jsonl; with --to imglab OUT.xml the verdicts as truth",
        example="nnst review work/scan --to imglab reviewed.xml",
        positional=("scan", "out"),
        flags=("to", "against", "reviewer", "port"),
    ),
    "compare": Command(
        summary="Show what one of two scans, runs or model versions finds and the other does not.",
        reads="two scans of the same pictures, by folder, by run or by the version that made them",
        writes="a page and its figures as JSON, into --out and into both scans' MLflow runs",
        example="nnst compare pare/1 pare/2",
        positional=("a", "b"),
        flags=("out", "thumbnails"),
    ),
    "promote": Command(
        summary="Make a version the champion of its name, if it is better than the one there is.",
        reads="evaluations of both on the same truth, as nnst evaluate recorded them",
        writes="the alias champion, which NAME stands for from then on",
        example="nnst promote pare 2",
        positional=("name", "version"),
        flags=("force",),
    ),
    "pretrain": Command(
        summary="Teach a judge drawn word marks, for all judges to begin with what it saw.",
        reads="a folder of word marks as SVG, and photographs without them",
        writes="judge.safetensors, which replaces the one in nnst/models",
        example="nnst pretrain marks --background photos --out judge.safetensors",
        positional=("marks",),
        flags=("background", "out", "leave_out"),
    ),
    "tune": Command(
        summary="Try many settings of a training, stop the worst early, and say which are best.",
        reads="crop sets; a file of settings to try (--space), and of those to keep (--base)",
        writes="an MLflow run, a child run for each trial, and best.toml for nnst train --config",
        example="nnst tune work/crops --name pare --trials 20 --model lenet",
        positional=("crops...",),
        flags=(
            "name",
            "trials",
            "space",
            "base",
            "background",
            "model",
            "workers",
            "at_once",
            "epochs",
            "seed",
        ),
    ),
    "submit": Command(
        summary="Run a verb as a job of a Ray cluster: wait, show its log, end with its code.",
        reads="the cluster's dashboard; the job itself reads what every node reaches, as s3://",
        writes="what the verb writes; nothing here",
        example="nnst submit --address http://127.0.0.1:8265 -- scan s3://photos/a --model acme "
        "--out s3://photos/scan",
        flags=("address", "stop", "detach"),
        rest="command",
    ),
    "status": Command(
        summary="Say how far an output folder is: done, bad, rate, time left, and who is at work.",
        reads="an output folder of any verb, local or remote, on any machine",
        writes="nothing",
        example="nnst status s3://photos/scan",
        positional=("out",),
    ),
    "ui": Command(
        summary="Open MLflow's page of runs and models, on this machine only.",
        reads="mlruns/ under the current folder",
        writes="nothing",
        example="nnst ui --port 5000",
        flags=("port",),
    ),
}
