from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.results import FILE_NAME, SCHEMA, ResultsManager, RunRecord, atomic_file, environment, git_state

RECORD = RunRecord(
    experiment="news",
    time="2030-01-01T00:00:00+00:00",
    system="FusionLightningModule",
    task="multiclass",
    labels=["a", "ünï\ud800"],
    metrics={"test": {"system": {"accuracy": 0.5, "rows": 10.0}}},
)


def test_a_record_comes_back_as_it_was(tmp_path):
    manager = ResultsManager(tmp_path / "run")
    assert manager.write(RECORD) == tmp_path / "run" / FILE_NAME
    assert manager.read() == RECORD
    manager.write(replace(RECORD, experiment="other"))
    assert manager.read().experiment == "other"
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_values_that_json_cannot_hold_are_refused_and_the_old_record_stays(tmp_path, value):
    manager = ResultsManager(tmp_path)
    manager.write(RECORD)
    with pytest.raises(ConfigurationError, match="record"):
        manager.write(replace(RECORD, calibrator={"temperature": value}))
    assert manager.read() == RECORD


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        ResultsManager(tmp_path).write(RECORD)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        ResultsManager(tmp_path / "run").write(RECORD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ('{"schema": 1, "experi', "damaged"),
        ("[1]", "no run record"),
        ('{"schema": 1, "experiment": "x"}', "damaged"),
        (json.dumps({"schema": SCHEMA + 1}), "newer lf-lightning"),
    ],
)
def test_what_cannot_be_read_has_a_named_reason(tmp_path, text, message):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(DataError, match=message):
        ResultsManager(tmp_path).read()


def test_a_missing_record_has_a_way_out(tmp_path):
    with pytest.raises(DataError, match="lf test"):
        ResultsManager(tmp_path).read()


def test_fields_of_a_record_that_this_version_does_not_know_are_left_out(tmp_path):
    values = {"experiment": "x", "time": "t", "system": "s", "task": "multilabel", "labels": [], "schema": 1, "colour": "red"}
    (tmp_path / FILE_NAME).write_text(json.dumps(values))
    assert ResultsManager(tmp_path).read().rows == {}


def test_list_finds_runs_of_all_experiments_once_oldest_first_and_skips_broken_ones(tmp_path):
    for number, name in enumerate(("b/2", "a/1", "a/3")):
        ResultsManager(tmp_path / name).write(replace(RECORD, time=f"2030-01-0{3 - number}"))
    (tmp_path / "a" / "latest").symlink_to("3", target_is_directory=True)
    (tmp_path / "a" / "broken").mkdir()
    (tmp_path / "a" / "broken" / FILE_NAME).write_text("{")
    (tmp_path / "a" / "unfinished").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in ResultsManager(tmp_path).list()] == ["a/3", "a/1", "b/2"]
    assert len(ResultsManager(tmp_path / "a").list()) == 2
    assert list(ResultsManager(tmp_path / "a" / "1").list()) == [tmp_path / "a" / "1"]
    assert ResultsManager(tmp_path / "nowhere").list() == {}


def test_two_thousand_records_are_listed_within_the_time_of_a_glance(tmp_path):
    full = replace(RECORD, metrics={"test": {f"m{i}": {f"x{j}": 0.5 for j in range(9)} for i in range(6)}}, labels=["l"] * 28)
    first = ResultsManager(tmp_path / "e" / "0").write(full).read_bytes()
    for number in range(1, 2000):
        (tmp_path / "e" / str(number)).mkdir()
        (tmp_path / "e" / str(number) / FILE_NAME).write_bytes(first)
    start = time.process_time()
    assert len(ResultsManager(tmp_path).list()) == 2000
    assert time.process_time() - start < 1.5


def test_the_environment_names_no_machine_no_path_and_no_variable(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "canary-7f3a")
    text = json.dumps(environment())
    assert "canary" not in text
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert {"python", "cpu", "packages"} <= set(environment())
    assert environment()["packages"]["torch"]


def test_the_commit_and_whether_the_tree_differs_from_it(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert git_state() == (None, None)
    git("init", "-q")
    (tmp_path / "a.txt").write_text("1")
    git("add", "a.txt")
    git("commit", "-qm", "first")
    commit, dirty = git_state()
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "runs").mkdir()  # what a run writes makes no tree dirty
    (tmp_path / "runs" / "results.json").write_text("{}")
    assert git_state() == (commit, False)
    (tmp_path / "a.txt").write_text("2")
    assert git_state() == (commit, True)


def test_an_atomic_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"
    with atomic_file(path) as file:
        file.write(b"old")

    def fail_halfway():
        with atomic_file(path) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
