from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import TableFactory
from tests.systems.parts import SCORERS, add_scores


def _build(folder: Path, tables: dict[str, pd.DataFrame], encoder: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(encoder, folder / "encoder")
    everything = pd.concat(tables.values()).drop_duplicates("text", ignore_index=True)
    labels = sorted({label for cell in everything["label"] for label in cell.split("|")})
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for name, strength in SCORERS.items():
        add_scores(folder / "scores", name, strength, everything, labels)
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, topic_table: TableFactory, tiny_encoder: str) -> Path:
    """A folder with 61 train, 29 validation and 67 test rows of three labels, the scores of two scorers, and an encoder."""
    table = topic_table(157, seed=4)
    tables = {"train": table[:61], "validation": table[61:90], "test": table[90:]}
    return _build(tmp_path_factory.mktemp("world"), tables, tiny_encoder)


@pytest.fixture(scope="session")
def multilabel_world(tmp_path_factory: pytest.TempPathFactory, multilabel_table: TableFactory, tiny_encoder: str) -> Path:
    """The same of four labels, several in a row."""
    table = multilabel_table(157, seed=4)
    tables = {"train": table[:61], "validation": table[61:90], "test": table[90:]}
    return _build(tmp_path_factory.mktemp("multilabel_world"), tables, tiny_encoder)


@pytest.fixture
def make_world(tmp_path: Path, tiny_encoder: str) -> Callable[[dict[str, pd.DataFrame]], Path]:
    """Returns a function that builds such a folder from the tables `train`, `validation` and `test`."""

    def make(tables: dict[str, pd.DataFrame]) -> Path:
        return _build(tmp_path / "own_world", tables, tiny_encoder)

    return make
