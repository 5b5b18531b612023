from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lf_lightning import AutoFusionClassifier
from lf_lightning.store import ScoreStore
from tests.conftest import TableFactory
from tests.scoring.conftest import tiny_lm  # noqa: F401  a fixture
from tests.systems.parts import add_scores

LABELS = ["politics", "science", "sport"]
Make = Callable[..., AutoFusionClassifier]


@pytest.fixture(scope="session")
def small(tiny_encoder: str) -> Make:
    """Returns a factory of classifiers that fit in a second."""

    def make(config: dict[str, Any] | None = None, **given: Any) -> AutoFusionClassifier:
        tiny: dict[str, Any] = {"ml_model": tiny_encoder, "frozen_layers": -1, "num_epochs": 20, "fusion_epochs": 2}
        return AutoFusionClassifier(config, **{**tiny, "max_length": 24, "device": "cpu", "verbose": 0, **given})

    return make


@pytest.fixture(scope="session")
def table(topic_table: TableFactory) -> pd.DataFrame:
    """90 rows, `text` and `label`."""
    return topic_table(90, seed=4)


@pytest.fixture(scope="session")
def new_texts(topic_table: TableFactory) -> list[str]:
    return list(topic_table(12, seed=9)["text"])


@pytest.fixture(scope="session")
def store(table: pd.DataFrame, new_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of 90 rows and 12 new texts by one scorer."""
    folder = tmp_path_factory.mktemp("auto") / "scores"
    more = pd.DataFrame({"text": new_texts, "label": LABELS * 4})
    add_scores(folder, "good", 1.2, pd.concat([table, more], ignore_index=True), LABELS)
    return folder


@pytest.fixture(scope="session")
def array(store: Path, table: pd.DataFrame) -> Any:
    """The same of the 90 rows as (90, 1, 3)."""
    return ScoreStore(store).join(table["text"].tolist(), ["good"], LABELS).scores


@pytest.fixture(scope="session")
def fused(small: Make, table: pd.DataFrame, store: Path) -> AutoFusionClassifier:
    return small(scores=store).fit(table)


@pytest.fixture(scope="session")
def alone(small: Make, table: pd.DataFrame) -> AutoFusionClassifier:
    return small().fit(table["text"].tolist(), table["label"].tolist())
