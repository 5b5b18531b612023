from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lf_lightning import cli, imports
from lf_lightning.cli import runs
from tests.systems.conftest import multilabel_world, world  # noqa: F401  fixtures

CONFIG = """\
seed_everything: 1
trainer: {{accelerator: cpu, devices: 1, enable_progress_bar: false, enable_model_summary: false, logger: false}}
data:
  train: {world}/train.csv
  validation: {world}/validation.csv
  test: {world}/test.csv
  scores: {scores}
  task: {task}
  max_length: 24
  max_words: 40
model: {{encoder: {world}/encoder, folds: 2, encoder_epochs: 6, head_epochs: 2, encoder_lr: 0.003, classifier_lr: 0.03}}
"""


def fitted(folder: Path, rows: Path, task: str = "multiclass", with_scores: bool = True) -> Path:
    """Returns the run folder of an `lf fit` on a world."""
    scores = rows / "scores" if with_scores else "null"
    (folder / "small.yaml").write_text(CONFIG.format(world=rows, scores=scores, task=task), encoding="utf-8")
    assert cli.main(["fit", "--config", str(folder / "small.yaml"), "--runs-dir", str(folder / "runs")]) == 0
    return runs.newest(folder / "runs", "small")


@pytest.fixture(scope="session")
def fusion(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    return fitted(tmp_path_factory.mktemp("fusion"), world)


@pytest.fixture(scope="session")
def multilabel_fusion(multilabel_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    return fitted(tmp_path_factory.mktemp("multilabel"), multilabel_world, "multilabel")


@pytest.fixture(scope="session")
def encoder_alone(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    return fitted(tmp_path_factory.mktemp("alone"), world, with_scores=False)


@pytest.fixture(autouse=True)
def _imports_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_allowed", list(imports.allowed()))


@pytest.fixture(scope="session")
def new_texts(world: Path) -> list[str]:  # noqa: F811
    """The 67 test texts, which both scorers know, and five that nobody knows."""
    return [*pd.read_csv(world / "test.csv")["text"], "a goal", "vote " * 90, "Atom, Ünï 😀", "the election of a star", "!"]
