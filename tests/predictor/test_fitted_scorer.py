"""A fitted system scores texts into a store, which another system reads; never the texts that it was fitted on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lf_lightning import Predictor, cli
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import ConfigurationError, StoreError
from lf_lightning.predictor import FittedScorer
from lf_lightning.store import ScorerCard, ScoreStore, Status
from tests.systems.parts import add_scores, fit

CONFIG = """\
source: [{sources}]
store: {store}
max_failed: {max_failed}
scorer:
  class_path: lf_lightning.predictor.FittedScorer
  init_args: {{name: earlier, run: {run}, store: {scores}, device: cpu, batch_size: 7}}
"""


def score(folder: Path, run: Path, scores: Path | str, *sources: Path, max_failed: float = 0.0) -> int:
    """What `lf score` ends with."""
    given = {"sources": ", ".join(map(str, sources)), "store": folder / "store", "run": run, "scores": scores}
    (folder / "score.yaml").write_text(CONFIG.format(max_failed=max_failed, **given), encoding="utf-8")
    return cli.main(["score", "--config", str(folder / "score.yaml")])


def test_a_system_scores_what_another_fusion_learns_from(fusion: Path, world: Path, tmp_path: Path) -> None:
    test = pd.read_csv(world / "test.csv")
    assert score(tmp_path, fusion, world / "scores", world / "test.csv") == 0
    expected = Predictor.of_run(fusion, device="cpu").predict_proba(test["text"].tolist(), str(world / "scores"))
    for name, rows in {"train": test[:40], "validation": test[40:55], "test": test[55:]}.items():
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    shutil.copytree(world / "encoder", tmp_path / "encoder")
    add_scores(tmp_path / "store", "llm", 1.0, test, ["politics", "science", "sport"])
    options = {"scores": str(tmp_path / "store"), "scorers": ["earlier", "llm"]}
    data = ScoredTextDataModule(str(tmp_path / "train.csv"), validation_share=0.0, **options)
    found, scored, _ = data.scores_and_labels("train")
    assert scored.all()
    assert np.abs(found[:, 0].numpy() - expected[:40]).max() < 1e-6
    module = fit(tmp_path, tmp_path / "run", data=options, evidence="holdout")
    assert module.scorers == ["earlier", "llm"]
    assert torch.isfinite(module.evaluated["validation"].logits).all()


def test_texts_that_it_was_fitted_on_are_refused(
    fusion: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("train", "validation", "test")
    assert score(tmp_path, fusion, "null", *(world / f"{name}.csv" for name in names)) == 1
    assert "90 of 157 texts got no score" in capsys.readouterr().err
    store = ScoreStore(tmp_path / "store")
    for name, status in zip(names, (Status.REFUSED, Status.REFUSED, Status.SCORED), strict=True):
        texts = pd.read_csv(world / f"{name}.csv")["text"].tolist()
        joined = store.join(texts, ["earlier"], ["sport", "science", "politics"])
        assert set(joined.status.flatten().tolist()) == {status}
    note = {"reason": "the system was fitted on this text"}
    assert store.usage("earlier", pd.read_csv(world / "train.csv")["text"].tolist()) == [note] * 61


@pytest.mark.parametrize("max_words", [None, 40])
def test_white_space_does_not_hide_a_text(max_words: int | None, fusion: Path, world: Path, tmp_path: Path) -> None:
    run = shutil.copytree(fusion, tmp_path / "experiment" / "run")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["init_args"]["max_words"] = max_words
    (run / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    text = pd.read_csv(world / "validation.csv")["text"][0]
    scores = FittedScorer("a", str(run), device="cpu").score([f"  {text}\n", text.replace(" ", "\t"), text + " goal"])
    assert scores.status.tolist() == [Status.REFUSED, Status.REFUSED, Status.SCORED]


@pytest.mark.parametrize("change", ["another folder", "other rows", "another class", "no record"])
def test_where_nobody_knows_them_the_user_has_to_say_so(
    change: str, fusion: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(fusion, tmp_path / "experiment" / "run")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    arguments = config["data"]["init_args"]
    if change == "another folder":
        monkeypatch.chdir(tmp_path)
        arguments["train"] = "train.csv"
    elif change == "other rows":
        arguments["train"] = str(world / "test.csv")
    elif change == "another class":
        config["data"]["class_path"] = "planted_module.Data"
    else:
        kept = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
        del kept["callbacks"]["RecordResults"]
        torch.save(kept, run / "checkpoints/best.ckpt")
    (run / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"on_fitted='refuse': the rows .* Way out: .*on_fitted: score"):
        FittedScorer("a", str(run), device="cpu").score(["a goal"])
    anyway = FittedScorer("a", str(run), on_fitted="score", device="cpu")
    text = pd.read_csv(world / "train.csv")["text"][0]
    assert anyway.score([text]).status.tolist() == [Status.SCORED]
    assert anyway.card.spec["on_fitted"] == "score"


def test_a_text_that_its_scorers_do_not_know_yet_waits_for_them(fusion: Path, world: Path, tmp_path: Path) -> None:
    labels = ("politics", "science", "sport")
    (tmp_path / "new.csv").write_text("text\na goal\n", encoding="utf-8")
    scores = shutil.copytree(world / "scores", tmp_path / "scores")
    assert score(tmp_path, fusion, scores, world / "test.csv", tmp_path / "new.csv", max_failed=0.5) == 0
    earlier = ScoreStore(tmp_path / "store")
    assert earlier.missing("earlier", ["a goal"]) == [0]
    assert len(earlier.table("earlier").keys) == 67
    weak, good = (ScorerCard(name, labels, "multiclass", {"model": name}) for name in ("weak", "good"))
    ScoreStore(scores).append(good, ["a goal"], [[0.1, 0.1, 0.8]])
    ScoreStore(scores).append(weak, ["a goal"], [[0, 0, 0]], [Status.REFUSED])
    assert score(tmp_path, fusion, scores, tmp_path / "new.csv") == 0
    given = np.array([[[0.1, 0.1, 0.8], [np.nan] * 3]])
    expected = Predictor.of_run(fusion, device="cpu").predict_proba(["a goal"], given)
    assert np.abs(earlier.join(["a goal"], ["earlier"], labels).scores[0] - expected).max() < 1e-6


def test_the_card_is_the_content(fusion: Path, encoder_alone: Path, world: Path, tmp_path: Path) -> None:
    def fingerprint(run: Path = fusion, **options: Any) -> str:
        return FittedScorer("a", str(run), **options).card.fingerprint

    store, same = str(world / "scores"), shutil.copytree(fusion, tmp_path / "experiment" / "moved")
    shutil.copytree(store, tmp_path / "scores")
    assert fingerprint(same, batch_size=3, device="cpu") == fingerprint()
    assert fingerprint(store=str(tmp_path / "scores")) == fingerprint(store=store)
    kept = torch.load(same / "checkpoints/best.ckpt", weights_only=True)
    kept["state_dict"]["classifier.bias"][0] += 1
    torch.save(kept, same / "checkpoints/best.ckpt")
    others = [fingerprint(same), fingerprint(encoder_alone), fingerprint(store=store), fingerprint(dtype="bfloat16")]
    assert len({fingerprint(), fingerprint(on_fitted="score"), *others}) == 6
    card = FittedScorer("a", str(fusion), store=store).card
    assert (card.labels, card.task) == (("politics", "science", "sport"), "multiclass")
    assert card.spec["scorers"] == [ScoreStore(store).resolve(name) for name in ("good", "weak")]


def test_a_multilabel_system_scores_too(multilabel_fusion: Path, multilabel_world: Path, tmp_path: Path) -> None:
    world = multilabel_world
    assert score(tmp_path, multilabel_fusion, world / "scores", world / "test.csv") == 0
    texts = pd.read_csv(world / "test.csv")["text"].tolist()
    expected = Predictor.of_run(multilabel_fusion, device="cpu").predict_proba(texts, str(world / "scores"))
    store = ScoreStore(tmp_path / "store")
    card = store.cards[store.resolve("earlier")]
    assert card.task == "multilabel"
    assert np.abs(store.join(texts, ["earlier"], card.labels).scores[:, 0] - expected).max() < 1e-6


@pytest.mark.parametrize("text", ["", "goal " * 200_000, "half \ud800 a goal", "nul \0"])
def test_any_string_is_scored(text: str, fusion: Path, world: Path) -> None:
    scorer, done = FittedScorer("a", str(fusion), device="cpu"), []
    scores = scorer.score([text, "a goal"], done.append)
    assert scores.status.tolist() == [Status.SCORED, Status.SCORED]
    assert np.abs(scores.probabilities.sum(1) - 1).max() < 1e-6
    assert done == [2]
    assert scorer.score([]).probabilities.shape == (0, 3)


def test_what_cannot_be_is_refused(encoder_alone: Path, fusion: Path, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no scorers"):
        _ = FittedScorer("a", str(encoder_alone), store=str(world / "scores")).card
    ScoreStore(tmp_path / "empty", create=True)
    with pytest.raises(StoreError, match="'good' fits no scorer"):
        _ = FittedScorer("a", str(fusion), store=str(tmp_path / "empty")).card


def test_a_config_makes_it_of_allowed_packages_only(
    fusion: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "planted_module.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    run = shutil.copytree(fusion, tmp_path / "experiment" / "run")
    kept = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    kept["hyper_parameters"]["_class_path"] = "planted_module.System"
    torch.save(kept, run / "checkpoints/best.ckpt")
    assert score(tmp_path, run, "null", world / "test.csv") == 2
    assert "'planted_module.System' is not of an allowed package" in capsys.readouterr().err
    assert not mark.exists()
