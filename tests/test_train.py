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
import torch
from mlflow import MlflowClient

from nnst import config, crops, images, imglab, models
from nnst.crops import read_truth
from nnst.ledger import Ledger
from nnst.training.stores import CropData, read_stores
from workflows import cropsets, curriculum, fanout, provenance
from workflows import train as train_verb

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
             ("calibration", "curves", "feature_maps", "kernels", "mistakes", "precision_recall",
              "samples", "scores")}  # fmt: skip
    files = ("MLmodel", "input_example.json", "model.json", "picture_model.py")
    assert names == plots | {f"model/{name}" for name in (*files, "weights.safetensors")}
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
    said = [line for line in trained.err.splitlines() if not line.startswith("train fit: ")]
    assert said == []  # but how far it is, after half a minute
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
    while not list(training.glob("mark-*/fit/checkpoints/*/DONE.json")):
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


def test_an_interrupted_training_says_so_and_its_run_is_killed(
    start_driver: Callable[..., subprocess.Popen[str]],
    client: MlflowClient,
    crop_set: Path,
    train_flags: tuple[str, ...],
    workplace: Path,
) -> None:
    words = ("train", crop_set, "--name", "interrupted", *train_flags, "--epochs", "200")
    process = start_driver(*words)
    training = workplace / "mlruns" / "training"
    while not list(training.glob("interrupted-*/fit/checkpoints/*/DONE.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    experiment = client.get_experiment_by_name("interrupted")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"


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
    words = ("--name", "dense", *train_flags, *network, "--epochs", "1")
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
    alone, both = (
        read_stores(CropData((annotated.out,), more), labels) for more in ((), (background.out,))
    )
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


# --- A cascade

CASCADE_FLAGS = (
    *("--epochs", "1", "--workers", "1", "--set", "background_crops=5"),
    *("--set", "training.steps=4", "--set", "training.logos=8", "--set", "training.background=8"),
    *("--set", "training.near=8", "--set", "training.moved=4", "--set", "training.far=4"),
    *(
        "--set",
        "training.candidates=12",
        "--set",
        "cascade.mined=3",
        "--set",
        "cascade.scout_area=400",
    ),
    *("--set", "cascade.judge_area=1600"),
)


@pytest.fixture(scope="module")
def cascade(nnst: Command, crop_set: Path, photos: Path) -> Any:
    """What the least training of a cascade, the default, said of `whole/1`, as JSON."""
    words = ("--name", "whole", "--background", photos, *CASCADE_FLAGS)
    done = nnst("train", crop_set, *words, "--json")
    assert done.code == 0, done.err
    return done


@pytest.mark.slow
def test_a_cascade_is_one_run_and_one_version(
    cascade: Any, client: MlflowClient, workplace: Path
) -> None:
    """Of the judge's two rounds the second goes on counting where the first ended."""
    run = client.get_run(cascade.document["run_id"])
    assert run.info.status == "FINISHED"
    experiment = client.get_experiment_by_name("whole")
    assert len(client.search_runs([experiment.experiment_id])) == 1
    for metric in ("scout_loss", "scout_logo_loss", "scout_validation_loss"):
        assert steps_of(client, run.info.run_id, metric) == [0], metric
    for metric in ("judge_loss", "judge_box_loss", "judge_validation_loss"):
        assert steps_of(client, run.info.run_id, metric) == [0, 1], metric
    expected = {"model": "cascade", "rounds": "2", "share": "1.0", "cascade.mined": "3"}
    assert {name: run.data.params[name] for name in expected} == expected
    assert cascade.document["model"] == "whole/1"
    (version,) = client.search_model_versions("name='whole'")
    assert version.tags["architecture"] == "cascade"
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id, "plots")}
    of_all = [
        "calibration",
        "feature_maps",
        "kernels",
        "mistakes",
        "precision_recall",
        "samples",
        "scores",
    ]
    names = ("curves_scout", "curves_judge", *of_all)
    assert artifacts == {f"plots/{name}.png" for name in names}
    assert list((workplace / "mlruns" / "training").glob("whole-*")) == []


