"""A head that starts from train rows whose classes are not as frequent as those of validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.nn import functional as F

from lf_lightning.calibration import class_shares
from lf_lightning.heads import AverageFusion, Evidence, LinearStack, PooledFusion
from lf_lightning.systems.head_start import shifted, start_head
from tests.systems.parts import fit

SHARES = torch.tensor([0.75, 0.2, 0.05])


def evidence_of(labels: torch.Tensor, generator: torch.Generator) -> Evidence:
    """Two members who know something of the text, and nothing of how frequent classes are."""
    noise = torch.randn(len(labels), 2, 3, generator=generator)
    members = (F.one_hot(labels, 3).unsqueeze(1) + noise).log_softmax(-1)
    return Evidence(members, torch.ones(len(labels), 2, dtype=torch.bool), labels)


def test_head_and_stack_speak_for_texts_and_calibrators_see_rows_like_them() -> None:
    generator = torch.Generator().manual_seed(0)
    train = evidence_of(torch.arange(3).repeat_interleave(300), generator)
    held = evidence_of(torch.multinomial(SHARES, 200, True, generator=generator), generator)
    texts = evidence_of(torch.multinomial(SHARES, 2000, True, generator=generator), generator)
    train = shifted(train, held.labels)
    assert train.shift is not None
    assert train.shift.shape == (900, 3)
    head = PooledFusion(3, 2, 1, "multiclass")
    references = nn.ModuleDict({"average": AverageFusion(3, 2, 1, "multiclass"), "stack": LinearStack(3, 2, 1, "multiclass")})
    rows = start_head(head, references, [train, held], 0, torch.device("cpu"))
    assert rows is not None
    counts = torch.bincount(rows.labels[:-200], minlength=3)
    assert counts[0] == 300  # as many as can be
    assert (counts / counts.sum() - torch.bincount(held.labels, minlength=3) / 200).abs().max() < 0.01
    assert torch.equal(rows.labels[-200:], held.labels)
    assert rows.references.shape == (2, len(rows.labels), 3)
    for module in (head, references["stack"]):
        said = module(texts.members, texts.present, torch.empty(2000, 0)).softmax(-1).mean(0)
        assert (said - SHARES).abs().max() < 0.06
    unshifted = LinearStack(3, 2, 1, "multiclass")
    unshifted.start(train._replace(shift=None))
    said = unshifted(texts.members, texts.present, torch.empty(2000, 0)).softmax(-1).mean(0)
    assert (said - SHARES).abs().max() > 0.1


def test_rows_drawn_alike_and_several_labels_are_not_shifted() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = evidence_of(torch.multinomial(SHARES, 300, True, generator=generator), generator)
    assert shifted(rows, torch.multinomial(SHARES, 100, True, generator=generator)) is rows
    several = rows._replace(labels=F.one_hot(rows.labels, 3).float())
    assert shifted(several, torch.ones(50, 3)) is several


def test_the_epochs_of_the_head_compare_shifted_logits(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Losses(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if pl_module.phase_of(trainer.current_epoch)[1].name == "head":
                pl_module.head.eval()
                own = pl_module.evidence.logits[batch["index"]]
                with torch.no_grad():
                    fused = pl_module.head(
                        *pl_module.opinions_of(own, batch["scores"], batch["scored"]), torch.empty(len(own), 0)
                    )
                    told = pl_module.losses(batch)["loss"]
                pl_module.head.train()
                seen.append((told, F.cross_entropy(fused + pl_module.evidence.shift, batch["labels"])))

    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr(class_shares, "SIGNIFICANT", 2.0)  # however little they differ
    module = fit(world, tmp_path, [Losses()], score_dropout=0.0)
    assert module.evidence.shift is not None
    assert module.evidence.shift.abs().max() > 0.01
    assert seen
    for told, expected in seen:
        torch.testing.assert_close(told, expected)
    assert torch.equal(module.evidence.state()["shift"], module.evidence.shift)  # a resumed fit has it


def test_a_fit_resumed_among_the_epochs_of_the_head_has_the_shift(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keep(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            if pl_module.phase_of(trainer.current_epoch)[1:] == (pl_module.phases()[-1], 0):
                trainer.save_checkpoint(tmp_path / "kept.ckpt")

    monkeypatch.setattr(class_shares, "SIGNIFICANT", 2.0)
    whole = fit(world, tmp_path / "whole", [Keep()])
    again = fit(world, tmp_path / "again", ckpt_path=tmp_path / "kept.ckpt")
    assert again.evidence.shift is not None
    assert torch.equal(again.evidence.shift, whole.evidence.shift)
    for name, value in whole.head.state_dict().items():
        assert torch.equal(value, again.head.state_dict()[name]), name
