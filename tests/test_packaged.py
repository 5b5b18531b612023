from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.packaged import configs_folder, locate


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a model folder; importing it would leave a mark."""
    folder = tmp_path / "site" / "packed_model"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n", encoding="utf-8")
    (folder / "model/config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "site/secret.txt").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


@pytest.mark.parametrize("name", ["roberta-base", "a/folder", "C:/x", ""])
def test_other_names_pass(name: str) -> None:
    assert locate(name) == name


def test_finds_without_importing(package: Path, tmp_path: Path) -> None:
    assert locate("package:packed_model/model") == str(package / "model")
    assert locate("package:packed_model/model/config.json") == str(package / "model/config.json")
    assert locate("package:packed_model") == str(package)
    assert "packed_model" not in sys.modules
    assert not (tmp_path / "imported").exists()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("inside", ["nothing", "../secret.txt", "model/../../secret.txt"])
def test_nothing_outside_or_absent(inside: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no"):
        locate(f"package:packed_model/{inside}")


@pytest.mark.parametrize("name", ["package:not_installed_at_all/x", "package:a.b/x", "package:/x", "package:sys/x"])
def test_a_package_that_is_not_there_names_its_extra(name: str) -> None:
    with pytest.raises(MissingDependencyError, match=r'pip install "lf-lightning\[benchmarks\]"'):
        locate(name, extra="benchmarks")


def test_our_own_configs() -> None:
    assert Path(locate("package:lf_lightning/configs/quickstart.yaml")) == configs_folder() / "quickstart.yaml"
    with pytest.raises(ConfigurationError, match="there is no"):
        locate("package:lf_lightning/configs/none.yaml")