@pytest.mark.slow
def test_the_folder_of_a_cascade_holds_scout_and_judge(
    cascade: Any, client: MlflowClient, crop_set: Path
) -> None:
    model = models.load(model_folder(client, "whole/1"))
    spec = model.spec
    assert isinstance(model.network, models.Cascade)
    assert (spec.architecture, spec.labels) == ("cascade", ("background", "mark"))
    scout, judge = spec.stages
    aspect = 40 / 24  # of the marks
    for stage, area in ((scout, 400), (judge, 1600)):
        height, width = stage.window_hw
        assert width / height == pytest.approx(aspect, rel=0.25)
        assert width * height == pytest.approx(area, rel=0.3)
    assert (spec.window_hw, scout.labels) == (scout.window_hw, ("background", "object"))
    assert 0.04 < scout.threshold < 0.96
    assert not any("_norm" in name for name in model.network.state_dict())  # they are folded
    version = client.get_model_version("whole", "1")
    assert version.tags["digest"] == model.digest
    truth = read_truth(Ledger.open(str(crop_set)))
    learnt = [item for split, item in truth if split == "train"]
    assert set(model.provenance["trained_on"]) == {item.image_id for item in learnt}
    assert cascade.document["boxes"] == sum(map(len, learnt)) > 0


@pytest.mark.slow
def test_a_cascade_scans_by_name(nnst: Command, cascade: Any, scenes: Any, tmp_path: Path) -> None:
    words = ("--model", "whole", "--min-width", "20", "--out", tmp_path / "scan")
    done = nnst("scan", scenes.folder, *words, "--json")
    assert (done.code, done.document["model"]) == (0, "whole/1")
    book = Ledger.open(str(tmp_path / "scan"))
    assert book.read("images").num_rows == len(scenes.boxes)
    assert book.notes["model_run_id"] == cascade.document["run_id"]
    assert nnst("evaluate", tmp_path / "scan", scenes.truth).code == 0


