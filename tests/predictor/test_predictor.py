"""A predictor says what `lf predict` says, of any text, in any order; and nothing in a run folder runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lf_lightning import Predictor, cli
from lf_lightning.callbacks.judging import label_cells
from lf_lightning.errors import ConfigurationError, DataError, LFError, StoreError
from lf_lightning.predictor import FittedRun
from lf_lightning.predictor import predictor as predictor_module
from lf_lightning.store import ScoreStore
from tests.systems.parts import fit, test_logits

RUNS = {"fusion": "world", "multilabel_fusion": "multilabel_world", "encoder_alone": "world"}


def predicted(run: Path, texts: list[str], folder: Path) -> pd.DataFrame:
    """What `lf predict` writes."""
    pd.DataFrame({"text": texts}).to_json(folder / "new.jsonl", orient="records", lines=True)
    given = ["--run", str(run), "--data.predict", str(folder / "new.jsonl"), "--data.on_missing", "mask"]
    assert cli.main(["predict", *given]) == 0
    return pd.read_csv(run / "predictions.csv", keep_default_na=False)


@pytest.mark.parametrize("name", RUNS)
def test_it_says_what_lf_predict_says(name: str, new_texts: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run, world = request.getfixturevalue(name), request.getfixturevalue(RUNS[name])
    texts = [*pd.read_csv(world / "test.csv")["text"], *new_texts[-5:]]
    frame = predicted(run, texts, tmp_path)
    predictor = Predictor.of_run(run, device="cpu")
    scores = str(world / "scores") if predictor.scorers else None
    opinion = predictor.opinion(texts, scores)
    expected = frame[[f"p_{label}" for label in predictor.labels]].to_numpy()
    assert opinion.probabilities.dtype == np.float64
    assert np.abs(opinion.probabilities - expected).max() < 1e-6
    assert label_cells(opinion.decisions, predictor.labels) == frame["predicted"].tolist()
    assert np.unique(expected.round(4), axis=0).shape[0] > 20  # a system that says one thing of all texts would prove nothing
    if predictor.scorers:
        assert np.abs(predictor.predict_proba(texts) - expected)[:67].max() > 1e-3  # the scores have their say
        assert np.abs(predictor.predict_proba(texts) - expected)[67:].max() < 1e-6


def test_decisions_are_by_the_systems_own_rule(fusion: Path, new_texts: list[str]) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    rule: Any = predictor.module.decision
    rule.offset.copy_(torch.tensor([9.0, 9.0, 0.0]))
    assert predictor.predict(new_texts).tolist() == [2] * len(new_texts)
    assert (predictor.predict_proba(new_texts).argmax(1) != 2).any()


def test_arrays_are_scores_too_and_nan_is_none(fusion: Path, world: Path, new_texts: list[str]) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    known = new_texts[:9]
    joined = ScoreStore(world / "scores").join(known, predictor.scorers, predictor.labels)
    assert np.array_equal(predictor.predict_proba(known, joined.scores), predictor.predict_proba(known, str(world / "scores")))
    none = np.full_like(joined.scores, np.nan)
    assert np.array_equal(predictor.predict_proba(known, none), predictor.predict_proba(known))
    half = joined.scores.copy()
    half[:, 1] = np.nan
    assert not np.allclose(predictor.predict_proba(known, half), predictor.predict_proba(known))


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (np.full((2, 1, 3), 1 / 3), r"2 scorers \['good', 'weak'\] and 3 labels need \(2, 2, 3\)"),
        (np.full((2, 2, 3), 0.5), "'good'.*do not sum to 1"),
        (np.full((2, 2, 3), [2.0, -1.0, 0.0]), r"not in \[0, 1\]"),
        (np.full((2, 2, 3), [0.5, 0.5, np.nan]), r"not in \[0, 1\]"),
        (np.full((2, 2, 3), [np.inf, 0, 0]), r"not in \[0, 1\]"),
        ("nowhere", "no score store"),
    ],
)
def test_what_is_no_score_is_refused(scores: Any, complaint: str, fusion: Path) -> None:
    with pytest.raises((ConfigurationError, DataError, StoreError), match=complaint):
        Predictor.of_run(fusion, device="cpu").predict_proba(["a", "b"], scores)


def test_a_reload_says_the_same_bit_for_bit(fusion: Path, world: Path, new_texts: list[str], tmp_path: Path) -> None:
    scores = str(world / "scores")
    expected = Predictor.of_run(fusion, device="cpu").predict_proba(new_texts, scores)
    moved = shutil.copytree(fusion, tmp_path / "experiment" / "moved")
    for path in (moved, moved / "checkpoints" / "best.ckpt", fusion.parent / "latest"):
        assert np.array_equal(Predictor.of_run(path, device="cpu").predict_proba(new_texts, scores), expected)


def test_order_and_batch_size_change_nothing(fusion: Path, world: Path, new_texts: list[str]) -> None:
    scores = str(world / "scores")
    expected = Predictor.of_run(fusion, device="cpu").predict_proba(new_texts, scores)
    small = Predictor.of_run(fusion, batch_size=3, device="cpu")
    order = np.random.default_rng(0).permutation(len(new_texts))
    shuffled = small.predict_proba([new_texts[row] for row in order], scores)
    assert np.abs(shuffled - expected[order]).max() < 1e-6
    one_by_one = np.concatenate([small.predict_proba([text], scores) for text in new_texts])
    assert np.abs(one_by_one - expected).max() < 1e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_less_precision_is_near(dtype: Any, tolerance: float, fusion: Path, new_texts: list[str]) -> None:
    expected = Predictor.of_run(fusion, device="cpu").predict_proba(new_texts)
    near = Predictor.of_run(fusion, dtype=dtype, device="cpu").predict_proba(new_texts)
    assert 0 < np.abs(near - expected).max() < tolerance


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_it_says_the_same(encoder_alone: Path, new_texts: list[str]) -> None:
    expected = Predictor.of_run(encoder_alone, device="cpu").predict_proba(new_texts)
    compiled = Predictor.of_run(encoder_alone, device="cpu", compile=True)
    assert np.abs(compiled.predict_proba(new_texts) - expected).max() < 1e-5
    assert np.abs(compiled.predict_proba(new_texts[:3]) - expected[:3]).max() < 1e-5  # another number of rows


@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_tokens_of_a_batch_change_nothing(tokens: int, fusion: Path, new_texts: list[str], monkeypatch: Any) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    expected = predictor.predict_proba(new_texts)
    monkeypatch.setattr(predictor_module, "_CPU_TOKENS", tokens)
    sizes: list[tuple[int, int]] = []
    real = predictor.module.outputs
    monkeypatch.setattr(predictor.module, "outputs", lambda batch: sizes.append(batch["input_ids"].shape) or real(batch))
    assert np.abs(predictor.predict_proba(new_texts) - expected).max() < 1e-6
    assert all(rows == 1 or rows * width <= tokens for rows, width in sizes)
    assert sum(rows for rows, _ in sizes) == len(new_texts)


@pytest.mark.parametrize("name", RUNS)
def test_no_text_gives_no_row(name: str, request: pytest.FixtureRequest) -> None:
    predictor = Predictor.of_run(request.getfixturevalue(name), device="cpu")
    k = len(predictor.labels)
    for scores in (None, [], np.zeros((0, len(predictor.scorers), k))):
        assert predictor.predict_proba([], scores).shape == (0, k)
        assert predictor.predict([], scores).shape == ((0, k) if predictor.task == "multilabel" else (0,))


@pytest.mark.parametrize("text", ["", " \n", "goal " * 200_000, "a" * 1_000_000, "half \ud800 a goal", "nul \0", "😀", "\r\n"])
def test_any_string_is_a_text(text: str, fusion: Path, world: Path) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    expected = predictor.predict_proba(["a goal", "a vote"])
    found = predictor.predict_proba(["a goal", text, "a vote"], str(world / "scores"))
    assert np.isfinite(found).all()
    assert np.abs(found.sum(1) - 1).max() < 1e-6
    assert np.abs(found[[0, 2]] - expected).max() < 1e-6


@pytest.mark.parametrize("text", [None, 3, b"goal", float("nan")])
def test_what_is_no_string_is_named(text: Any, fusion: Path) -> None:
    with pytest.raises(DataError, match="row numbers 1"):
        Predictor.of_run(fusion, device="cpu").predict(["a goal", text])


def test_texts_are_cut_as_in_the_fit(fusion: Path) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    assert (predictor.max_words, predictor.max_length) == (40, 24)
    assert predictor.texts_read(["goal  " * 50]) == [" ".join(["goal"] * 40)]


@pytest.mark.parametrize("name", ["max_length", "max_words", "batch_size"])
def test_numbers_below_one_are_refused(name: str, fusion: Path) -> None:
    given: dict[str, Any] = {"max_length": 8, name: 0}
    with pytest.raises(ConfigurationError, match=f"{name}=0"):
        Predictor(FittedRun.find(fusion).load(), "unread", device="cpu", **given)


def test_a_module_straight_from_its_fit_serves_too(world: Path, tmp_path: Path) -> None:
    module = fit(world, tmp_path, evidence="joint")
    expected = test_logits(world, tmp_path, module).softmax(-1).numpy()
    predictor = Predictor(module, str(world / "encoder"), max_length=256, device="cpu")
    texts = pd.read_csv(world / "test.csv")["text"].tolist()
    assert np.abs(predictor.predict_proba(texts, str(world / "scores")) - expected).max() < 1e-6


# ---- what a run folder may hold


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def copied(fusion: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fusion, tmp_path / "experiment" / "run")


@pytest.mark.parametrize("where", ["hyper_parameters", "callbacks", "whole file"])
def test_a_planted_pickle_never_runs(where: str, copied: Path, tmp_path: Path) -> None:
    file, mark = copied / "checkpoints/best.ckpt", tmp_path / "ran"
    if where == "whole file":
        file.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        kept = torch.load(file, weights_only=True)
        kept[where]["x"] = Bomb(mark)
        torch.save(kept, file)
    with pytest.raises(DataError, match=r"nothing in it was run"):
        Predictor.of_run(copied, device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("where", "path", "complaint"),
    [
        ("checkpoint", "planted_module.System", "not of an allowed package"),
        ("config", "planted_module.System", "not of an allowed package"),
        ("checkpoint", "torch.nn.Linear", "is no ClassifierModule"),
        ("checkpoint", "lf_lightning.heads.FusionMLP", "is no ClassifierModule"),
        ("checkpoint", "lf_lightning.nowhere.System", "cannot be imported"),
        ("checkpoint", "System", "name no ClassifierModule"),
        ("checkpoint", 7, "name no ClassifierModule"),
        ("head", "planted_module.Head", "not of an allowed package"),
        ("instantiator", "planted_module.call", "does not fit FusionLightningModule: .* blocked"),
    ],
)
def test_a_planted_class_is_never_imported(
    where: str, path: Any, complaint: str, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "planted_module.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    file = copied / "checkpoints/best.ckpt"
    kept = torch.load(file, weights_only=True)
    arguments = kept["hyper_parameters"]
    if where == "head":
        arguments["head"] = {"class_path": path}
    elif where == "config":
        del arguments["_class_path"]
        config = yaml.safe_load((copied / "config.yaml").read_text(encoding="utf-8"))
        config["model"]["class_path"] = path
        (copied / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    else:
        arguments[{"checkpoint": "_class_path", "instantiator": "_instantiator"}[where]] = path
    torch.save(kept, file)
    with pytest.raises(LFError, match=complaint):
        Predictor.of_run(copied, device="cpu")
    assert not mark.exists()
    assert "planted_module" not in sys.modules


def test_a_config_cannot_make_objects(copied: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (copied / "config.yaml").write_text(f"model: !!python/object/apply:os.system ['touch {mark}']\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"config\.yaml' cannot be read"):
        Predictor.of_run(copied, device="cpu")
    assert not mark.exists()


def test_what_is_lacking_is_named(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no checkpoint .*nowhere"):
        Predictor.of_run(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"checkpoints/first\.ckpt"):
        Predictor.of_run(copied, checkpoint="first")
    file = copied / "checkpoints/best.ckpt"
    bare = shutil.copy(file, tmp_path / "bare.ckpt")
    with pytest.raises(ConfigurationError, match=r"Predictor\(module, tokenizer, max_length\)"):
        Predictor.of_run(bare)
    kept = torch.load(file, weights_only=True)
    del kept["evidence"]
    torch.save(kept, file)
    with pytest.raises(DataError, match="does not fit FusionLightningModule"):
        Predictor.of_run(copied)
    del kept["hyper_parameters"]["encoder"]
    torch.save(kept, file)
    with pytest.raises(DataError, match=r"its system's 'encoder'|does not fit"):
        Predictor.of_run(copied)
    with pytest.raises(DataError, match="its system's 'encoder'"):
        _ = FittedRun.find(copied).tokenizer
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match="is no checkpoint of tensors"):
        Predictor.of_run(copied)


def test_a_checkpoint_without_a_run_has_a_way(fusion: Path, world: Path, new_texts: list[str]) -> None:
    found = FittedRun.find(fusion)
    predictor = Predictor(found.load(), str(world / "encoder"), max_length=24, max_words=40, device="cpu")
    assert np.array_equal(predictor.predict_proba(new_texts), Predictor.of_run(fusion, device="cpu").predict_proba(new_texts))
