from __future__ import annotations

import json
import platform
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks import record


def test_a_record_says_what_was_measured_on_what_and_no_machines_name(tmp_path: Path) -> None:
    path = tmp_path / "results" / "claim.json"
    record.write(path, "A is faster.", {"seconds": 1.5}, "python -m benchmarks.a", seeds=[0, 1])
    written = json.loads(path.read_text())
    assert written["claim"] == "A is faster."
    assert written["figures"] == {"seconds": 1.5}
    assert written["seeds"] == [0, 1]
    assert written["command"] == "python -m benchmarks.a"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", written["date"])
    assert written["machine"]["cpus"] >= 1
    assert written["machine"]["memory_gb"] > 0
    assert {"torch", "numpy", "pyarrow"} <= set(written["versions"])
    assert platform.node() not in path.read_text()


def test_a_figure_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.write(tmp_path / "x.json", "", {"f1": float("nan")}, "")
    assert not (tmp_path / "x.json").exists()


def test_the_commit_is_dirty_unless_only_results_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    assert record.commit(tmp_path) is None
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert record.commit(tmp_path) == head
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "a.json").write_text("{}")
    assert record.commit(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert record.commit(tmp_path) == f"{head}-dirty"
