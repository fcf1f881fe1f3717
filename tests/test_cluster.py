"""The places: scripts that make a cluster, run for real; manifests, read as their readers do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nnst.ledger import Ledger

CLUSTER = Path(__file__).resolve().parents[1] / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))


# --- Scripts


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_what_it_does_and_has_no_known_fault(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n# ")
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert done.stdout == ""


def test_a_worker_without_a_token_or_a_head_is_refused(tmp_path: Path) -> None:
    for words, expected in (((), "no head given"), (("127.0.0.1:1",), "no token in")):
        done = subprocess.run(
            [CLUSTER / "worker.sh", *words],
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert expected in done.stderr


def test_the_token_is_the_owners_alone_and_shown_nowhere(script_cluster: Any) -> None:
    token = script_cluster.token
    assert token.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch("[0-9a-f]{64}", token.read_text())
    said = [path.read_text(errors="replace") for path in script_cluster.logs.iterdir()]
    assert len(said) >= 3
    assert not any(token.read_text() in text for text in said)


def test_a_submitted_scan_is_whole_although_a_worker_node_is_killed_on_the_way(
    script_cluster: Any,
    send: Callable[..., Any],
    scenes: Any,
    mark_model: str,
    nnst: Callable[..., Any],
    tmp_path: Path,
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "scan"
    archive.mkdir()
    for turn in range(12):
        for path in scenes.folder.glob("*.png"):
            os.link(path, archive / f"{turn:02d}-{path.name}")
    shards = ("--set", "shard_images=2")
    words = ("scan", archive, "--model", mark_model, *shards)
    ends: list[Any] = []
    job = threading.Thread(
        target=lambda: ends.append(
            send(*words, "--out", out, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
        )
    )
    job.start()
    end = time.monotonic() + 200
    while not list(out.glob("receipts/*.json")) and job.is_alive():
        assert time.monotonic() < end
        time.sleep(0.02)
    script_cluster.kill_worker()
    early = len(list(out.glob("receipts/*.json")))
    job.join(280)
    (done,) = ends
    assert done.code == 0, done.err
    assert early < 60, "the job was done before the node was killed"
    assert "has ended with exit code 0" in done.out
    assert done.err.count("120 pictures looked through with") == 1
    plain = tmp_path / "plain"
    assert nnst(*words, "--out", plain).code == 0
    for table in ("images", "detections"):
        names = [sorted(path.name for path in (at / table).iterdir()) for at in (out, plain)]
        assert names[0] == names[1]  # a part's name is its content's
    assert Ledger.open(str(out)).totals()["rows_in"] == 120


# --- Manifests


def documents(name: str) -> list[Any]:
    return [each for each in yaml.safe_load_all((CLUSTER / name).read_text()) if each]


def containers(tree: Any) -> Iterator[dict[str, Any]]:
    """Every container of a Kubernetes manifest."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("containers", "initContainers"):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from containers(value)


def test_the_file_of_ray_up_is_what_ray_takes() -> None:
    import jsonschema
    import ray

    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    (config,) = documents("ray-up.yaml")
    jsonschema.validate(config, json.loads(schema.read_text()))
    assert config["head_node_type"] in config["available_node_types"]
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command


# What KubeRay's published definitions demand of what we use (ray.io/v1, operator 1.6), kept by
# hand: no package carries them. Names that are not here are refused, as the API server would.
POD = {"type": "object", "required": ["spec"]}
GROUP = {
    "type": "object",
    "required": ["rayStartParams", "template"],
    "properties": {
        "groupName": {"type": "string"},
        "replicas": {"type": "integer"},
        "minReplicas": {"type": "integer"},
        "maxReplicas": {"type": "integer"},
        "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
        "template": POD,
        "serviceType": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    },
    "additionalProperties": False,
}
RAY_CLUSTER = {
    "type": "object",
    "required": ["headGroupSpec"],
    "properties": {
        "rayVersion": {"type": "string"},
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": {"type": "object"},
        "authOptions": {"type": "object", "properties": {"mode": {"enum": ["token", "disabled"]}}},
        "headGroupSpec": GROUP,
        "workerGroupSpecs": {
            "type": "array",
            "items": GROUP | {"required": [*GROUP["required"], "groupName", "maxReplicas"]},
        },
    },
    "additionalProperties": False,
}
RAY_JOB = {
    "type": "object",
    "required": ["entrypoint"],
    "properties": {
        "entrypoint": {"type": "string"},
        "rayClusterSpec": RAY_CLUSTER,
        "clusterSelector": {"type": "object", "additionalProperties": {"type": "string"}},
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": {"type": "integer"},
        "backoffLimit": {"type": "integer"},
        "runtimeEnvYAML": {"type": "string"},
        "submitterPodTemplate": POD,
    },
    "additionalProperties": False,
}
KINDS = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}


def test_the_manifests_of_kuberay_are_what_its_operator_takes() -> None:
    import jsonschema
    import ray

    found = documents("kuberay-cluster.yaml") + documents("kuberay-job.yaml")
    ours = [each for each in found if each["apiVersion"] == "ray.io/v1"]
    assert sorted(each["kind"] for each in ours) == ["RayCluster", "RayJob"]
    for manifest in ours:
        spec = manifest["spec"]
        jsonschema.validate(spec, KINDS[manifest["kind"]])
        cluster = spec.get("rayClusterSpec", spec)
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["rayVersion"] == ray.__version__


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml", "mlflow.yaml"])
def test_a_pod_has_limits_and_no_secret_in_the_open(name: str) -> None:
    found = [each for manifest in documents(name) for each in containers(manifest)]
    assert found
    for container in found:
        assert container["resources"]["limits"]["memory"], container["name"]
        for variable in container.get("env", ()):
            secret = re.search("PASSWORD|TOKEN|SECRET|BACKEND_STORE", variable["name"])
            assert not secret or "valueFrom" in variable, variable["name"]


def test_compose_opens_ports_on_loopback_alone() -> None:
    (config,) = documents("compose.yaml")
    for name, service in config["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name


def test_the_dashboard_asks_for_metrics_that_workers_give() -> None:
    from workflows.fanout import meters

    board = json.loads((CLUSTER / "grafana.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_(nnst_\w+?)(?:_total)?\b", target["expr"])
    }
    assert asked == set(meters.METRICS)
