"""`lf predict --engine ray`: two workers give the files of one process, byte for byte; a killed run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from lf_lightning.cli.predict_parts import predict_table
from lf_lightning.data.row_stream import parts_of, shards_of
from lf_lightning.errors import ConfigurationError, LFError, MissingDependencyError
from lf_lightning.predictor.on_ray import predict_on_ray
from lf_lightning.predictor.parts import PartPredictor
from tests.ray_session import MARKS, one_ray

pytest.importorskip("ray")
pytestmark = MARKS


@pytest.fixture(scope="module")
def _running() -> Iterator[None]:
    """The test of the command starts a Ray of its own."""
    with one_ray(sys.modules[__name__]):
        yield


@pytest.fixture
def source(world: Path, tmp_path: Path) -> str:
    """The test rows as a CSV file and a Parquet file in one folder."""
    frame = pd.read_csv(world / "test.csv")
    (tmp_path / "in").mkdir()
    frame[:40].to_csv(tmp_path / "in" / "a.csv", index=False)
    frame[40:].to_parquet(tmp_path / "in" / "b.parquet", row_group_size=8)
    return str(tmp_path / "in")


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.usefixtures("_running")
class TestTwoWorkers:
    def test_the_files_are_those_of_one_process(self, fusion: Path, source: str, tmp_path: Path) -> None:
        for engine in ("local", "ray"):
            out = f"{'file://' if engine == 'ray' else ''}{tmp_path}/{engine}"
            done = predict_table(str(fusion), source, out, rows_per_part=9, engine=engine)  # type: ignore[arg-type]
            assert (done.rows, done.files, done.there) == (67, 8, 0)
        assert files(tmp_path / "ray") == files(tmp_path / "local")
        (tmp_path / "ray" / "b-0000000009.parquet").unlink()
        again = predict_table(str(fusion), source, f"file://{tmp_path}/ray", rows_per_part=9, engine="ray")
        assert (again.rows, again.files, again.there) == (9, 1, 7)
        assert files(tmp_path / "ray") == files(tmp_path / "local")

    def test_an_error_of_a_worker_is_raised_and_the_rest_is_kept(self, fusion: Path, source: str, tmp_path: Path) -> None:
        frame = pd.read_parquet(f"{source}/b.parquet").rename(columns={"text": "message"})
        frame.to_parquet(f"{source}/b.parquet")
        with pytest.raises(ConfigurationError, match=r"b\.parquet, from row 0 on has no column 'text'"):
            predict_table(str(fusion), source, str(tmp_path / "out"), engine="ray", rows_per_part=10)
        assert any(name.startswith("a-") for name in files(tmp_path / "out"))

    def test_a_worker_that_always_dies_ends_the_run(self, fusion: Path, source: str, tmp_path: Path) -> None:
        predictor = Dies(str(fusion), str(tmp_path / "out"))
        parts = [part for shard in shards_of(source) for part in parts_of(shard, 30)]
        with pytest.raises(LFError, match="workers ended before their work was done"):
            list(predict_on_ray(predictor, parts, 2))

    def test_too_many_workers_and_what_other_processes_cannot_see(self, fusion: Path, source: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="workers=7: there are 2 CPUs"):
            predict_table(str(fusion), source, str(tmp_path / "out"), engine="ray", workers=7, rows_per_part=9)
        with pytest.raises(ConfigurationError, match="other processes cannot see it"):
            predict_table(str(fusion), source, "memory://predict_on_ray", engine="ray")


class Dies(PartPredictor):
    """Is killed at the third part, as a process that takes too much memory is."""

    def predict(self, part: object) -> int:
        if getattr(part, "first", 0) == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(part)  # type: ignore[arg-type]


def test_without_ray(fusion: Path, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"lf-lightning\[ray\]"):
        predict_table(str(fusion), source, str(tmp_path / "out"), engine="ray")


def test_the_command_killed_midway_and_started_again(fusion: Path, world: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(world / "test.csv")
    many = pd.concat([frame.assign(text=frame["text"] + f" {number}") for number in range(20)])
    many.to_parquet(tmp_path / "many.parquet")
    words = ["--run", str(fusion), "--source", str(tmp_path / "many.parquet"), "--on_missing", "mask", "--rows_per_part", "50"]
    command = [sys.executable, "-m", "lf_lightning", "predict", *words]
    with tempfile.TemporaryDirectory(prefix="lf", ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "RAY_TMPDIR": folder}
        ray = [*command, "--engine", "ray", "--workers", "2", "--out", str(tmp_path / "ray")]
        process = subprocess.Popen(ray, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(list((tmp_path / "ray").glob("*.parquet"))) < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.terminate()
        _, said = process.communicate(timeout=120)
        assert process.returncode == 143, said
        assert "the same command does the rest" in said
        there = len(list((tmp_path / "ray").glob("*.parquet")))
        assert there < 27
        again = subprocess.run(ray, env=environment, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
    assert "were there before" in again.stdout
    local = subprocess.run([*command, "--engine", "local", "--out", str(tmp_path / "local")], capture_output=True, check=False)
    assert local.returncode == 0, local.stderr
    assert files(tmp_path / "ray") == files(tmp_path / "local")
