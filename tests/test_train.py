"""`nnst train` from crops to a registered model, with next to no training in between.

What is trained is no good; that it is trained, recorded, continued and found again is the point.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from nnst import crops, images, imglab, models
from nnst.crops import read_truth
from nnst.ledger import Ledger
from nnst.training.stores import read_stores
from workflows import provenance

Command = Callable[..., Any]


@pytest.fixture
def client(workplace: Path) -> MlflowClient:
    """What is recorded in the workplace."""
    return MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")


def model_folder(client: MlflowClient, name: str) -> Path:
    """The folder of a registered version, NAME/VERSION."""
    source = client.get_model_version_download_uri(*name.split("/"))
    return Path(source.removeprefix("file://"))


def steps_of(client: MlflowClient, run_id: str, metric: str) -> list[int]:
    return sorted(point.step for point in client.get_metric_history(run_id, metric))


# --- One run, one version


def test_one_run_holds_curves_settings_data_and_commit(
    trained: Any, client: MlflowClient, crop_set: Path
) -> None:
    run = client.get_run(trained.document["run_id"])
    assert run.info.status == "FINISHED"
    for metric in ("loss", "logo_loss", "learning_rate", "validation_loss"):
        assert steps_of(client, run.info.run_id, metric) == [0, 1, 2, 3], metric
    expected = {"epochs": "4", "workers": "1", "training.steps": "6", "model": "lenet", "seed": "0"}
    assert {name: run.data.params[name] for name in expected} == expected
    assert run.data.params["training.augment.rotate"]  # every setting, not only those given
    book = Ledger.open(str(crop_set), "crop")
    (data,) = run.inputs.dataset_inputs
    assert book.fingerprint.startswith(data.dataset.digest)
    assert json.loads(data.dataset.profile)["crops"] == book.totals()["tables"]["crops"]
    if provenance.code_commit():  # None where the package is installed
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?", run.data.tags["mlflow.source.git.commit"])
    assert run.data.tags["model_version"] == "mark/1"
    assert run.data.metrics["parameters"] > 1000


def test_plots_and_model_are_artifacts_of_the_run(trained: Any, client: MlflowClient) -> None:
    run_id = trained.document["run_id"]
    names = {file.path for folder in ("plots", "model")
             for file in client.list_artifacts(run_id, folder)}  # fmt: skip
    plots = {f"plots/{name}.png" for name in
             ("curves", "kernels", "mistakes", "precision_recall")}  # fmt: skip
    assert names == plots | {"model/MLmodel", "model/model.json", "model/weights.safetensors"}
    for name in plots:
        data = Path(client.download_artifacts(run_id, name)).read_bytes()
        assert images.decode(data).pixels.std() > 1, name  # something is drawn


def test_the_version_loads_and_knows_where_it_comes_from(
    trained: Any, client: MlflowClient, crop_set: Path
) -> None:
    assert trained.document["model"] == "mark/1"
    model = models.load(model_folder(client, "mark/1"))
    assert model.spec.labels == ("background", "mark")
    assert model.spec.architecture == "lenet"
    version = client.get_model_version("mark", "1")
    assert version.tags["digest"] == model.digest
    assert version.run_id == model.provenance["run_id"] == trained.document["run_id"]
    truth = read_truth(Ledger.open(str(crop_set)))
    learnt = {item.image_id for split, item in truth if split == "train"}
    assert set(model.provenance["trained_on"]) == learnt
    assert 0 < len(learnt) < len(truth)


def test_the_held_out_pictures_are_judged(trained: Any, crop_set: Path) -> None:
    truth = read_truth(Ledger.open(str(crop_set)))
    held_out = [item for split, item in truth if split == "validation"]
    validation = trained.document["validation"]
    assert validation["pictures"] == len(held_out)
    assert validation["labels"][0]["truth_boxes"] == sum(map(len, held_out)) > 0


def test_nothing_is_left_over(trained: Any, workplace: Path) -> None:
    assert trained.err == ""
    assert trained.document["labels"] == ["mark"]
    assert trained.document["problems"] == []
    left = list((workplace / "mlruns" / "training").glob("mark-*"))
    assert left == []  # checkpoints; what counts is in the run


def test_a_scan_with_the_new_version_works_by_name(
    nnst: Command, trained: Any, scenes: Any, tmp_path: Path
) -> None:
    for name in ("mark", "mark/1"):
        out = tmp_path / name.replace("/", "-")
        done = nnst("scan", scenes.folder, "--model", name, "--out", out, "--json")
        assert done.code == 0
        assert done.document["model"].startswith("mark/")
    book = Ledger.open(str(tmp_path / "mark-1"))
    assert book.notes["model_run_id"] == trained.document["run_id"]
    assert set(book.read("detections")["model"].to_pylist()) <= {"mark/1"}
    evaluated = nnst("evaluate", out, scenes.truth, "--json")
    assert evaluated.document["held_out"]["pictures"] == trained.document["validation"]["pictures"]


# --- Again


def test_the_same_command_again_is_a_new_version_and_killed_on_the_way_ends_with_equal_weights(
    nnst: Command,
    start_driver: Callable[..., subprocess.Popen[str]],
    trained: Any,
    client: MlflowClient,
    crop_set: Path,
    train_flags: tuple[str, ...],
    workplace: Path,
) -> None:
    """It goes on in the run that it began, and that run tells of every epoch once."""
    words = ("train", crop_set, "--name", "mark", *train_flags)
    process = start_driver(*words)
    training = workplace / "mlruns" / "training"
    while not list(training.glob("mark-*/checkpoints/checkpoint_manager_snapshot.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (folder,) = training.glob("mark-*")
    run_id = json.loads((folder / "run.json").read_text())["run_id"]
    assert run_id != trained.document["run_id"]
    assert len(client.search_model_versions("name='mark'")) == 1
    again = nnst(*words)
    assert again.code == 0, again.err
    lines = again.out.splitlines()
    assert lines[0] == "model: mark/2, finds mark"
    assert lines[1].startswith("  mark: average precision ")
    assert lines[-1] == "next:  nnst scan ARCHIVE --model mark --out work/scan"
    first, second = (client.get_model_version("mark", number) for number in "12")
    assert second.run_id == run_id
    assert client.get_run(run_id).info.status == "FINISHED"
    for metric in ("loss", "validation_loss"):
        assert steps_of(client, run_id, metric) == [0, 1, 2, 3]
    assert first.tags["digest"] == second.tags["digest"]


# --- Background


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw: Command, scenes: Any) -> Path:
    """Pictures without the mark, and those with it that a careless hand put there too."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(6):
        (folder / f"photo{index}.png").write_bytes(images.encode_png(draw([], seed=100 + index)))
    for name in scenes.boxes:
        shutil.copy(scenes.folder / name, folder / name)
    return folder


