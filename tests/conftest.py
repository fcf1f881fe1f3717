"""Fixtures that several test files share: one Ray, one folder to work in, drawn pictures, models.

The pictures show a mark of a few coarse coloured blocks. `mark_model` finds it without training: a
dense network whose one hidden neuron has the mark itself as weights. `mark_cascade` is taught the
mark in a few seconds, from crops of drawn pictures and what its scout takes for one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import hypothesis
import numpy as np
import pytest

import nnst as package
from tests.ports import free_port
from tests.script_cluster import ScriptCluster, running
from tests.stderr import without_progress

# A machine may stand still. `.ci/run` looks at the same examples each time; whoever calls pytest
# looks at others, and may find what nobody has.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("patient")

HW = (160, 220)  # of the drawn pictures
MARK_BOXES = (  # xyxy of the mark in each of the scenes
    [(20, 30, 60, 54)],
    [(100, 60, 150, 90)],
    [(120, 20, 200, 68)],
    [(30, 90, 80, 120), (130, 20, 170, 44)],
    [(60, 40, 140, 88)],
    [(10, 100, 60, 130)],
    [(90, 110, 130, 134)],
    [(40, 20, 110, 62)],
    [(150, 100, 200, 130)],
    [],  # looked at, and nothing is there
)


CROP_FLAGS = ("--set", "shard_images=4", "--set", "validation_share=0.4")
TRAIN_FLAGS = (
    *("--model", "lenet", "--epochs", "4", "--workers", "1", "--set", "training.steps=6"),
    *("--set", "training.logos=8", "--set", "training.background=8"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that work on the Ray of the session: `.ci/run` has a lane for them."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "cluster" in fixtures:
            item.add_marker(pytest.mark.cluster)
        # Their limit counts what they share with others and the first of them sets up.
        long = "script_cluster" in fixtures or item.get_closest_marker("drill")
        if long and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def crop_flags() -> tuple[str, ...]:
    """With which `crop_set` was cut."""
    return CROP_FLAGS


@pytest.fixture(scope="session")
def train_flags() -> tuple[str, ...]:
    """With which `trained` was trained: next to nothing, but all the way."""
    return TRAIN_FLAGS


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, and what it wrote; to stderr, without its progress."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What --json printed."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Scenes:
    """Drawn pictures, and imglab XML that says where the mark is."""

    folder: Path
    truth: Path
    boxes: dict[str, list[tuple[int, int, int, int]]]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures, which is not part of the project."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real pictures (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the one Ray of this session, whose token lies in a home of its own."""
    from workflows import fanout

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        # Workers and drivers of other folders find the package that is tested here.
        patch.setenv("PYTHONPATH", str(Path(package.__file__).parents[1]))
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        # Where workers look for S3: the tests' own server, if there is one.
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "nobody")
        fanout.start()
        import ray

        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture
def idle(cluster: str) -> None:
    """Every CPU of the session's Ray is free: what was stopped before gives them back late.

    Ray keeps CPUs for three minutes for trainings whose drivers were killed: it forgets them.
    """
    import ray

    with contextlib.suppress(ValueError):  # nobody has trained yet
        name = "AutoscalingCoordinator"
        ray.kill(ray.get_actor(name, namespace=name), no_restart=False)
    cpus, deadline = ray.cluster_resources()["CPU"], time.monotonic() + 120
    while ray.available_resources().get("CPU", 0) < cpus:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which commands run; mlruns/ appears in it."""
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def nnst(cluster: str, workplace: Path) -> Callable[..., Ran]:
    """Runs a command in this process, in the workplace or another folder: nnst("crop", ...)."""
    from workflows.__main__ import main

    def run(*arguments: object, at: Path = workplace) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(at),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main([str(argument) for argument in arguments])
        return Ran(code, out.getvalue(), without_progress(err.getvalue()))

    return run


@pytest.fixture(scope="session")
def start_driver(cluster: str, workplace: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command in a process of its own, which joins the session's Ray and can be killed."""

    def start(*arguments: object, at: Path = workplace) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "workflows", *map(str, arguments)],
            cwd=at,
            env=os.environ | {"RAY_ADDRESS": cluster, "RAY_AUTH_MODE": "token"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The system's Chromium, without a window."""
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS)
        )
        yield started
        started.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page on a small screen, until a selector of its is there. Afterwards: no script has
    failed, no dialog came up."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    context.set_default_timeout(60_000)
    faults: list[str] = []

    def opened(url: str, ready: str) -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
        page.goto(url)
        page.wait_for_selector(ready)
        return page

    yield opened
    context.close()
    assert faults == []


