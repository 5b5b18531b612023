"""One fit on data that is odd in every way, shared by the tests that need a fitted system."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lf_lightning import cli, imports
from lf_lightning.cli import runs
from lf_lightning.data.tables import read_table
from lf_lightning.store import ScorerCard, ScoreStore
from tests.conftest import TableFactory

LABELS = ['say "so", please', "new\nline", "שלום عربي", "😀 null", "=1+2", "<script>alert(1)</script>"]
MEGABYTE = "goal " * 200_000
ODD_TEXTS = ["\0goal match\0", "\ud800 vote \udfff", "\u202e שלום", "😀" * 50, MEGABYTE, "=cmd|' /C calc'!A0", "<b>\n\r\t "]
CONFIG = """\
seed_everything: 1
trainer: {{accelerator: cpu, devices: 1, enable_progress_bar: false, enable_model_summary: false, logger: false}}
data:
  train: {folder}/train.jsonl
  validation: {folder}/validation.jsonl
  test: {folder}/test.jsonl
  scores: {scores}
  max_length: 24
  batch_size: 32
model: {{encoder: {encoder}, folds: 2, encoder_epochs: 1, head_epochs: 2, encoder_lr: 0.003, classifier_lr: 0.03}}
"""


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as JSON lines in ASCII, so that lone surrogates survive."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")


def write_config(folder: Path, encoder: str, scores: str = "null") -> Path:
    """Writes `odd.yaml` beside the tables and returns it."""
    path = folder / "odd.yaml"
    path.write_text(CONFIG.format(folder=folder, encoder=encoder, scores=scores), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _imports_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_allowed", list(imports.allowed()))
    monkeypatch.delenv("LF_RUN_DIR", raising=False)


@pytest.fixture(scope="session")
def odd_world(tmp_path_factory: pytest.TempPathFactory, topic_table: TableFactory, tiny_encoder: str) -> Path:
    """A folder with tables of odd texts and labels, what a scorer said of them, and `odd.yaml`."""
    folder = tmp_path_factory.mktemp("odd")
    table = topic_table(120, k=6).astype(object)
    table["label"] = table["label"].map(dict(zip(sorted(set(table["label"])), LABELS, strict=True)))
    for start in (0, 90):  # some in train, some in test
        for row, text in enumerate(ODD_TEXTS):
            table.loc[start + row, "text"] = f"{text}{start}" if start else text
    parts = {"train": table[:60], "validation": table[60:90], "test": table[90:]}
    for name, part in parts.items():
        write_lines(folder / f"{name}.jsonl", part.to_dict("records"))
    truth = np.eye(6)[[LABELS.index(label) for label in table["label"]]]
    p = 0.5 * np.random.default_rng(0).dirichlet(np.ones(6), len(table)) + 0.5 * truth
    ScoreStore(folder / "scores", create=True).append(
        ScorerCard('an "odd"\nLLM', tuple(LABELS), "multiclass", {}), table["text"].tolist(), p.astype(np.float32)
    )
    write_config(folder, tiny_encoder, f"{folder}/scores")
    return folder


@pytest.fixture(scope="session")
def connections() -> list[object]:
    """Addresses outside this process that the fit and the test looked for."""
    return []


@pytest.fixture(scope="session")
def odd_run(odd_world: Path, connections: list[object]) -> Path:
    """The run folder of `lf fit` and `lf test` on it."""
    places = ["--runs-dir", str(odd_world / "runs")]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((socket.socket, "connect"), (socket, "create_connection"), (socket, "getaddrinfo")):
            patch.setattr(owner, name, lambda *words, **named: connections.append(words))
        assert cli.main(["fit", "--config", str(odd_world / "odd.yaml"), *places]) == 0
        run = runs.newest(odd_world / "runs", "odd")
        assert cli.main(["test", "--run", str(run)]) == 0
    return run


@pytest.fixture
def odd_texts(odd_world: Path) -> Any:
    """The test texts, and some that nobody knows."""
    return [*read_table(str(odd_world / "test.jsonl"))["text"], "\ud83d", "", "x" * 1_000_000]
