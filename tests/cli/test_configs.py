from __future__ import annotations

from pathlib import Path

import pytest

from lf_lightning.cli import configs
from lf_lightning.errors import ConfigurationError


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packaged"
    (folder / "debug").mkdir(parents=True)
    for name in ("quickstart.yaml", "ag_news.yaml", "debug/overfit.yaml"):
        (folder / name).write_text("{}", encoding="utf-8")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(configs, "configs_folder", lambda: folder)
    return folder


@pytest.mark.parametrize("name", ["ag_news.yaml", "ag_news", "configs/ag_news.yaml", "./ag_news.yaml"])
def test_packaged_config_by_name(packaged: Path, name: str) -> None:
    assert configs.find(name) == packaged / "ag_news.yaml"


def test_packaged_config_in_a_folder(packaged: Path) -> None:
    assert configs.find("debug/overfit.yaml") == packaged / "debug/overfit.yaml"


def test_the_working_folder_comes_first(packaged: Path) -> None:
    Path("ag_news.yaml").write_text("{}", encoding="utf-8")
    assert configs.find("ag_news.yaml") == Path("ag_news.yaml")


def test_unknown_config_lists_the_packaged_ones_and_the_nearest(packaged: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'agnews.yaml'.*Did you mean 'ag_news.yaml'.*debug/overfit.yaml"):
        configs.find("agnews.yaml")


def test_configs_come_with_the_package() -> None:
    assert "quickstart.yaml" in configs.packaged_names()
