"""What a result was made with: versions of packages, revision of the source, machine."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from ustoolkit import __version__

_PACKAGES = ("tensorflow", "tf-keras", "numpy", "imgaug", "scikit-learn", "pillow", "opencv-python")


def machine() -> dict[str, Any]:
    """Platform and number of cores."""
    return {"platform": platform.platform(), "cores": os.cpu_count()}


def versions() -> dict[str, str]:
    """Versions of Python, of this toolkit, and of the packages that results depend on."""
    found = {"python": platform.python_version(), "ustoolkit": __version__}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_revision() -> str:
    """Revision of the source tree that the toolkit runs from, '' where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
