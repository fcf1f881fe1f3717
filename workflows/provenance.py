"""What a result was computed with: versions of packages, commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import nnst

_PACKAGES = {
    "numpy": ("numpy",),
    "opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python"),
    "pyarrow": ("pyarrow",),
    "torch": ("torch",),
}


def versions() -> dict[str, str]:
    """Versions of nnst and of the packages that can change a pixel or a score, for fingerprints."""
    return {"nnst": nnst.__version__} | {
        name: _version(candidates) for name, candidates in _PACKAGES.items()
    }


def environment() -> dict[str, str]:
    """The same, with Python and what spreads and records the work: what a person may ask for."""
    further = {name: _version((name,)) for name in ("ray", "mlflow", "safetensors", "simplejpeg")}
    return versions() | further | {"python": platform.python_version()}


def _version(candidates: tuple[str, ...]) -> str:
    """The version of the first candidate that is installed; "" for none."""
    for candidate in candidates:
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return ""


def code_commit(folder: Path = Path(__file__).parent) -> str | None:
    """The git commit of the checkout that holds the folder, with `-dirty` when files differ.

    None when the folder is not tracked by git: an installed package may lie inside somebody
    else's checkout, whose commit says nothing about it.
    """
    if not _git(folder, "ls-files", "."):
        return None
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None when it fails, is not installed or takes too long."""
    command = ["git", "-C", str(folder), *arguments]
    quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # reading must not disturb a git at work
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, env=quiet, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
