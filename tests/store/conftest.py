"""A store and rows to put into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lf_lightning.store import ScorerCard, ScoreStore


@pytest.fixture
def card() -> ScorerCard:
    return ScorerCard("gpt", ("world", "sport", "tech"), "multiclass", {"model": "m-1", "temperature": 0.0})


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    return ScoreStore(tmp_path / "store", create=True)


@pytest.fixture
def distributions() -> Callable[..., NDArray[np.float32]]:
    """Returns a factory of (n, k) float32 rows that sum to 1."""

    def make(n: int, seed: int = 0, k: int = 3) -> NDArray[np.float32]:
        return np.random.default_rng(seed).dirichlet(np.ones(k), n).astype(np.float32)

    return make
