"""Rows that scorers did not score, labels and rows that validation lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lf_lightning.calibration import Thresholds
from lf_lightning.errors import ConfigurationError, StoreError
from lf_lightning.heads import FusionMLP, GatedFusion, LinearStack, PooledFusion
from lf_lightning.store import ScorerCard, ScoreStore
from lf_lightning.systems.fusion import FusionLightningModule
from tests.systems.parts import add_scores, data_of, final_state, fit, model_of, test_logits, trainer_of

Tables = Callable[..., pd.DataFrame]


def predicted(module: FusionLightningModule, world: Path, hide: list[int]) -> torch.Tensor:
    """The module's logits (n, K) of the test rows with the scorers `hide` hidden."""
    data = data_of(world)
    data.setup("test")
    module.eval()
    parts = []
    with torch.no_grad():
        for batch in data.test_dataloader():
            batch["scored"][:, hide] = False
            batch["scores"][:, hide] = 0.0
            parts.append(module.outputs(batch).logits)
    return torch.cat(parts)


@pytest.mark.parametrize("head", [FusionMLP, GatedFusion, PooledFusion, LinearStack])
def test_score_dropout_serves_with_all_some_and_no_scorers(head: Any, world: Path, tmp_path: Path) -> None:
    module = fit(world, tmp_path, head=head, score_dropout=0.5, evidence="holdout")
    logits = {str(hide): predicted(module, world, hide) for hide in ([], [0], [1], [0, 1])}
    assert all(torch.isfinite(value).all() for value in logits.values())
    assert len({float(value.sum()) for value in logits.values()}) == 4
    outputs = module.evaluated
    trainer_of(tmp_path).test(module, data_of(world), verbose=False)
    members = outputs["test"].members
    assert list(members) == ["encoder", "good", "weak", "average", "stack"]


def test_dropout_hides_the_asked_share_in_training_only(world: Path, tmp_path: Path) -> None:
    module = model_of(world, score_dropout=0.4, evidence="joint", encoder_epochs=6)
    assert module.head is not None
    module.fit_deferral = lambda outputs: None  # type: ignore[method-assign]  # it looks at texts that nobody was asked about
    trained: list[torch.Tensor] = []
    evaluated: list[torch.Tensor] = []
    module.head.register_forward_pre_hook(lambda head, inputs: (trained if head.training else evaluated).append(inputs[1]))
    trainer_of(tmp_path).fit(module, data_of(world))
    hidden = torch.cat(trained)
    assert hidden[:, 0].all()  # the encoder is never hidden
    assert float(hidden[:, 1:].float().mean()) == pytest.approx(0.6, abs=0.07)
    assert torch.cat(evaluated).all()


@pytest.mark.parametrize("evidence", ["crossfit", "holdout", "joint"])
def test_a_store_with_gaps(evidence: str, world: Path, tmp_path: Path) -> None:
    tables = pd.concat([pd.read_csv(world / f"{name}.csv") for name in ("train", "validation", "test")], ignore_index=True)
    store, labels = tmp_path / "gaps", sorted(set(tables["label"]))
    add_scores(store, "good", 1.2, tables, labels, slice(0, 130))  # the last 27 test rows are not scored
    add_scores(store, "weak", 0.4, tables, labels, slice(30, None))  # nor the first 30 train rows
    module = fit(world, tmp_path, data={"scores": str(store), "on_missing": "mask"}, evidence=evidence)
    state = final_state(world, tmp_path, module, scores=str(store), on_missing="mask")
    assert torch.isfinite(state["test_logits"]).all()
    members = module.evaluated["test"].members
    assert members["good"].isnan().all(-1).sum() == 27
    assert members["weak"].isfinite().all()
    assert members["average"].isfinite().all()
    assert members["stack"].isfinite().all()
    assert all(
        torch.isfinite(value).all() for name, value in state.items() if name.startswith(("head", "references", "calibrator"))
    )


def test_texts_that_no_scorer_knows_are_predicted_by_the_encoder(world: Path, tmp_path: Path, topic_table: Tables) -> None:
    module = fit(world, tmp_path)
    data = data_of(world, predict=topic_table(7, seed=77)[["text"]], on_missing="mask")
    trainer_of(tmp_path).predict(module, data, return_predictions=False)
    outputs = module.evaluated["predict"]
    assert outputs.logits.shape == (7, 3)
    assert torch.isfinite(outputs.logits).all()
    assert outputs.members["good"].isnan().all()
    assert torch.isfinite(module.calibrator(outputs.logits)).all()


