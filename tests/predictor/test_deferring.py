"""Asking about some texts only: nobody and everybody are what the predictor says; in between the planned ones are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lf_lightning import Predictor
from lf_lightning.errors import ConfigurationError, NotFittedError
from lf_lightning.predictor.deferring import Deferring, ask_scorers, validated
from lf_lightning.predictor.promises import Promises, answer_or_abstain, of_deferred, prediction_sets
from lf_lightning.scoring import StatedLabelScorer
from lf_lightning.systems.fusion import FusionLightningModule


@pytest.fixture(scope="module")
def predictor(fusion: Path) -> Predictor:
    return Predictor.of_run(fusion, device="cpu")


@pytest.fixture(scope="module")
def deferring(predictor: Predictor) -> Deferring:
    return Deferring(predictor.module, prices=[1.0, 3.0])


class Store:
    """Answers as the world's store does, and notes what it was asked."""

    def __init__(self, predictor: Predictor, texts: list[str], store: Path) -> None:
        self.texts, self.names = predictor.texts_read(texts), predictor.scorers
        self.given, self.scored = predictor._scores_of(self.texts, str(store))
        self.asked: dict[str, list[str]] = {name: [] for name in predictor.scorers}

    def __call__(self, name: str, texts: list[str]) -> np.ndarray:
        self.asked[name] += texts
        rows, m = [self.texts.index(text) for text in texts], self.names.index(name)
        return np.where(self.scored[rows, m, None], self.given[rows, m], np.nan)


@pytest.fixture
def ask(predictor: Predictor, new_texts: list[str], world: Path) -> Store:
    return Store(predictor, new_texts, world / "scores")


def test_nobody_and_everybody(predictor: Predictor, deferring: Deferring, new_texts: list[str], ask: Store) -> None:
    nobody = deferring.answer(predictor, new_texts, ask, deferring.plan(budget=0))
    assert ask.asked == {name: [] for name in predictor.scorers}
    assert np.abs(nobody.opinion.probabilities - predictor.predict_proba(new_texts)).max() < 1e-6
    everybody = deferring.answer(predictor, new_texts, ask, deferring.plan(budget=1))
    assert ask.asked == dict.fromkeys(predictor.scorers, predictor.texts_read(new_texts))
    whole = predictor.opinion(new_texts, np.where(ask.scored[..., None], ask.given, np.nan))
    assert np.abs(everybody.opinion.probabilities - whole.probabilities).max() < 1e-6
    assert everybody.opinion.decisions.tolist() == whole.decisions.tolist()
    assert everybody.asked.all()
    assert everybody.answered.tolist() == ask.scored.tolist()
    assert everybody.expected_cost == pytest.approx(4 * len(new_texts))


@pytest.mark.parametrize("budget", [0.1, 0.3, 0.6])
def test_the_budget_is_kept_and_the_second_asked_only_after_the_first(
    budget: float, predictor: Predictor, deferring: Deferring, new_texts: list[str], ask: Store
) -> None:
    plan = deferring.plan(budget=budget)
    deferred = deferring.answer(predictor, new_texts, ask, plan)
    n = len(new_texts)
    assert deferred.asked.sum(0).tolist() == [int(share * n + 1e-6) for share in plan.shares]
    assert (deferred.asked * [1.0, 3.0]).sum() <= budget * 4 * n
    assert (deferred.asked[:, 0] | ~deferred.asked[:, 1]).all()
    assert {name: len(texts) for name, texts in ask.asked.items()} == dict(
        zip(predictor.scorers, deferred.asked.sum(0).tolist(), strict=True)
    )
    shown = np.where((deferred.asked & ask.scored)[..., None], ask.given, np.nan)
    assert np.abs(deferred.opinion.probabilities - predictor.predict_proba(new_texts, shown)).max() < 1e-6


def test_store_array_and_function_are_one(
    predictor: Predictor, deferring: Deferring, new_texts: list[str], ask: Store, world: Path
) -> None:
    plan = deferring.plan(max_cost=50.0, texts=len(new_texts))
    array = np.where(ask.scored[..., None], ask.given, np.nan)
    found = [deferring.answer(predictor, new_texts, scores, plan) for scores in (ask, str(world / "scores"), array)]
    for other in found[1:]:
        assert np.array_equal(found[0].asked, other.asked)
        assert np.array_equal(found[0].opinion.probabilities, other.opinion.probabilities)
    assert (found[0].asked * [1.0, 3.0]).sum() <= 50


