"""The ONNX graph says what the system says: any number of rows and tokens, all, some or no scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from lf_lightning import Predictor
from lf_lightning.errors import ConfigurationError, MissingDependencyError, NotFittedError
from lf_lightning.predictor import onnx
from tests.predictor.test_predictor import RUNS


def answers(file: Path, predictor: Predictor, texts: list[str], members: Any) -> Any:
    """What the graph says of texts, one batch for all, tokenised here."""
    encoded = predictor.tokenizer(texts, truncation=True, max_length=predictor.max_length, padding=True, return_tensors="np")
    scored = np.isfinite(members).all(-1)
    given = {
        "input_ids": encoded["input_ids"].astype(np.int64),
        "attention_mask": encoded["attention_mask"].astype(np.int64),
        "scores": np.nan_to_num(members).astype(np.float32),
        "scored": scored,
    }
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["probabilities"], given)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_graph_says_the_same(name: str, new_texts: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    predictor = Predictor.of_run(request.getfixturevalue(name), device="cpu")
    predictor.export_onnx(tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    texts = predictor.texts_read(new_texts)
    rng, m, k = np.random.default_rng(0), len(predictor.scorers), len(predictor.labels)
    members = rng.dirichlet(np.ones(k), (len(texts), m))
    for missing in (0.0, 0.5, 1.0):
        members[rng.random((len(texts), m)) < missing] = np.nan
        for rows in (slice(None), slice(0, 1), slice(3, 8)):
            expected = predictor.predict_proba(texts[rows], members[rows])
            assert np.abs(answers(tmp_path / "model.onnx", predictor, texts[rows], members[rows]) - expected).max() < 1e-5


class Fixed(nn.Module):
    """A calibrator that an exporter can only write down for the rows that it saw."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits + torch.ones(len(logits), 1)


@pytest.mark.slow
def test_a_graph_for_one_size_only_is_refused(encoder_alone: Path, tmp_path: Path) -> None:
    predictor = Predictor.of_run(encoder_alone, device="cpu")
    predictor.module.calibrator = Fixed()  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=r"does not take 1 texts|has no ONNX form"):
        predictor.export_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_it_needs_is_named(encoder_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.of_run(encoder_alone, device="cpu")
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"lf-lightning\[onnx\]"):
        predictor.export_onnx(tmp_path / "model.onnx")
    monkeypatch.undo()
    predictor.module.calibrator.get_buffer(predictor.module.calibrator._witness).fill_(torch.nan)
    predictor.module.calibrator._seen_fitted = False
    with pytest.raises(NotFittedError):
        predictor.export_onnx(tmp_path / "model.onnx")