def test_the_store_refuses_scores_that_are_not_numbers(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "scores", create=True)
    card = ScorerCard("llm", ("a", "b"), "multiclass", {})
    for bad in (np.nan, np.inf, -0.1):
        with pytest.raises((StoreError, ValueError)):
            store.append(card, ["text"], np.array([[bad, 0.5]], dtype=np.float32))
    assert store.missing(card, ["text"]) == [0]


# ---- what validation lacks


def outcome(folder: Path, root: Path, **data: Any) -> FusionLightningModule:
    module = fit(folder, root, data=data, last=0)
    assert (root / "checkpoints/best.ckpt").is_file()
    state = final_state(folder, root, module, **data)
    assert torch.isfinite(state["test_logits"]).all()
    assert module.calibrator.is_fitted
    assert all(calibrator.is_fitted for calibrator in module.member_calibrators)
    return module


def test_validation_of_one_class(make_world: Callable[..., Path], topic_table: Tables, tmp_path: Path) -> None:
    table = topic_table(120, seed=6)
    one = table[60:][table["label"][60:] == "sport"]
    module = outcome(make_world({"train": table[:60], "validation": one, "test": table[60:].drop(one.index)}), tmp_path)
    for calibrator in module.score_calibrators:  # before the fit there is nothing else to learn from
        assert float(calibrator.temperature) == 1.0
        assert calibrator.report["reason"] == "all usable rows have one label"
    assert module.calibrator.report["method"] == "beta"  # from the train rows that were held out


def test_a_class_that_validation_lacks(make_world: Callable[..., Path], topic_table: Tables, tmp_path: Path) -> None:
    table = topic_table(120, seed=6)
    rest = table[60:][table["label"][60:] != "sport"]
    module = outcome(make_world({"train": table[:60], "validation": rest, "test": table[60:].drop(rest.index)}), tmp_path)
    assert [calibrator.report["method"] for calibrator in module.score_calibrators] == ["temperature"] * 2
    assert module.calibrator.report["method"] == "beta"


def test_validation_of_one_row(make_world: Callable[..., Path], topic_table: Tables, tmp_path: Path) -> None:
    table = topic_table(100, seed=6)
    module = outcome(make_world({"train": table[:60], "validation": table[60:61], "test": table[61:]}), tmp_path)
    for calibrator in module.score_calibrators:
        assert float(calibrator.temperature) == 1.0
        assert "needs 2" in str(calibrator.report["reason"])
    assert module.calibrator.report["rows"] == 61


@pytest.mark.parametrize("scores", ["with", "without"])
def test_no_validation_rows_are_refused_before_anything_is_trained(scores: str, world: Path, tmp_path: Path) -> None:
    data: dict[str, Any] = {"validation": None, "validation_share": 0.0, **({} if scores == "with" else {"scores": None})}
    with pytest.raises(ConfigurationError, match=r"There are no validation rows\. Give data\.validation a source"):
        fit(world, tmp_path, data=data)


# ---- several labels


@pytest.mark.parametrize("evidence", ["crossfit", "holdout", "joint"])
def test_several_labels_through_the_whole_path(evidence: str, multilabel_world: Path, tmp_path: Path) -> None:
    data = {"task": "multilabel"}
    module = fit(multilabel_world, tmp_path, data=data, last=0, evidence=evidence)
    logits = test_logits(multilabel_world, tmp_path, module, **data)
    labels = module.evaluated["test"].labels
    assert logits.shape == labels.shape == (67, 4)
    assert isinstance(module.decision, Thresholds)
    assert module.decision.is_fitted
    assert all(rule.is_fitted for rule in module.member_decisions)
    decided = module.decision.decide(logits.sigmoid())
    right = float((decided == labels).float().mean())
    assert right > float((torch.zeros_like(labels) == labels).float().mean())  # better than saying nothing
    kept = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert kept["state_dict"]["decision.thresholds"].isfinite().all()


def test_several_labels_one_of_which_validation_lacks(
    multilabel_table: Tables, make_world: Callable[..., Path], tmp_path: Path
) -> None:
    table = multilabel_table(120, seed=6)
    rest = table[60:][~table["label"][60:].str.contains("sport")]
    folder = make_world({"train": table[:60], "validation": rest, "test": table[60:].drop(rest.index)})
    module = outcome(folder, tmp_path, task="multilabel")
    assert isinstance(module.decision, Thresholds)
    assert module.decision.is_fitted


def test_unlabelled_train_rows_teach_nothing_and_break_nothing(world: Path, tmp_path: Path) -> None:
    data = {"labels_per_class": 10, "keep_unlabelled": True}
    module = fit(world, tmp_path, data=data)
    assert torch.isfinite(test_logits(world, tmp_path, module, **data)).all()