def test_a_saved_system_asks_about_the_same_texts(
    predictor: Predictor, deferring: Deferring, new_texts: list[str], ask: Store, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "saved")
    loaded = Predictor.of_run(tmp_path / "saved", device="cpu")
    again = Deferring(loaded.module, prices=[1.0, 3.0])
    one, other = (d.answer(p, new_texts, ask, d.plan(budget=0.3)) for d, p in ((deferring, predictor), (again, loaded)))
    assert np.array_equal(one.asked, other.asked)
    assert np.array_equal(one.opinion.probabilities, other.opinion.probabilities)


def test_in_a_stream_each_text_is_decided_by_itself(
    predictor: Predictor, deferring: Deferring, new_texts: list[str], ask: Store
) -> None:
    plan = deferring.plan(budget=0.15)
    together = deferring.answer(predictor, new_texts, ask, plan, stream=True)
    alone = [deferring.answer(predictor, [text], ask, plan, stream=True) for text in new_texts[:12]]
    assert [a.asked[0].tolist() for a in alone] == together.asked[:12].tolist()
    assert 0 < together.asked[:, 0].sum() < len(new_texts)


def test_asked_are_those_with_the_greatest_value(
    predictor: Predictor, deferring: Deferring, new_texts: list[str], ask: Store
) -> None:
    plan = deferring.plan(budget=0.2)
    deferred = deferring.answer(predictor, new_texts, ask, plan)
    module: Any = predictor.module
    out = predictor.outputs(new_texts)
    nothing = torch.zeros(len(new_texts), 2, len(predictor.labels)), torch.zeros(len(new_texts), 2, dtype=torch.bool)
    members, present = module.opinions_of(out.members["encoder"], *nothing)
    worth = module.deferral.values(0, members, present, module.probabilities_of).numpy()
    first = deferred.asked[:, 0]
    assert worth[first].min() >= worth[~first].max()


def test_live_scorers_are_asked_by_name_and_their_labels_put_in_order(new_texts: list[str], tmp_path: Path) -> None:
    pd.DataFrame({"text": new_texts[:3], "said": ["sport", "science", "nonsense"]}).to_csv(tmp_path / "said.csv", index=False)
    scorer = StatedLabelScorer("good", [str(tmp_path / "said.csv")], ["sport", "science", "politics"], "said")
    ask = ask_scorers([scorer], ["politics", "science", "sport"])
    said = np.asarray(ask("good", new_texts[:4]))
    assert said[:2].argmax(1).tolist() == [2, 1]
    assert np.isnan(said[2:]).all()
    with pytest.raises(ConfigurationError, match=r"nobody to ask: .*'weak'"):
        ask("weak", new_texts[:1])
    with pytest.raises(ConfigurationError, match="has the labels"):
        ask_scorers([scorer], ["a", "b", "c"])


def test_what_cannot_be(encoder_alone: Path, fusion: Path, predictor: Predictor, deferring: Deferring) -> None:
    with pytest.raises(ConfigurationError, match="no scorers"):
        Deferring(Predictor.of_run(encoder_alone, device="cpu").module)
    with pytest.raises(ConfigurationError, match="prices"):
        Deferring(predictor.module, prices=[1.0])
    with pytest.raises(ConfigurationError, match="exactly one"):
        deferring.plan(budget=0.1, target_accuracy=0.5)
    with pytest.raises(ConfigurationError, match="give texts"):
        deferring.plan(max_cost=1.0)
    with pytest.raises(ConfigurationError, match="gave the shape"):
        deferring.answer(predictor, ["a"], lambda name, texts: np.zeros((1, 7)), deferring.plan(budget=1))
    assert deferring.answer(predictor, [], lambda name, texts: np.zeros((0, 3)), deferring.plan(budget=1)).asked.shape == (0, 2)


