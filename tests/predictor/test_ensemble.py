"""An ensemble answers as one system: by its rule, with labels in any order, saved and loaded; never fitted on train rows."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lf_lightning import Predictor
from lf_lightning.calibration import IdentityCalibration
from lf_lightning.callbacks.judging import Opinion
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, DataError, LFError, NotFittedError
from lf_lightning.heads import (
    AverageFusion,
    FusionMLP,
    GatedFusion,
    LinearStack,
    MajorityFusion,
    MixtureFusion,
    PooledFusion,
    RoutedFusion,
)
from lf_lightning.metrics import accuracy, decide
from lf_lightning.predictor import Ensemble, load_system
from lf_lightning.store import ScoreStore

RULES: dict[str, Any] = {
    "soft": AverageFusion,
    "hard": MajorityFusion,
    "weighted": MixtureFusion,
    "log-weighted": partial(PooledFusion, correction=False),
    "routed": RoutedFusion,
    "stacked": PooledFusion,
    "regression": LinearStack,
}
LABELS = ["a", "b", "c"]


class Said:
    """A member that knows what it says of each text, by its number."""

    def __init__(self, p: np.ndarray, labels: Sequence[str] = LABELS, task: Task = "multiclass", decisions: Any = None) -> None:
        self.p, self.labels, self.task, self.scorers = p, list(labels), task, ["llm"]
        self.decisions = decide(p, task) if decisions is None else decisions
        self.heard: list[Any] = []

    def opinion(self, texts: Sequence[str], scores: Any = None) -> Opinion:
        rows = np.array([int(text) for text in texts], dtype=np.int64)
        self.heard.append(scores)
        return Opinion(self.p[rows].astype(np.float64), self.decisions[rows], np.ones(len(rows), dtype=np.bool_))


def rows_of(n: int, strengths: Sequence[float], seed: int = 0) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    logits = [s * np.eye(3)[truth] + rng.normal(size=(n, 3)) for s in strengths]
    return [str(row) for row in range(n)], truth, [np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in logits]


def test_soft_and_hard_votes_need_no_fit() -> None:
    texts, _, said = rows_of(50, (1.0, 1.0, 1.0))
    soft = Ensemble([Said(p) for p in said], AverageFusion)
    assert np.abs(soft.predict_proba(texts) - np.mean(said, 0)).max() < 1e-3  # opinions are clipped at 1e-4
    hard = Ensemble([Said(p) for p in said], MajorityFusion)
    votes = np.stack([p.argmax(1) for p in said], 1)
    clear = np.array([np.bincount(row).max() > 1 for row in votes])
    assert (hard.predict(texts)[clear] == [np.bincount(row).argmax() for row in votes[clear]]).all()
    assert np.abs(hard.predict_proba(texts).sum(1) - 1).max() < 1e-9


def test_a_hard_vote_is_by_the_members_own_decisions() -> None:
    texts, _, (p,) = rows_of(40, (1.0,))
    other = (p.argmax(1) + 1) % 3
    ensemble = Ensemble([Said(p, decisions=other), Said(p, decisions=other), Said(p)], MajorityFusion)
    assert (ensemble.predict(texts) == other).all()
    q = np.random.default_rng(0).random((40, 3))
    tuned = (q >= 0.2).astype(np.int64)
    many = Ensemble([Said(q, task="multilabel", decisions=tuned), Said(q, task="multilabel", decisions=tuned)], MajorityFusion)
    assert (many.predict(texts) == tuned).all()


@pytest.mark.parametrize("rule", RULES)
def test_labels_in_any_order_are_the_same_labels(rule: str) -> None:
    texts, truth, (p, q) = rows_of(150, (2.0, 1.0))
    same = Ensemble([Said(p), Said(q)], RULES[rule]).fit(texts, truth, on_fitted="trust")
    turned = Ensemble([Said(p), Said(q[:, [2, 0, 1]], ["c", "a", "b"])], RULES[rule]).fit(texts, truth, on_fitted="trust")
    assert turned.labels == LABELS
    assert np.abs(same.predict_proba(texts) - turned.predict_proba(texts)).max() < 1e-5
    assert (same.predict(texts) == turned.predict(texts)).all()
    assert same.figures["member 2"] == pytest.approx(turned.figures["member 2"])


@pytest.mark.parametrize("rule", RULES)
def test_it_is_not_below_its_best_member(rule: str) -> None:
    for strengths in ((2.0, 2.0, 2.0), (3.0, 0.3, 0.3)):
        texts, truth, said = rows_of(2060, strengths)
        ensemble = Ensemble([Said(p) for p in said], RULES[rule]).fit(texts[:60], truth[:60], on_fitted="trust")
        found = accuracy(ensemble.predict(texts[60:]), truth[60:])
        best = max(accuracy(p[60:].argmax(1), truth[60:]) for p in said)
        if rule not in ("soft", "hard") or strengths[0] == 2.0:  # a vote listens to everyone alike
            assert found > best - 0.02
        if strengths[0] == 2.0 and rule != "routed":
            assert found > best + 0.02


def test_figures_are_of_rows_that_the_rule_was_not_fitted_on() -> None:
    texts, truth, said = rows_of(30, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    ensemble = Ensemble([Said(p) for p in said], partial(LinearStack, c=1000.0)).fit(texts, truth, on_fitted="trust")
    assert accuracy(ensemble.predict(texts), truth) > 0.9
    assert ensemble.figures["ensemble"]["accuracy"] < 0.7


def test_unlabelled_rows_are_left_out() -> None:
    texts, truth, said = rows_of(80, (2.0, 1.0))
    unknown = np.where(np.arange(80) < 60, truth, -1)
    part, whole = (Ensemble([Said(p) for p in said], MixtureFusion) for _ in range(2))
    part.fit(texts, unknown, on_fitted="trust")
    whole.fit(texts[:60], truth[:60], on_fitted="trust")
    assert np.array_equal(part.predict_proba(texts), whole.predict_proba(texts))
    assert part.fitted_keys == whole.fitted_keys
    with pytest.raises(DataError, match="none of the rows is labelled"):
        part.fit(texts, np.full(80, -1), on_fitted="trust")
    with pytest.raises(DataError, match="row 3: 7 is not allowed"):
        part.fit(texts, np.where(np.arange(80) == 3, 7, truth), on_fitted="trust")
    with pytest.raises(ConfigurationError, match="shape"):
        part.fit(texts, truth[:5], on_fitted="trust")


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([{}], "an ensemble needs two or more, there are 1"),
        ([{}, {"labels": ["a", "b", "d"]}], r"member 2: multiclass of \['a', 'b', 'd'\], but member 1"),
        ([{}, {"task": "multilabel"}], "member 2: multilabel of"),
    ],
)
def test_strangers_are_refused(members: list[dict[str, Any]], complaint: str) -> None:
    p = np.full((2, 3), 1 / 3)
    with pytest.raises(ConfigurationError, match=complaint):
        Ensemble([Said(p, **options) for options in members])


def test_a_rule_that_needs_rows_says_so() -> None:
    texts, truth, said = rows_of(20, (1.0, 1.0))
    with pytest.raises(NotFittedError, match="MixtureFusion was used before it was fitted"):
        Ensemble([Said(p) for p in said], MixtureFusion).predict(texts)
    for rule in (partial(FusionMLP, residual=False), GatedFusion):
        with pytest.raises(ConfigurationError, match="has to be trained epoch by epoch"):
            Ensemble([Said(p) for p in said], rule).fit(texts, truth, on_fitted="trust")


def test_scores_reach_each_member_in_its_own_order() -> None:
    p = np.full((2, 3), 1 / 3)
    one, two = Said(p), Said(p, ["c", "a", "b"])
    two.scorers = ["other", "llm"]
    ensemble = Ensemble([one, two], AverageFusion)
    assert ensemble.scorers == ["llm", "other"]
    given = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    ensemble.predict(["0", "1"], given)
    assert np.array_equal(one.heard[0], given[:, :1])
    assert np.array_equal(two.heard[0], given[:, [1, 0]][:, :, [2, 0, 1]])
    with pytest.raises(ConfigurationError, match=r"2 texts, 2 scorers \['llm', 'other'\] and 3 labels need \(2, 2, 3\)"):
        ensemble.predict(["0", "1"], given[:, :1])
    ensemble.predict(["0"], "a/store")
    assert one.heard[-1] == two.heard[-1] == "a/store"


# ---- of real systems


def rows(world: Path, split: str) -> tuple[list[str], np.ndarray]:
    table = pd.read_csv(world / f"{split}.csv")
    return table["text"].tolist(), table["label"].map({"politics": 0, "science": 1, "sport": 2}).to_numpy()


@pytest.fixture(scope="session")
def pair(fusion: Path, encoder_alone: Path, world: Path) -> Ensemble:
    members = [Predictor.of_run(run, device="cpu") for run in (fusion, encoder_alone)]
    return Ensemble(members, names=["fusion", "encoder"]).fit(*rows(world, "validation"), str(world / "scores"))


def test_train_rows_are_refused(fusion: Path, encoder_alone: Path, world: Path, pair: Ensemble) -> None:
    members = [Predictor.of_run(run, device="cpu") for run in (fusion, encoder_alone)]
    texts, labels = rows(world, "train")
    validation, truth = rows(world, "validation")
    mixed = [*validation, " ".join(["", *texts[5].split(), ""])], [*truth, labels[5]]
    with pytest.raises(ConfigurationError, match=r"member 1 was fitted on 1 of the 30 rows \(first: row 29\)"):
        Ensemble(members).fit(*mixed)
    outer = Ensemble([pair, members[0]])
    with pytest.raises(ConfigurationError, match="member 1 was fitted on 29 of the 29 rows"):
        outer.fit(validation, truth)
    test, _ = rows(world, "test")
    assert pair.trained_on([*texts, *validation, *test]).tolist() == [True] * 90 + [False] * 67
    members[0].source = None
    with pytest.raises(ConfigurationError, match="which rows member 1 was fitted on is not known: it was not"):
        Ensemble(members).fit(validation, truth)


@pytest.mark.parametrize("rule", RULES)
def test_saved_and_loaded_it_says_the_same(
    rule: str, fusion: Path, encoder_alone: Path, world: Path, new_texts: list[str], tmp_path: Path
) -> None:
    members = [Predictor.of_run(run, device="cpu") for run in (fusion, encoder_alone)]
    made = Ensemble(members, RULES[rule], names=["fusion", "encoder"])
    made.fit(*rows(world, "validation"), str(world / "scores"))
    made.save(tmp_path / "one")
    again = load_system(tmp_path / "one", device="cpu")
    assert isinstance(again, Ensemble)
    for scores in (None, str(world / "scores")):
        expected = made.opinion(new_texts, scores)
        found = again.opinion(new_texts, scores)
        assert np.array_equal(found.probabilities, expected.probabilities)
        assert np.array_equal(found.decisions, expected.decisions)
    assert again.figures == made.figures
    assert again.fitted_keys == made.fitted_keys
    assert (again.names, again.labels, again.task, again.scorers) == (made.names, made.labels, made.task, made.scorers)


def test_an_ensemble_is_a_member(pair: Ensemble, fusion: Path, world: Path, new_texts: list[str], tmp_path: Path) -> None:
    outer = Ensemble([pair, Predictor.of_run(fusion, device="cpu")], AverageFusion)
    scores = str(world / "scores")
    mean = (pair.predict_proba(new_texts, scores) + outer.members[1].opinion(new_texts, scores).probabilities) / 2
    assert np.abs(outer.predict_proba(new_texts, scores) - mean).max() < 1e-3
    outer.save(tmp_path / "outer")
    again = load_system(tmp_path / "outer", device="cpu")
    assert np.array_equal(again.predict_proba(new_texts, scores), outer.predict_proba(new_texts, scores))
    assert isinstance(again, Ensemble)
    assert again.texts_read(["a  b"]) == pair.texts_read(["a  b"]) == ["a b"]


def test_multilabel(multilabel_fusion: Path, multilabel_world: Path, tmp_path: Path) -> None:
    members = [Predictor.of_run(multilabel_fusion, checkpoint, device="cpu") for checkpoint in ("best", "last")]
    table, test = (pd.read_csv(multilabel_world / f"{split}.csv") for split in ("validation", "test"))
    truth = table["label"].str.get_dummies("|")[members[0].labels].to_numpy()
    scores = str(multilabel_world / "scores")
    for rule in RULES.values():
        made = Ensemble(members, rule).fit(table["text"].tolist(), truth, scores)
        opinion = made.opinion(test["text"].tolist(), scores)
        assert set(np.unique(opinion.decisions)) == {0, 1}
        assert opinion.probabilities.shape == opinion.decisions.shape == (67, 4)
    made.save(tmp_path / "m")
    again = load_system(tmp_path / "m", device="cpu")
    assert np.array_equal(again.predict_proba(test["text"].tolist(), scores), opinion.probabilities)
    assert made.predict([]).shape == (0, 4)


def test_no_text_gives_no_row(pair: Ensemble) -> None:
    assert pair.predict_proba([]).shape == (0, 3)
    assert pair.predict([]).shape == (0,)


def test_arrays_and_stores_say_the_same(pair: Ensemble, world: Path) -> None:
    texts = rows(world, "test")[0][:7]
    joined = ScoreStore(world / "scores").join(texts, pair.scorers, pair.labels)
    found = pair.predict_proba(texts, joined.scores)
    assert np.array_equal(found, pair.predict_proba(texts, str(world / "scores")))
    assert np.abs(found - pair.predict_proba(texts)).max() > 1e-3


class Planted:
    def __reduce__(self) -> Any:
        return os.mkdir, ("planted",)


@pytest.mark.parametrize(
    "change",
    ["rule", "foreign", "json", "cut", "weights", "pickle", "shape", "member", "symlink", "labels", "arguments", "format"],
)
def test_nothing_in_a_folder_runs(change: str, pair: Ensemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair.save("e")
    folder = Path("e")
    card = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
    if change == "rule":
        card["rule"] = {"class_path": "os.system", "init_args": {"command": "mkdir planted"}}
    elif change == "foreign":
        card["calibrator"] = {"class_path": "lf_lightning.heads.AverageFusion", "init_args": {}}
    elif change == "arguments":
        card["rule"]["init_args"] = {"no_such": 1}
    elif change == "labels":
        card["labels"] = card["labels"][::-1]
    elif change == "format":
        card["format"] = 2
    elif change == "member":
        (folder / "members/1/model.safetensors").write_bytes(pickle.dumps(Planted()))
    elif change == "symlink":
        shutil.move("e/members/1", "elsewhere")
        (folder / "members/1").symlink_to(tmp_path / "elsewhere")
    elif change == "shape":
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "ensemble.safetensors")
        save_file({**state, "head.bias": torch.zeros(9)}, folder / "ensemble.safetensors")
    elif change == "pickle":
        (folder / "ensemble.safetensors").write_bytes(pickle.dumps(Planted()))
    elif change == "weights":
        (folder / "ensemble.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    (folder / "ensemble.json").write_text(json.dumps(card), encoding="utf-8")
    if change == "json":
        (folder / "ensemble.json").write_text("[" * 100_000, encoding="utf-8")
    elif change == "cut":
        (folder / "ensemble.json").write_bytes(json.dumps(card).encode()[:100])
    with pytest.raises((ConfigurationError, DataError)):
        load_system(folder, device="cpu")
    assert not Path("planted").exists()


def test_what_cannot_be_saved_is_named(pair: Ensemble, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(ConfigurationError, match="is not empty"):
        pair.save(tmp_path / "full")
    p = np.full((2, 3), 1 / 3)
    with pytest.raises(ConfigurationError, match="member 1 is a Said"):
        Ensemble([Said(p), Said(p)], AverageFusion).save(tmp_path / "a")
    lambdas = Ensemble(pair.members, lambda *shape: AverageFusion(*shape))
    with pytest.raises(ConfigurationError, match=r"rule=.*cannot be named"):
        lambdas.save(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_a_calibrator_of_ones_own(pair: Ensemble, world: Path) -> None:
    plain = Ensemble(pair.members, AverageFusion, IdentityCalibration, tune_decisions=False)
    before = plain.predict_proba(["a goal"])
    plain.fit(*rows(world, "validation"), on_fitted="trust")
    assert np.array_equal(plain.predict_proba(["a goal"]), before)
    assert isinstance(pair, Ensemble)
    with pytest.raises(LFError, match="give each of the 2 members one of its own"):
        Ensemble(pair.members, names=["a", "a"])
