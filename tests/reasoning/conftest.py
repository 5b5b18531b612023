"""A tiny causal language model whose tokens are words, and a world of texts, labels and reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import FILLER, TOPICS, TableFactory, save_llama

REASONS = "because it speaks of is mentioned here so the text answer reason label question".split()
LABELS = ["politics", "science", "sport"]


def save_tokenizer(folder: Path) -> int:
    """Saves a tokenizer with one token a word, `<s>` first; returns its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for topic in TOPICS.values() for word in topic} | set(FILLER) | set(TOPICS) | set(REASONS))
    ids = {token: number for number, token in enumerate(["<s>", "</s>", "<unk>", *".:,?_", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return len(ids)


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a Llama of 128 positions without dropout, see `save_llama`."""
    folder = tmp_path_factory.mktemp("lm")
    return save_llama(folder, save_tokenizer(folder), 128)


def reason_of(text: str, label: str) -> str:
    return "it speaks of " + " ".join(word for word in text.split() if word in TOPICS[label])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, topic_table: TableFactory) -> Path:
    """A folder with 64 train, 32 validation and 33 test rows, and a store with two writers' reasons for the train rows."""
    from lf_lightning.store import ScorerCard, ScoreStore

    folder = tmp_path_factory.mktemp("reasons")
    table = topic_table(129, seed=5)
    table["text"] = [" ".join(text.split()[:12]) for text in table["text"]]
    for row, (text, label) in enumerate(zip(table["text"], table["label"], strict=True)):
        if not set(text.split()) & set(TOPICS[label]):
            table.loc[row, "text"] = f"{text} {TOPICS[label][row % 10]}"
    table["reason"] = [reason_of(text, label) for text, label in zip(table["text"], table["label"], strict=True)]
    tables = {"train": table[:64], "validation": table[64:96], "test": table[96:]}
    for name, rows in tables.items():
        rows.to_csv(folder / f"{name}.csv", index=False)
    train: pd.DataFrame = tables["train"]
    store = ScoreStore(folder / "reasons", create=True)
    uniform = np.full((len(train), 3), 1 / 3, dtype=np.float32)
    for name, words in (("writer", ""), ("writer 2", " because")):
        reasons: list[str | None] = [reason + words for reason in train["reason"]]
        if words:
            reasons[3] = None
        store.append(ScorerCard(name, tuple(LABELS), "multiclass", {"w": name}), train["text"].tolist(), uniform, None, reasons)
    return folder
