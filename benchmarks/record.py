"""The record that every benchmark writes: one claim, its figures, and what they were measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lf-lightning", "torch", "lightning", "transformers", "torchmetrics", "numpy", "scikit-learn", "pandas", "pyarrow")


def write(
    path: str | os.PathLike[str], claim: str, figures: Mapping[str, Any], command: str, seeds: Sequence[int] | None = None
) -> None:
    """Writes a benchmark's record as JSON, folders included.

    Args:
        path: Where to; by custom `benchmarks/results/NAME.json`.
        claim: What the figures show, in one sentence.
        figures: Plain values; units are in the names (`seconds`, `extra_mb`).
        command: The command that makes the record again.
        seeds: The seeds of the runs, where there were several.

    Raises:
        ValueError: A figure is NaN or infinite.
    """
    record = {
        "claim": claim,
        "figures": dict(figures),
        "seeds": None if seeds is None else list(seeds),
        "command": command,
        "commit": commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def machine() -> dict[str, Any]:
    """Returns what kind of machine this is, and no name of it. A GPU is listed if torch has been imported."""
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": gpu,
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of the packages that matter and are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit(root: Path = ROOT) -> str | None:
    """Returns the commit of the working tree, with `-dirty` behind it if the tree differs; None if there is no commit.

    Results that benchmarks wrote do not count as a difference, so that one benchmark does not make the next one dirty.
    """
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return None
    changes = _git(root, "status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return f"{head}-dirty" if changes != "" else head


def _git(root: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
