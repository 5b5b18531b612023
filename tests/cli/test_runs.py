from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lf_lightning.cli import runs
from lf_lightning.errors import ConfigurationError


def test_every_run_has_its_own_folder_even_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: runs.create(tmp_path, "bbc"), range(24)))
    assert len(set(made)) == 24
    assert all(run.parent == tmp_path / "bbc" for run in made)


def test_latest_points_at_the_newest(tmp_path: Path) -> None:
    first, second = runs.create(tmp_path, "bbc"), runs.create(tmp_path, "bbc")
    assert first != second
    assert (tmp_path / "bbc" / "latest").resolve() == second.resolve()
    assert runs.newest(tmp_path, "bbc") == second


def test_age_is_read_as_time_and_counter_not_as_text(tmp_path: Path) -> None:
    names = ["20260101-000000-10", "20260101-000000-2", "20260101-000000", "20251231-235959-99"]
    for name in names:
        (tmp_path / "bbc" / name).mkdir(parents=True)
    (tmp_path / "bbc" / "notes").mkdir()
    assert [run.name for run in runs.listed(tmp_path, "bbc")] == [names[3], names[2], names[1], names[0]]


def test_no_run_lists_the_experiments_that_have_one(tmp_path: Path) -> None:
    runs.create(tmp_path, "ag_news")
    with pytest.raises(ConfigurationError, match=r"'bbc'.*with runs there: ag_news\..*lf fit first"):
        runs.newest(tmp_path, "bbc")


def test_a_run_without_the_checkpoint_lists_those_that_have_it(tmp_path: Path) -> None:
    old, new = runs.create(tmp_path, "bbc"), runs.create(tmp_path, "bbc")
    (old / "checkpoints").mkdir()
    (old / "checkpoints/best.ckpt").touch()
    assert runs.checkpoint(old, "best") == old / "checkpoints/best.ckpt"
    with pytest.raises(ConfigurationError, match="--ckpt_path best") as error:
        runs.checkpoint(new, "best")
    assert str(old) in str(error.value)
    assert "latest" not in str(error.value)


@pytest.mark.parametrize("name", ["", "..", "a/b", "latest"])
def test_an_experiment_is_one_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="plain name"):
        runs.create(tmp_path, name)


def test_an_impossible_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="--runs-dir FOLDER"):
        runs.create(tmp_path / "file", "bbc")
    with pytest.raises(ConfigurationError, match="--runs-dir FOLDER"):
        runs.open_existing(tmp_path / "file" / "run")


def test_a_read_only_folder_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root, whom containers run as, may write into read-only folders
    with pytest.raises(ConfigurationError, match=r"Permission denied.*--runs-dir FOLDER"):
        runs.create(tmp_path, "bbc")


def test_a_checkpoint_knows_its_run(tmp_path: Path) -> None:
    assert runs.run_of_checkpoint(tmp_path / "checkpoints" / "x.ckpt") == tmp_path
    assert runs.run_of_checkpoint(tmp_path / "x.ckpt") is None


def test_rank_is_read_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    assert runs.process_rank() is None
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert runs.process_rank() == 1


def test_an_empty_run_is_discarded_and_a_used_one_is_not(tmp_path: Path) -> None:
    first, second = runs.create(tmp_path, "bbc"), runs.create(tmp_path, "bbc")
    (first / "config.yaml").touch()
    runs.discard_empty(second)
    runs.discard_empty(first)
    assert runs.listed(tmp_path, "bbc") == [first]
    assert (tmp_path / "bbc" / "latest").resolve() == first.resolve()