def test_background_teaches_but_not_the_annotated_pictures_in_it(
    nnst: Command,
    client: MlflowClient,
    crop_set: Path,
    photos: Path,
    train_flags: tuple[str, ...],
    workplace: Path,
) -> None:
    """Cut as background, a picture with a logo would teach to overlook it. The mlp does it here."""
    network = ("--model", "mlp", "--set", "widths=4")
    words = ("--name", "dense", *network, *train_flags, "--epochs", "1")
    few = ("--background", photos, "--set", "background_crops=5")
    done = nnst("train", crop_set, *words, *few, "--json")
    assert done.code == 0, done.err
    assert done.document["model"] == "dense/1"
    assert models.load(model_folder(client, "dense/1")).spec.widths == (4,)
    inputs = client.get_run(done.document["run_id"]).inputs.dataset_inputs
    assert {item.dataset.name for item in inputs} == {"crops-truth", "crops-background"}

    cut = (workplace / "mlruns" / "training").glob("background-*")  # by other tests as well
    books = [Ledger.open(str(folder)) for folder in cut]
    (background,) = [book for book in books if book.source == str(photos)]
    annotated = Ledger.open(str(crop_set))
    assert background.read("pictures").num_rows == 16  # the careless ones were cut too
    truth = {item.image_id for _, item in read_truth(annotated)}
    labels = ("background", "mark")
    alone, both = (read_stores([annotated], more, labels) for more in ([], [background]))
    assert len(both.train.background) > len(alone.train.background)
    for without, side in ((alone.train, both.train), (alone.validation, both.validation)):
        of_annotated = [crop for crop in side.background if crop.image_id in truth]
        assert len(of_annotated) == len(without.background)
    judged = [item for side, item in read_truth(annotated) if side == "validation"]
    judged += [
        item
        for side, item in read_truth(background)
        if side == "validation" and item.image_id not in truth
    ]
    assert done.document["validation"]["pictures"] == len(judged)


# --- What is refused


