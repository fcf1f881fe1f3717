"""`nnst ui` as a person starts it: a child process, asked over loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnst.config import build
from nnst.errors import ConfigError, InputError
from tests.ports import free_port
from workflows import tracking
from workflows.commands import Options
from workflows.ui import UiConfig, run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def port() -> int:
    """A port that nobody listens at."""
    return free_port()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where one run is recorded."""
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking.start("pare", "train", params={"a": 1}) as record:
            record.log_bytes("plots/loss.txt", b"curve")
        Path("id").write_text(record.run_id)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return place


@pytest.fixture
def ui(here: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`nnst ui` at work, and the address that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workflows", "ui", "--port", str(port)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line == f"runs and models: http://127.0.0.1:{port} (ctrl-C ends it)\n"
    yield process, f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate(timeout=60)


def get(url: str, host: str | None = None) -> tuple[int, str]:
    """Status and text of the answer, asked for under another host name if one is given."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_page_shows_the_runs_to_this_machine_alone_until_ctrl_c(
    ui: tuple[subprocess.Popen[str], str], here: Path
) -> None:
    process, url = ui
    run_id = (here / "id").read_text()
    assert "<title>MLflow</title>" in get(url)[1]
    status, text = get(f"{url}/api/2.0/mlflow/runs/get?run_id={run_id}")
    assert status == 200
    assert json.loads(text)["run"]["info"]["run_name"] == "train"
    file = f"{url}/get-artifact?path=plots/loss.txt&run_uuid={run_id}"
    assert get(file) == (200, "curve")
    port = url.rpartition(":")[2]
    assert get(url, f"localhost:{port}")[0] == 200
    for foreign in ("evil.example", f"evil.example:{port}", "10.evil.example", "192.168.x.example"):
        assert get(f"{url}/api/2.0/mlflow/runs/get?run_id={run_id}", foreign)[0] == 403
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "nnst ui has ended\n")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_ending_nnst_ui_from_outside_ends_the_server(
    ui: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = ui
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_a_port_that_is_taken_is_refused_with_the_flag_to_use(here: Path, port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(InputError, match=f"port {port} cannot be used.*--port"):
            run(UiConfig(port), Options())


def test_where_nothing_is_recorded_there_is_nothing_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=r"no run is recorded.*nnst demo or nnst train"):
        run(UiConfig(port), Options())
    assert os.listdir(tmp_path) == []


def test_a_server_elsewhere_has_its_own_page(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@head:5000")
    with pytest.raises(InputError, match="open that address") as caught:
        run(UiConfig(port), Options())
    assert "secret" not in str(caught.value)


def test_a_dry_run_names_the_address_and_starts_nothing(here: Path, port: int) -> None:
    outcome = run(UiConfig(port), Options(dry_run=True))
    assert outcome.document == {"url": f"http://127.0.0.1:{port}"}
    assert str(here) in outcome.text


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="port must be 1 to 65535"):
        build(UiConfig, {"port": port})
