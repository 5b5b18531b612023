"""`lf ensemble`: what `Ensemble` makes of the same runs, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lf_lightning import Predictor, cli
from lf_lightning.heads import AverageFusion, MixtureFusion
from lf_lightning.predictor import Ensemble, load_system


def members(*runs: Path) -> list[Predictor]:
    return [Predictor.of_run(run, device="cpu") for run in runs]


def test_the_average_needs_no_rows(
    fusion: Path,
    encoder_alone: Path,
    new_texts: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "both"
    assert cli.main(["ensemble", str(fusion), str(encoder_alone), "--out", str(out), "--device", "cpu"]) == 0
    assert f"lf serve --model {out}" in capsys.readouterr().out
    expected = Ensemble(members(fusion, encoder_alone), AverageFusion).predict_proba(new_texts)
    np.testing.assert_allclose(load_system(out, device="cpu").predict_proba(new_texts), expected, atol=1e-6)


def test_weights_are_fitted_on_rows_read_as_the_fit_read_its_own(
    fusion: Path,
    encoder_alone: Path,
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows, out = world / "validation.csv", tmp_path / "both"
    words = ["ensemble", str(fusion), str(encoder_alone), "--rule", "weighted", "--rows", str(rows), "--device", "cpu"]
    assert cli.main([*words, "--out", str(out)]) == 0
    table = pd.read_csv(rows)
    ensemble = Ensemble(members(fusion, encoder_alone), MixtureFusion)
    numbers = [ensemble.labels.index(label) for label in table["label"]]
    ensemble.fit(list(table["text"]), numbers, str(world / "scores"))
    found, texts = load_system(out, device="cpu"), pd.read_csv(world / "test.csv")["text"].tolist()
    scores = str(world / "scores")
    np.testing.assert_allclose(found.predict_proba(texts, scores), ensemble.predict_proba(texts, scores), atol=1e-5)
    said = capsys.readouterr().out
    assert f"ensemble: accuracy {ensemble.figures['ensemble']['accuracy']:.3f}" in said
    assert f"member 1, {fusion}: accuracy" in said
    assert cli.main([*words, "--out", str(out)]) == 2  # there is something in it
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--rule", "weighted"], "Way out: --rows TABLE"),
        (["--rows", "TRAIN", "--rule", "stacked"], "on_fitted='refuse'"),
        (["--rows", "VALIDATION", "--label-column", "topic"], "label_column='topic'"),
    ],
)
def test_what_cannot_be_is_named(
    options: list[str], reason: str, fusion: Path, encoder_alone: Path, world: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places = {"TRAIN": str(world / "train.csv"), "VALIDATION": str(world / "validation.csv")}
    words = [str(fusion), str(encoder_alone), "--out", str(tmp_path / "x"), *(places.get(word, word) for word in options)]
    assert cli.main(["ensemble", *words, "--device", "cpu"]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