@pytest.fixture
def open_file(chromium: Any) -> Iterator[Callable[[Path], Any]]:
    """Opens a page of one file, without a network. Afterwards: nothing was complained of, no dialog
    came up, and nothing but pages of one file was asked for."""
    context = chromium.new_context(viewport={"width": 1024, "height": 640}, offline=True)
    complaints: list[str] = []
    asked: list[str] = []

    def opened(path: Path) -> Any:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    context.close()
    assert complaints == []
    others = [url for url in asked if not url.startswith(("data:", "blob:"))]
    assert [url for url in others if not url.split("#")[0].endswith("/index.html")] == []


@dataclass
class Served:
    """A page's server in a process of its own: its address, and how to end it."""

    process: subprocess.Popen[str]
    url: str

    def end(self, number: int = signal.SIGINT) -> str:
        """What it prints to stdout as it ends."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=60)[0]


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Starts `nnst label` or `nnst review` at a port that is free, or at the one that is given."""
    home = tmp_path_factory.mktemp("home")
    begun: list[Served] = []

    def start(*words: object, port: int = 0) -> Served:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "workflows",
                *map(str, words),
                "--port",
                str(port or free_port()),
            ],
            cwd=home,
            env=os.environ
            | {"HOME": str(home), "XDG_STATE_HOME": str(home)}
            | {"PYTHONPATH": str(Path(package.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = ""
        while "(ctrl-C ends it)" not in said:
            line = process.stderr.readline()
            assert line, f"{words} ended: {said}"
            said += line
        begun.append(Served(process, said.split()[-4]))
        return begun[-1]

    yield start
    for served in begun:
        served.end(signal.SIGKILL)


def mark(hw: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) the mark."""
    blocks = np.array([[255, 0, 0, 255], [0, 255, 0, 0], [255, 0, 255, 255]], np.uint8)
    colours = np.stack([blocks, blocks[::-1], 255 - blocks], axis=2)
    return cv2.resize(colours, hw[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    """Draws (H, W, 3) RGB pixels: uneven grey, and the mark in each of the boxes."""

    def drawn(
        boxes: list[tuple[int, int, int, int]], seed: int = 0, hw: tuple[int, int] = HW
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(70, 180, (5, 6, 3)).astype(np.float32)
        ground = cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_LINEAR)
        pixels = np.clip(ground + rng.normal(0, 4, ground.shape), 0, 255).astype(np.uint8)
        for x0, y0, x1, y1 in boxes:
            pixels[y0:y1, x0:x1] = mark((y1 - y0, x1 - x0))
        return pixels

    return drawn


@pytest.fixture(scope="session")
def with_orientation() -> Callable[[bytes, int], bytes]:
    """Gives a JPEG an EXIF orientation."""

    def turned(jpeg: bytes, orientation: int) -> bytes:
        entry = b"\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0])
        body = b"Exif\0\0" + b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
        return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]

    return turned


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory, draw: Callable[..., np.ndarray]) -> Scenes:
    """Ten pictures with ten marks in them, and truth.xml beside them."""
    from nnst import images, imglab

    folder = tmp_path_factory.mktemp("scenes")
    boxes = {f"scene{index}.png": list(found) for index, found in enumerate(MARK_BOXES)}
    entries = []
    for index, (name, found) in enumerate(boxes.items()):
        (folder / name).write_bytes(images.encode_png(draw(found, seed=index)))
        drawn = [imglab.Box(x0, y0, x1 - x0, y1 - y0, "mark") for x0, y0, x1, y1 in found]
        entries.append(imglab.Image(name, tuple(drawn)))
    imglab.write(imglab.Dataset(tuple(entries)), folder / "truth.xml")
    return Scenes(folder, folder / "truth.xml", boxes)


@pytest.fixture(scope="session")
def mark_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder, with a slash, of a model that answers where a window shows the mark."""
    import torch

    from nnst import models
    from nnst.records import ModelSpec

    spec = ModelSpec("mlp", ("background", "mark"), (24, 40), 4, widths=(1,))
    seen = torch.tensor(mark(spec.window_hw).astype(np.float32)).permute(2, 0, 1) / 64
    template = seen - seen.mean(dim=(1, 2), keepdim=True)  # (3, wh, ww); flat grey gives 0
    network = models.build(spec)
    with torch.no_grad():
        network.layers.hidden.weight[0] = template / (template**2).sum()
        network.layers.hidden.bias.zero_()
        network.layers.score.weight.zero_()
        network.layers.score.weight[1] = 20.0
        network.layers.score.bias[:] = torch.tensor([0.0, -12.0])
    folder = tmp_path_factory.mktemp("mark-model")
    models.save(folder, spec, network.state_dict())
    return f"{folder}/"


@pytest.fixture(scope="session")
def mark_cascade(tmp_path_factory: pytest.TempPathFactory, draw: Callable[..., np.ndarray]) -> str:
    """The folder, with a slash, of a small cascade that was taught the mark; in some seconds."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        folder = tmp_path_factory.mktemp("mark-cascade")
        _teach_cascade(draw, f"{folder}/")
    finally:
        torch.set_num_threads(threads)
    return f"{folder}/"


def _teach_cascade(draw: Callable[..., np.ndarray], folder: str) -> None:
    from nnst import crops, mining, models
    from nnst.crops import CropSettings
    from nnst.detector import DetectorSettings, Sliding
    from nnst.models import Model
    from nnst.records import Annotation, ModelSpec
    from nnst.training.batches import CropStore
    from nnst.training.lessons import JudgeLesson, WindowLesson

    labels = ("background", "mark")
    objects, thin = ("background", "object"), (8, 12, 12, 16)
    scout = ModelSpec(
        "scout", objects, (16, 24), 4, widths=thin, threshold=0.3, levels_per_octave=1
    )
    judge = ModelSpec("judge", labels, (32, 48), 8, widths=(8, 12, 16, 24, 32, 32), context=1.35)
    wanted = CropSettings(oversample=2.0, negatives=6)
    rng, none = np.random.default_rng(3), np.zeros(1, bool)
    pictures = []
    for seed in range(12):
        width = int(rng.integers(36, 110))
        height = round(width * 0.6)
        x, y = (int(rng.integers(0, HW[axis] - (height, width)[axis])) for axis in (1, 0))
        box = (x, y, x + width, y + height)
        truth = Annotation(f"{seed}", f"{seed}", np.array([box], np.float32), ("mark",), none, none)
        pictures.append((draw([box], seed=1000 + seed), truth))
    cuts = [
        crop for pixels, truth in pictures
        for crop in crops.cut_crops(pixels, 1, truth, (32, 52), wanted)
    ]  # fmt: skip
    weights = _fitted(WindowLesson(scout, CropStore.of(cuts, labels), _quick()), scout)
    network = models.build(scout)
    network.load_state_dict(weights)
    asked = Sliding(Model(scout, network.eval(), "", {}), DetectorSettings(min_width=16))
    for pixels, truth in pictures:
        cuts += mining.hard_negatives(asked, as_picture(pixels), truth, 8, wanted)
    judged = _fitted(JudgeLesson(scout, judge, CropStore.of(cuts, labels), _quick()), judge)
    spec = ModelSpec(
        "cascade", labels, scout.window_hw, 4, levels_per_octave=1, stages=(scout, judge)
    )
    named = {"scout": weights, "judge": judged}
    models.save(
        folder, spec, {f"{part}.{name}": w for part in named for name, w in named[part].items()}
    )


def _quick() -> Any:
    """As little as teaches the mark, and little of the world's variety."""
    from nnst.training.settings import AugmentSettings, TrainingSettings

    off = ("rotate", "shear", "perspective", "occlude", "blur", "noise", "jpeg")
    augment = AugmentSettings(
        stretch=0.04, gamma=0.1, contrast=0.1, channel=0.02, **dict.fromkeys(off, 0.0)
    )
    batch = {"logos": 16, "background": 12, "near": 12, "moved": 4, "far": 8, "candidates": 24}
    return TrainingSettings(steps=80, learning_rate=6e-3, augment=augment, **batch)


def _fitted(lesson: Any, spec: Any) -> dict[str, Any]:
    """The plain weights of a network after two epochs."""
    from nnst.models import norms
    from nnst.training import epochs
    from nnst.training.lessons import Place

    network = norms.learner(spec, 0)
    optimiser = epochs.make_optimiser(network, _quick())
    for epoch in range(2):
        epochs.run_epoch(network, optimiser, lesson, _quick(), Place(0, epoch, 2))
    return norms.plain_weights(spec, network.state_dict())


def as_picture(pixels: np.ndarray, orientation: int = 1) -> Any:
    """A Picture of these pixels as they are stored."""
    from nnst import images

    height, width = pixels.shape[:2]
    return images.Picture(pixels, images.Header("png", width, height, orientation=orientation))


@pytest.fixture(scope="session")
def picture_of() -> Callable[..., Any]:
    """Gives pixels as a Picture: picture_of(pixels, orientation)."""
    return as_picture


@pytest.fixture(scope="session")
def crop_set(
    nnst: Callable[..., Ran], scenes: Scenes, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The crop set of the scenes; CROP_FLAGS are those that it was cut with."""
    out = tmp_path_factory.mktemp("crops") / "mark"
    assert nnst("crop", scenes.truth, "--out", out, *CROP_FLAGS).code == 0
    return out


@pytest.fixture(scope="session")
def trained(nnst: Callable[..., Ran], crop_set: Path) -> Ran:
    """What the least training that goes through everything said of `mark/1`, as JSON."""
    done = nnst("train", crop_set, "--name", "mark", *TRAIN_FLAGS, "--json")
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="session")
def script_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptCluster]:
    """The cluster of the scripts, with two workers."""
    folders = (tmp_path_factory.mktemp(name) for name in ("head", "logs"))
    with running(*folders) as nodes:
        nodes.start_head()
        nodes.start_worker()
        nodes.start_worker()
        nodes.until_nodes(3)
        yield nodes


@pytest.fixture(scope="session")
def send(script_cluster: ScriptCluster, workplace: Path) -> Callable[..., Ran]:
    """Runs `nnst submit` of these words in a process of its own, as at another machine."""

    def run(*words: object, flags: tuple[str, ...] = (), **variables: str) -> Ran:
        command = ["submit", "--address", script_cluster.dashboard, *flags, "--", *words]
        here = {"PYTHONPATH": str(Path(package.__file__).parents[1])}
        done = subprocess.run(
            [sys.executable, "-m", "workflows", *map(str, command)],
            cwd=workplace,
            env=script_cluster.environment | here | variables,
            capture_output=True,
            text=True,
            timeout=280,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def register_doubter(
    mark_model: str, workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, float], str]:
    """Registers the mark's model under a name, its log-odds lowered by so much; gives the run."""

    def register(name: str, doubt: float) -> str:
        from nnst import models
        from workflows import tracking

        folder = f"{tmp_path_factory.mktemp('doubter')}/"
        model = models.load(mark_model)
        weights = dict(model.network.state_dict())
        (bias,) = (each for each in weights if each.endswith("score.bias"))
        weights[bias] = weights[bias].clone()
        weights[bias][1] -= doubt
        digest = models.save(folder, model.spec, weights)
        with contextlib.chdir(workplace):
            with tracking.start(name, "train by hand", params={}, tags={"verb": "train"}) as run:
                version = tracking.register(name, run, folder, model.spec, digest)
                run.log_tags({"model_version": str(version)})
            assert run.problems == []
        return run.run_id

    return register


@dataclass(frozen=True)
class Rivals:
    """Two versions of the model `rival`, and the scans of the same pictures by each of them."""

    runs: tuple[str, str]  # that registered the versions
    scans: tuple[Path, Path]
    documents: tuple[Any, Any]  # what the scans printed


@pytest.fixture(scope="session")
def make_rivals(
    nnst: Callable[..., Ran],
    register_doubter: Callable[[str, float], str],
    scenes: Scenes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Rivals]:
    """Makes two versions of a name: the first sees few of the marks, the second, which challenges
    it, sees them all."""

    def make(name: str) -> Rivals:
        folder = tmp_path_factory.mktemp("rivals")
        runs, scans, documents = [], [], []
        for version, doubt in (("1", 7.0), ("2", 0.0)):
            runs.append(register_doubter(name, doubt))
            out = folder / f"scan-{version}"
            words = ("--model", f"{name}/{version}", "--out", out, "--json")
            done = nnst("scan", scenes.folder, *words, "--set", "shard_images=5")
            assert done.code == 0, done.err
            scans.append(out)
            documents.append(done.document)
        return Rivals((runs[0], runs[1]), (scans[0], scans[1]), (documents[0], documents[1]))

    return make


@pytest.fixture(scope="session")
def rivals(make_rivals: Callable[[str], Rivals]) -> Rivals:
    """`rival/1` and `rival/2`."""
    return make_rivals("rival")
