"""`nnst label`: a page on this machine to draw boxes on pictures, saved as imglab XML."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from nnst import storage
from nnst.config import setting
from nnst.errors import InputError
from nnst.imglab import TruthFile
from workflows import labelling, serving
from workflows.commands import Options, Outcome

FILES = (
    "dark.css",
    "colours.css",
    "label.css",
    "elements.js",
    "label.js",
    "label_app.js",
    "label_boxes.js",
    "label_keys.js",
    "label_link.js",
    "label_list.js",
    "label_panel.js",
    "label_proposals.js",
    "label_saving.js",
    "label_stage.js",
    "label_view.js",
)
DEFAULT_NAME = "truth.xml"


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """Settings of nnst label."""

    pictures: str = setting(help="a folder of pictures, or an imglab XML file")
    out: str = setting("", "the XML for a folder's boxes; by default FOLDER/truth.xml")
    model: str = setting("", "a model that proposes boxes: NAME, NAME/3, or a folder with a slash")
    port: int = setting(5010, "the port on 127.0.0.1 that the page is served at")
    labels: tuple[str, ...] = setting((), "labels to choose from, beside those of the file")
    allow_outside: bool = setting(False, "show pictures that lie outside the XML file's folder")

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")


def run(settings: LabelConfig, options: Options) -> Outcome:
    """Serve the page until ctrl-C; what was drawn is in the file at any time."""
    path, files, notes = _opened(settings)
    truth = TruthFile.open(path, allow_outside=settings.allow_outside)
    desk = labelling.Desk(truth, files, settings.labels)
    if not desk.files:
        raise InputError(f"{path} lists no picture", "give the folder of the pictures")
    document = {"truth": str(path), "pictures": len(desk.files)}
    if options.dry_run:
        return Outcome(document, f"would show {len(desk.files):,} pictures and write {path}")
    if settings.model:
        desk.proposer = _proposer(settings.model)
    for note in (*notes, *truth.dataset.warnings):
        print(f"note: {note}", file=sys.stderr)
    key = serving.key_of(f"label {path}")
    site = serving.Site("label", "label.html", FILES, desk.routes(), key)
    serving.serve(site, settings.port)
    return _outcome(truth, document)


def _opened(settings: LabelConfig) -> tuple[Path, list[str], list[str]]:
    """The truth file, the pictures beside those that it lists, and what there is to say."""
    source = settings.pictures
    if storage.is_remote(source):
        raise InputError(f"{source} is not on this machine", "copy the pictures here first")
    source = os.path.abspath(os.path.expanduser(source))
    if labelling.is_truth(source):
        if not os.path.isfile(source):
            raise InputError(f"there is no file {source}", "give a folder of pictures to start one")
        return _checked_out(settings, Path(source)), [], []
    folder = source if os.path.isdir(source) else os.path.dirname(source)
    path = Path(os.path.abspath(settings.out or os.path.join(folder, DEFAULT_NAME)))
    if not Path(folder).is_relative_to(path.parent):
        what = f"{path} does not lie in or above {folder}, and names pictures from its own folder"
        raise InputError(what, f"give --out {Path(folder).parent / path.name}")
    files, left_out = labelling.files_of(source, path)
    if not files:
        what = f"the pictures of {source} are no files of their own"
        raise InputError(what, "unpack it first: an imglab XML names files")
    note = f"{len(left_out)} pictures are left out, as {left_out[:1]}: no file of that name"
    return path, files, [note] if left_out else []


def _checked_out(settings: LabelConfig, source: Path) -> Path:
    """The XML itself: what is drawn goes where it came from."""
    if settings.out and os.path.abspath(settings.out) != str(source):
        raise InputError("--out is for a folder of pictures", f"copy {source} and open the copy")
    return source


def _proposer(model: str) -> labelling.Proposer:
    from workflows import tracking

    found = tracking.resolve(model)
    return labelling.Proposer(found.folder, found.digest)


def _outcome(truth: TruthFile, document: dict[str, object]) -> Outcome:
    listed = truth.dataset.images
    boxes = sum(len(each.boxes) for each in listed)
    document |= {"labelled": len(listed), "boxes": boxes}
    if not truth.path.exists():
        return Outcome(document, "nnst label has ended; nothing was drawn")
    text = (
        f"{boxes:,} boxes on {len(listed):,} of {document['pictures']:,} pictures\n"
        f"truth: {truth.path}\nnext:  nnst crop {truth.path} --out CROPS"
    )
    return Outcome(document, text)
