"""The callbacks of a real run: fusion of a tiny encoder and two scorers, cross-fitted, then tested from its best checkpoint."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch import Trainer
from sklearn.metrics import f1_score

from lf_lightning.callbacks import default_callbacks
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.results import ResultsManager
from lf_lightning.store import ScorerCard, ScoreStore
from lf_lightning.systems.fusion import FusionLightningModule


def add_scores(store, name, table, labels, task, strength):
    rng = np.random.default_rng(len(name))
    truth = np.array([[label in cell.split("|") for label in labels] for cell in table["label"]], dtype=float)
    logits = strength * (2 * truth - 1) + rng.normal(size=truth.shape)
    p = 1 / (1 + np.exp(-logits)) if task == "multilabel" else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    store.append(ScorerCard(name, tuple(labels), task, {"model": name}), table["text"].tolist(), p.astype(np.float32))


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_fit_and_a_test_leave_a_complete_folder(task, topic_table, multilabel_table, tiny_encoder, tmp_path, capsys):
    table = topic_table(150) if task == "multiclass" else multilabel_table(150)
    labels = sorted({label for cell in table["label"] for label in cell.split("|")})
    store = ScoreStore(tmp_path / "scores", create=True)
    add_scores(store, "good-llm", table, labels, task, 1.0)
    add_scores(store, "weak-llm", table, labels, task, 0.3)
    folder = tmp_path / "runs" / "tiny" / "now"

    def parts():
        data = ScoredTextDataModule(
            train=table,
            task=task,
            tokenizer=tiny_encoder,
            scores=str(tmp_path / "scores"),
            validation_share=0.3,
            test_share=0.3,
        )
        model = FusionLightningModule(
            data.labels,
            task,
            data.scorer_names,
            encoder=tiny_encoder,
            folds=2,
            encoder_epochs=1,
            head_epochs=2,
            encoder_lr=1e-3,
        )
        trainer = Trainer(
            default_root_dir=folder,
            callbacks=default_callbacks(),
            accelerator="cpu",
            logger=False,
            max_epochs=-1,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        return trainer, model, data

    trainer, model, data = parts()
    trainer.fit(model, data)
    capsys.readouterr()
    trainer, model, data = parts()
    trainer.test(model, data, ckpt_path=folder / "checkpoints" / "best.ckpt", weights_only=True)
    printed = capsys.readouterr().out
    record = ResultsManager(folder).read()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(record.files) == names
    plots = {f"plots/{name}.png" for name in ("confusion_matrix", "reliability", "per_label_f1", "learning_curves")}
    assert names >= plots | {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "predictions_test.csv", "results.json"}
    assert (record.experiment, record.chosen_by) == ("tiny", "validation")
    assert set(record.tests) == {"encoder", "good-llm", "weak-llm", "average", "stack"}
    assert record.rows["train"]["rows"] + record.rows["validation"]["rows"] + record.rows["test"]["rows"] == 150
    frame = pd.read_csv(folder / "predictions_test.csv", keep_default_na=False)
    assert frame["text"].tolist() == [table["text"][row] for row in frame["row"]]
    assert [set(cell.split("|")) for cell in frame["label"]] == [set(table["label"][row].split("|")) for row in frame["row"]]
    one_hot = [np.array([[label in cell.split("|") for label in labels] for cell in frame[c]]) for c in ("label", "predicted")]
    expected = f1_score(*one_hot, average="macro", zero_division=0)
    assert record.metrics["test"]["system"]["macro_f1"] == pytest.approx(expected)
    order = [printed.index(name) for name in ("LLM: good-llm", "encoder alone", "average", "stack (logistic", "fusion")]
    assert order == sorted(order)
    assert "fusion vs" in printed
