"""Several writers at once, and writers that are killed."""

from __future__ import annotations

import random
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lf_lightning.errors import StoreError
from lf_lightning.store import ScoreStore, durable

SCRIPT = Path(__file__).with_name("writer.py")
_script = runpy.run_path(str(SCRIPT))
CARD, values_of = _script["CARD"], _script["values_of"]


def writer(path: Path, *numbers: int) -> subprocess.Popen[str]:
    """Starts a writer and returns it once it is about to append."""
    command = [sys.executable, str(SCRIPT), str(path), *map(str, numbers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def check_rows(path: Path, count: int) -> ScoreStore:
    """Checks that the store is whole and has the right scores for the texts 0 to count - 1."""
    store = ScoreStore(path)
    assert store.verify() == []
    joined = store.join([f"{number}" for number in range(count)], ["s"], CARD.labels)
    assert joined.scores[:, 0].tolist() == values_of(range(count)).tolist()
    return store


def test_two_processes_that_append_the_same_and_other_rows(tmp_path: Path) -> None:
    path = tmp_path / "store"
    writers = [writer(path, 0, 200, 1, 7), writer(path, 299, 99, -1, 7)]
    written = 0
    for process in writers:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        written += sum(int(line.split()[1]) for line in output.splitlines())
    assert written == 300
    assert len(check_rows(path, 300).table("s").keys) == 300


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_acknowledged_row_is_lost_when_the_writer_is_killed(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "store"
    best = 0
    for _ in range(2):
        process = writer(path, 0, 100_000, 1, 5)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 30))]
        # At some moment within one of the next appends, of which there are about two hundred a second.
        time.sleep(rng.random() * 0.02)
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
        process.stdout.close()
        process.wait()
        acknowledged = max(int(line.split()[0]) for line in lines if line.endswith("\n"))
        best = max(best, acknowledged)
        store = check_rows(path, best)
        # At most one append more than was acknowledged, and nothing half.
        rows = len(store.table("s").keys)
        assert rows % 5 == 0
        assert best <= rows <= best + 5
        # A rerun asks only for what is missing.
        assert store.missing(CARD, [f"{number}" for number in range(rows + 3)]) == [rows, rows + 1, rows + 2]


def test_a_writer_waits_for_another_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ScoreStore(tmp_path, create=True)
    monkeypatch.setattr(durable, "LOCK_SECONDS", 0.05)
    with durable.writer_lock(tmp_path), pytest.raises(StoreError, match="Another process has held"):
        store.append(CARD, ["a"], [[0, 1]])
    assert store.append(CARD, ["a"], [[0, 1]]) == 1
