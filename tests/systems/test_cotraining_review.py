"""What a user sees of co-training, and that nothing happens in the fit of another system or twice after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from lf_lightning.callbacks import ExportEncoder, ReviewLabels
from lf_lightning.dynamics import Uniform
from lf_lightning.encoders import kept_classifier
from lf_lightning.errors import ConfigurationError
from tests.systems.cotraining_parts import fit_pair, rows_of
from tests.systems.parts import fit


def test_the_list_names_wrong_labels_first_and_the_figures_are_there(world: Path, tmp_path: Path) -> None:
    review = ReviewLabels(rows=12)
    module = fit_pair(world, tmp_path, [review], weights_epochs=3)
    table = pd.read_csv(tmp_path / "likely_mislabelled.csv")
    assert len(table) == 12
    found = module.label_review()
    assert found is not None
    least = found.confidence.mean(-1).sort(stable=True)
    origin = torch.tensor(module.data.split_ids["train"])[found.rows]
    assert table["row"].tolist() == origin[least.indices[:12]].tolist()
    shown = table[["confidence_1", "confidence_2"]].mean(axis=1).to_numpy()
    np.testing.assert_allclose(shown, least.values[:12].numpy(), atol=1e-4)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"agreement.png", "weights.png"}
    assert [entry["phase"] for entry in review.agreement] == ["weights"] * 3 + ["co-train"] * 3 + ["fine-tune"] * 2
    assert [entry["train"] is None for entry in review.agreement] == [True] * 3 + [False] * 3 + [True] * 2
    assert all(0 <= entry["validation"] <= 1 for entry in review.agreement)


def test_the_plot_of_weights_rests_on_what_the_nets_said_of_validation_rows(world: Path, tmp_path: Path) -> None:
    review = ReviewLabels(texts=False)
    module = fit_pair(world, tmp_path, [review])
    assert "text" not in pd.read_csv(tmp_path / "likely_mislabelled.csv").columns
    said = torch.stack(review.said)
    assert said.shape == (5, 29, 2)  # epochs of weights and co-training, validation rows, nets
    scores, _, truth = rows_of(world).scores_and_labels("validation")
    right, stated, weights = module.weights_against_truth("validation", said)
    assert torch.equal(right, (scores[:, 0].argmax(-1) == truth).long())
    assert torch.equal(stated, scores[:, 0].amax(-1))
    c, v = said.mean(0), said.std(0, unbiased=False)
    expected = torch.stack([(c[:, 1] - v[:, 1]).clamp(min=0), c[:, 0] + v[:, 0]], 1)
    torch.testing.assert_close(weights, expected)


def test_the_exported_encoder_is_that_of_the_end_of_co_training(world: Path, tmp_path: Path) -> None:
    module = fit_pair(world, tmp_path / "a", [ExportEncoder(net=2)], finetune_epochs=0)
    loaded = AutoModel.from_pretrained(tmp_path / "a/encoder")
    name = "encoder.layer.1.attention.self.query.weight"
    trained = module.net(1).encoder.model.state_dict()[name]
    assert torch.equal(loaded.state_dict()[name], trained)
    later = fit_pair(world, tmp_path / "b", [ExportEncoder(net=2, folder="warm")])  # the same, then fine-tuned
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "b/warm").state_dict()[name], trained)
    assert not torch.equal(later.net(1).encoder.model.state_dict()[name], trained)
    tokens = [
        AutoTokenizer.from_pretrained(folder)("the goal").input_ids for folder in (tmp_path / "b/warm", world / "encoder")
    ]
    assert tokens[0] == tokens[1]


def test_a_fusion_begins_with_the_exported_classifier(world: Path, tmp_path: Path) -> None:
    pair = fit_pair(world, tmp_path / "pair", [ExportEncoder()], finetune_epochs=0)
    folder, ours = str(tmp_path / "pair/encoder"), pair.net(0).classifier.state_dict()

    class Begun(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if pl_module.phase_of(trainer.current_epoch)[2] == batch_idx == 0:
                begun.append({name: value.clone() for name, value in pl_module.classifier.state_dict().items()})

    begun: list[dict[str, Tensor]] = []
    fusion = fit(world, tmp_path / "fusion", [Begun()], encoder=folder, data={"labels": ["politics", "science", "sport"]})
    assert len(begun) == len(fusion.phases()) == 4  # two folds, the encoder on all rows, the head
    for state in begun[:3]:
        assert all(torch.equal(state[name], ours[name]) for name in ("weight", "bias"))
    turned = kept_classifier(folder, ["sport", "politics", "science"], "mean", 32)
    assert turned is not None
    assert torch.equal(turned["bias"], ours["bias"][[2, 0, 1]])
    for labels, pooling in ((["sport", "politics"], "mean"), (["politics", "science", "sport"], "cls")):
        with pytest.warns(UserWarning, match="is not used"):
            assert kept_classifier(folder, labels, pooling, 32) is None  # type: ignore[arg-type]
    assert kept_classifier(str(world / "encoder"), ["sport", "politics"], "mean", 32) is None


def test_a_classifier_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    labels, file = ["a", "b", "c"], tmp_path / "classifier.safetensors"
    good = {"weight": torch.zeros(3, 8), "bias": torch.zeros(3)}
    about = {"labels": json.dumps(labels), "pooling": "mean"}
    wrong: dict[str, tuple[dict[str, Tensor], dict[str, str]]] = {
        "its weight is not": ({**good, "weight": torch.zeros(3, 4)}, about),
        "its bias is not": ({**good, "bias": torch.tensor([0.0, torch.nan, 0.0])}, about),
        "float32": ({**good, "weight": torch.zeros(3, 8, dtype=torch.complex64)}, about),
        "no list of names": (good, {**about, "labels": '{"a": 1}'}),
        "recursion": (good, {**about, "labels": "[" * 100_000}),
        "bias": ({"weight": good["weight"]}, about),
    }
    for message, (tensors, metadata) in wrong.items():
        save_file(tensors, file, metadata)
        with pytest.raises(ConfigurationError, match=f"(?s)classifier.safetensors in its folder.*{message}.*delete that file"):
            kept_classifier(str(tmp_path), labels, "mean", 8)
    file.write_bytes(b"not a file of tensors")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        kept_classifier(str(tmp_path), labels, "mean", 8)
    save_file(good, file)  # without our labels: somebody else's
    assert kept_classifier(str(tmp_path), labels, "mean", 8) is None


def test_an_encoder_that_has_learned_gold_labels_is_not_exported(world: Path, tmp_path: Path) -> None:
    fit_pair(world, tmp_path, [ExportEncoder()], finetune_epochs=0, cotrain_rows="both", weights_epochs=0, weighting=Uniform)
    assert not (tmp_path / "encoder").exists()


def test_a_resumed_fit_shows_every_epoch_once(world: Path, tmp_path: Path) -> None:
    whole = ReviewLabels()
    fit_pair(world, tmp_path / "run", [whole], last=0)
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["callbacks"]["ReviewLabels"]
    again = ReviewLabels()
    again.load_state_dict(kept)
    assert [entry["epoch"] for entry in again.agreement] == list(range(7))
    assert len(again.said) == 5


def test_another_system_is_left_alone(world: Path, tmp_path: Path) -> None:
    fit(world, tmp_path, [ReviewLabels(), ExportEncoder()], evidence="joint", encoder_epochs=1)
    assert not list(tmp_path.iterdir())