@pytest.mark.slow
def test_a_cascade_killed_between_its_stages_ends_with_equal_weights(
    nnst: Command,
    start_driver: Callable[..., subprocess.Popen[str]],
    cascade: Any,
    client: MlflowClient,
    crop_set: Path,
    photos: Path,
    workplace: Path,
) -> None:
    """The scout and what it was asked for are there, the judge has begun: neither is done again."""
    words = ("train", crop_set, "--name", "whole", "--background", photos, *CASCADE_FLAGS)
    process = start_driver(*words)
    training = workplace / "mlruns" / "training"
    while not list(training.glob("whole-*/judge-1/checkpoints/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (folder,) = training.glob("whole-*")
    run_id = json.loads((folder / "run.json").read_text())["run_id"]
    assert run_id != cascade.document["run_id"]
    assert (folder / "scout" / "weights.safetensors").exists()
    assert all((folder / f"hard-1-{index}" / "_SUCCESS").exists() for index in (0, 1))
    # Were the scout taught again, it would need these.
    shutil.rmtree(folder / "scout" / "checkpoints")
    again = nnst(*words, "--json")
    assert again.code == 0, again.err
    assert again.document["run_id"] == run_id
    assert client.get_run(run_id).info.status == "FINISHED"
    assert steps_of(client, run_id, "scout_loss") == [0]
    assert steps_of(client, run_id, "judge_loss") == [0, 1]
    first, second = (client.get_model_version("whole", number) for number in "12")
    assert first.tags["digest"] == second.tags["digest"]


@pytest.mark.slow
def test_one_round_and_half_of_the_pictures_are_less_to_learn_from(
    nnst: Command, client: MlflowClient, cascade: Any, crop_set: Path
) -> None:
    """Without a background archive too: there is background beside the boxes."""
    words = ("--name", "half", *CASCADE_FLAGS, "--rounds", "1", "--set", "share=0.5")
    done = nnst("train", crop_set, *words, "--json")
    assert done.code == 0, done.err
    run_id = done.document["run_id"]
    assert steps_of(client, run_id, "scout_loss") == [0]
    assert steps_of(client, run_id, "judge_loss") == [0]
    assert 0 < done.document["boxes"] < cascade.document["boxes"]
    half = models.load(model_folder(client, "half/1"))
    whole = models.load(model_folder(client, "whole/1"))
    assert set(half.provenance["trained_on"]) < set(whole.provenance["trained_on"])
    count = len(whole.provenance["trained_on"])
    assert len(half.provenance["trained_on"]) == -(-count // 2)
    assert (
        done.document["validation"]["labels"][0]["truth_boxes"]
        == (cascade.document["validation"]["labels"][0]["truth_boxes"])
    )


@pytest.mark.parametrize(
    "other",
    [
        {"share": 0.5},
        {"rounds": 1},
        {"cascade": {"mined": 3}},
        {"seed": 1},
        {"epochs": 2},
        {"model": "lenet"},
        {"context": 1.2},
        {"training": {"steps": 5}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_decides_the_weights_decides_where_they_are_kept(
    other: dict[str, Any], cluster: str, crop_set: Path
) -> None:
    """Else a training would go on with what another one left."""

    def folder(values: dict[str, Any]) -> str:
        given = {"crops": (str(crop_set),), "name": "m"} | values
        settings = config.build(train_verb.TrainConfig, given)
        data = cropsets.open_sets(train_verb._wanted(settings), dry_run=False)
        return train_verb._folder(settings, data, train_verb._spec(settings, data))

    assert folder({}) == folder({"background_judged": 3})
    assert folder({}) != folder(other)


@pytest.mark.slow
def test_stages_that_are_done_are_read_and_those_that_are_not_are_done(
    cluster: str, crop_set: Path, tmp_path: Path
) -> None:
    """Each time every epoch is told of, with the same end: what hears of it may have missed it."""
    given = {
        "crops": (str(crop_set),),
        "name": "m",
        "epochs": 1,
        "rounds": 1,
        "workers": 1,
        "training": {"steps": 3, "logos": 8, "background": 8, "candidates": 12},
        "cascade": {"scout_area": 400, "judge_area": 1600, "mined": 3},
    }
    settings = config.build(train_verb.TrainConfig, given)
    data = cropsets.open_sets(train_verb._wanted(settings), dry_run=False)
    spec = train_verb._spec(settings, data)
    course = train_verb._course(str(tmp_path), settings, data, spec)

    Told = list[tuple[str, int, int]]

    def learn() -> tuple[Told, curriculum.Learnt]:
        told: Told = []

        def tell(stage: str, epoch: int, row: Any, ended: int) -> None:
            told.append((stage, epoch, ended))

        fanout.start()
        return told, curriculum.learn(course, tell)

    def times() -> dict[str, int]:
        kept = ("scout", "hard-1-0/crops", "hard-1-0/receipts")
        return {
            path.relative_to(tmp_path).as_posix(): path.stat().st_mtime_ns
            for name in kept
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }

    told, first = learn()
    assert [(stage, epoch) for stage, epoch, _ in told] == [("scout", 0), ("judge", 0)]
    assert set(first.histories) == {"scout", "judge"}
    before = times()
    assert len(before) > 4
    shutil.rmtree(tmp_path / "judge-1")
    again, second = learn()
    assert again[0] == told[0]
    assert again[1][:2] == ("judge", 0)
    assert times() == before
    last, third = learn()
    assert last == again
    for other in (second, third):
        assert other.spec == first.spec
        assert other.histories == first.histories
        assert all(torch.equal(other.weights[name], value) for name, value in first.weights.items())
    assert Ledger.open(first.data.mined[0], "crop").is_done()


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
    cascade = nnst("train", crop_set, "--name", "dry", "--dry-run")
    assert cascade.out.startswith("would train cascade (")
    assert client.get_experiment_by_name("dry") is None


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("widths=4,5", "widths"),
        ("context=0.5", "context"),
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