def cut_of(
    nnst: Command, folder: Path, pictures: dict[str, bytes], boxes: dict[str, list[imglab.Box]]
) -> Path:
    """The crop set of these pictures."""
    folder.mkdir()
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    entries = tuple(imglab.Image(name, tuple(boxes.get(name, ()))) for name in pictures)
    imglab.write(imglab.Dataset(entries), folder / "truth.xml")
    out = folder / "crops"
    words = ("crop", folder / "truth.xml", "--out", out, "--window", "40x24")
    assert nnst(*words, "--set", "crop.negatives=0").code == 0
    return out


def refused(nnst: Command, *words: object) -> str:
    """The one line that says why."""
    done = nnst("train", *words, "--name", "refused")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    return str(line)


BOX = imglab.Box(20, 30, 40, 24, "mark")


def test_near_duplicates_on_both_sides_of_the_split_are_refused(
    nnst: Command, crop_set: Path, scenes: Any, tmp_path: Path
) -> None:
    """A model would look better than it is."""
    truth = read_truth(Ledger.open(str(crop_set)))
    held_out = next(item for split, item in truth if split == "validation" and len(item))
    pixels = images.decode((scenes.folder / held_out.image).read_bytes()).pixels
    copy = cut_of(
        nnst, tmp_path / "a", {"copy.jpg": images.encode_jpeg(pixels)}, {"copy.jpg": [BOX]}
    )
    line = refused(nnst, crop_set, copy)
    assert held_out.image in line
    assert "its near duplicate copy.jpg for train" in line
    assert "cut them together: nnst crop with both truth files" in line


def test_crop_sets_without_a_logo_or_without_background_are_refused(
    nnst: Command, draw: Command, tmp_path: Path
) -> None:
    one = {"a.png": images.encode_png(draw([(20, 30, 60, 54)], seed=50))}
    none = cut_of(nnst, tmp_path / "none", one, {})
    assert "no box with a logo in" in refused(nnst, none)
    ignored = cut_of(nnst, tmp_path / "ignored", one, {"a.png": [replace(BOX, ignore=True)]})
    assert "no box with a logo in" in refused(nnst, ignored)
    only = cut_of(nnst, tmp_path / "only", one, {"a.png": [BOX]})
    line = refused(nnst, only)
    assert "no crop of background is for training" in line
    assert "give --background" in line


def test_more_workers_than_cpus_are_refused_before_anything_is_recorded(
    nnst: Command, crop_set: Path, client: MlflowClient
) -> None:
    line = refused(nnst, crop_set, "--workers", "1000")
    assert "1000 workers want 1000 CPUs" in line
    assert "lower --workers" in line
    assert client.get_experiment_by_name("refused") is None


def test_a_crop_set_that_is_not_finished_is_refused(
    nnst: Command, crop_set: Path, tmp_path: Path
) -> None:
    shutil.copytree(crop_set, tmp_path / "crops")
    (tmp_path / "crops" / "_SUCCESS").unlink()
    line = refused(nnst, tmp_path / "crops")
    assert "is not finished; run its nnst crop again" in line


def test_a_dry_run_tells_what_would_be_trained_and_records_nothing(
    nnst: Command, crop_set: Path, client: MlflowClient, train_flags: tuple[str, ...]
) -> None:
    words = ("train", crop_set, "--name", "dry", *train_flags, "--dry-run")
    done = nnst(*words)
    assert done.code == 0
    assert done.out.startswith("would train lenet (")
    assert "to find mark from" in done.out
    assert nnst(*words, "--json").document["epochs"] == 4
    assert client.get_experiment_by_name("dry") is None


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("widths=4,5", "widths"),
        ("context=0", "context"),
        ("training.steps=0", "steps"),
        ("training.logos=-1", "logos"),
        ("training.hardest=0", "hardest"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_recorded(
    setting: str, told: str, nnst: Command, crop_set: Path, client: MlflowClient
) -> None:
    assert told in refused(nnst, crop_set, "--set", setting)
    assert client.get_experiment_by_name("refused") is None


def test_the_split_of_a_crop_set_keeps_near_duplicates_together(crop_set: Path) -> None:
    rows = Ledger.open(str(crop_set)).read("pictures").to_pylist()
    ids = [row["image_id"] for row in rows]
    groups = crops.near_duplicate_groups(ids, [int(row["perceptual_hash"], 16) for row in rows])
    sides = {(group, row["split"]) for group, row in zip(groups, rows, strict=True)}
    assert len(sides) == len(set(groups))