def test_a_checkpoint_from_before_there_was_deferral_loads_and_says_so(
    fusion: Path, tmp_path: Path, new_texts: list[str]
) -> None:
    kept = torch.load(fusion / "checkpoints/best.ckpt", weights_only=True)
    kept["state_dict"] = {k: v for k, v in kept["state_dict"].items() if not k.startswith(("deferral.", "validation_rows."))}
    kept["hyper_parameters"].pop("deferral")
    torch.save(kept, tmp_path / "old.ckpt")
    module = FusionLightningModule.load_from_checkpoint(tmp_path / "old.ckpt")
    assert not module.validation_rows.is_fitted
    with pytest.raises(NotFittedError, match="older version"):
        Deferring(module)


@pytest.mark.parametrize("name", ["fusion", "multilabel_fusion", "encoder_alone"])
def test_validation_rows_are_what_the_system_says_of_them(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue("multilabel_world" if name.startswith("multi") else "world")
    predictor = Predictor.of_run(request.getfixturevalue(name), device="cpu")
    module: Any = predictor.module
    table = pd.read_csv(world / "validation.csv", keep_default_na=False)
    p, right, values = validated(module)
    nobody = predictor.predict_proba(table["text"].tolist())
    if predictor.scorers:
        assert np.abs(p[0] - nobody).max() < 1e-5
        with_all = predictor.predict_proba(table["text"].tolist(), str(world / "scores"))
        assert np.corrcoef(p[-1].ravel(), with_all.ravel())[0, 1] > 0.95  # held out, so not quite the same
    else:
        assert np.abs(p[-1] - nobody).max() < 1e-5
    assert right.shape == (len(table), len(predictor.scorers) + 1)
    assert values.shape == (len(table), len(predictor.scorers))


@pytest.mark.parametrize("name", ["fusion", "multilabel_fusion", "encoder_alone"])
def test_promises_of_a_predictor(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue("multilabel_world" if name.startswith("multi") else "world")
    predictor = Predictor.of_run(request.getfixturevalue(name), device="cpu")
    table = pd.read_csv(world / "test.csv", keep_default_na=False)
    texts, truth = table["text"].tolist(), [cell.split("|") if cell else [] for cell in table["label"]]
    scores = str(world / "scores") if predictor.scorers else None
    small, large = (prediction_sets(predictor, texts, scores, coverage=c) for c in (0.6, 0.97))
    assert sum(map(len, small)) < sum(map(len, large))
    inside = np.mean([np.mean([label in s for label in true]) for s, true in zip(large, truth, strict=True) if true])
    assert inside > 0.85  # 0.97 promised on average over fits; here one fit and few rows
    p = predictor.predict_proba(texts, scores)
    for row, names in zip(p, large, strict=True):
        assert names == [predictor.labels[k] for k in np.argsort(-row, kind="stable") if predictor.labels[k] in names]
    decisions, strict = answer_or_abstain(predictor, texts, scores, error=0.05)
    assert np.array_equal(decisions, predictor.predict(texts, scores))
    _, lax = answer_or_abstain(predictor, texts, scores, error=0.7)
    assert strict.sum() <= lax.sum()
    assert lax.any()


def test_promises_of_deferred_answers_are_fitted_on_rows_that_were_asked_about_alike(
    predictor: Predictor, deferring: Deferring, new_texts: list[str], ask: Store
) -> None:
    plan = deferring.plan(budget=0.3)
    deferred = deferring.answer(predictor, new_texts, ask, plan)
    sets, answered = of_deferred(predictor.module, deferred, coverage=0.8, error=0.6)
    assert sets is not None
    assert answered is not None
    p, right, _ = validated(predictor.module)
    rows = np.arange(len(right))
    from lf_lightning.guarantees import LeastAmbiguousSets

    labels = predictor.module.validation_rows.arrays()[1]  # type: ignore[operator, union-attr]
    alike = LeastAmbiguousSets(0.8).fit(p[plan.depths, rows], labels)
    assert np.array_equal(sets, alike.sets(deferred.opinion.probabilities))
    assert of_deferred(predictor.module, deferred) == (None, None)
    unknown = np.full(len(deferred.asked), -1)  # a scorer was silent before one that spoke
    assert Promises(predictor.module).prediction_sets(deferred.opinion, unknown).all()
    assert not Promises(predictor.module).answered(deferred.opinion, unknown, error=0.9).any()
    with pytest.raises(ConfigurationError, match="by='x'"):
        Promises(predictor.module).prediction_sets(deferred.opinion, deferred.asked.sum(1), by="x")  # type: ignore[arg-type]
