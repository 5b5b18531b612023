"""Stage 1: rows of question, answer and reason, packed or not; what is learnt; what lies in the run afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import AutoModelForCausalLM

from lf_lightning.data.reason_rows import ReasonRowsDataModule
from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.systems.causal_model import load_causal_tokenizer
from lf_lightning.systems.rationale_writer import RationaleWriterModule
from tests.reasoning.parts import QUIET


def data_of(world: Path, lm: str, **options: Any) -> ReasonRowsDataModule:
    given: dict[str, Any] = {
        "train": str(world / "train.csv"),
        "tokenizer": lm,
        "question_column": "text",
        "answer_column": "label",
        "validation_share": 0.2,
        "max_length": 96,
        "batch_size": 4,
    }
    return ReasonRowsDataModule(**{**given, **options})


def trainer_of(root: Path, **options: Any) -> Trainer:
    return Trainer(default_root_dir=str(root), enable_checkpointing=False, **{**QUIET, **options})


def test_packed_rows_have_the_loss_of_rows_by_themselves(world: Path, lm: str) -> None:
    data = data_of(world, lm)
    data.setup("fit")
    model = RationaleWriterModule(lm).eval()
    rows = data._rows["train"]
    together = rows[[[0, 1, 2], [3, 4]]]
    assert int(together["segments"].max()) == 3
    with torch.no_grad():
        packed, tokens = model._loss(together)
        alone = [model._loss(rows[[[row]]]) for row in range(5)]
    assert tokens == sum(count for _, count in alone)
    torch.testing.assert_close(packed, sum(loss * count for loss, count in alone) / tokens)


def test_only_the_reason_is_learnt(world: Path, lm: str) -> None:
    data = data_of(world, lm)
    data.setup("fit")
    tokenizer = load_causal_tokenizer(lm)
    batch = data._rows["train"][[[0], [1]]]
    ids, learnt = data._rows["train"].rows[0]
    assert tokenizer.decode(ids[learnt:-1]).startswith("it speaks of")
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[:learnt]).endswith("reason :")
    assert batch["targets"][0][batch["targets"][0] >= 0].tolist() == ids[learnt:]


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_it_learns_and_leaves_a_plain_model(world: Path, lm: str, tmp_path: Path, lora_rank: int) -> None:
    writer = RationaleWriterModule(lm, epochs=12, lr=1e-2, lora_rank=lora_rank)
    before = {name: value.clone() for name, value in writer.state_dict().items()}
    trainer = trainer_of(tmp_path)
    data = data_of(world, lm)
    start = trainer.validate(writer, data, verbose=False)[0]["validation/nll"]
    trainer.fit(writer, data)
    moved = {name for name, value in writer.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    if lora_rank:
        assert all("lora_" in name for name in moved)
    left = AutoModelForCausalLM.from_pretrained(tmp_path / "writer").eval()
    ids = torch.tensor([[0, 40, 41, 42]])
    with torch.no_grad():
        torch.testing.assert_close(left(ids).logits, writer.eval().model(ids).logits, atol=1e-5, rtol=1e-5)
    assert float(trainer.callback_metrics["validation/nll"]) < start - (0.2 if lora_rank else 2.5)


def test_rows_that_cannot_be_used_are_told(world: Path, lm: str, caplog: pytest.LogCaptureFixture) -> None:
    import pandas as pd

    table = pd.read_csv(world / "train.csv")
    table.loc[0, "reason"] = ""
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        data_of(world, lm, train=table, max_length=20, without_answer=0.5).setup("fit")
    assert "left out: 1 with an empty cell" in caplog.text
    with pytest.raises(ConfigurationError, match="no column 'why'"):
        data_of(world, lm, reason_column="why").setup("fit")
    with pytest.raises(DataError, match="none of"):
        data_of(world, lm, train=table.assign(reason="")).setup("fit")
