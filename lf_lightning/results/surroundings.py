"""Where a run took place: versions, kind of machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lf-lightning", "torch", "lightning", "transformers", "torchmetrics", "numpy", "scikit-learn", "pandas", "pyarrow")


def environment() -> dict[str, Any]:
    """Returns versions and kind of machine; no names of machines or people, no paths, no environment variables."""
    packages = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[package] = version(package)
    torch = sys.modules.get("torch")
    gpus = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch is not None and gpus else None,
        "gpus": gpus,
        "packages": packages,
    }


def git_state() -> tuple[str | None, bool | None]:
    """Returns the commit of the repository around the working folder and whether tracked files differ; None without one."""
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else changes != ""


def _cpu_model() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, timeout=10)  # noqa: S603, S607
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
