"""Fixtures that every test may use: a tiny tokenizer, a tiny encoder, and seeded tables whose labels words give away."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)  # processes that tests start import this tree
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest

TOPICS = {
    "politics": "minister vote election parliament law party senate campaign treaty reform".split(),
    "sport": "goal match coach team league player score cup race medal".split(),
    "science": "atom planet theory laboratory cell energy star experiment fossil vaccine".split(),
    "business": "market profit share bank trade price merger company loan stock".split(),
    "travel": "hotel beach flight island museum passport train guide luggage cruise".split(),
    "music": "song album guitar concert singer band piano chorus rhythm drum".split(),
}
FILLER = "the a of in on with new old big small day year city people said after before about more than time report".split()

TableFactory = Callable[..., pd.DataFrame]


def _text(rng: np.random.Generator, topics: list[str], words: int) -> str:
    """Returns `words` words, about one in three of them from `topics` and at least one from each."""
    own = [rng.choice(TOPICS[topic]) for topic in topics]
    rest = [
        rng.choice(TOPICS[topics[rng.integers(len(topics))]]) if topics and rng.random() < 0.3 else rng.choice(FILLER)
        for _ in range(max(words - len(own), 1))
    ]
    text = own + rest
    rng.shuffle(text)
    return " ".join(str(word) for word in text)


@pytest.fixture(scope="session")
def topic_table() -> TableFactory:
    """Returns a factory of tables with distinct texts and one label.

    `topic_table(n, seed=0, k=3)` gives `n` rows with the columns `text` (4 to 40 words) and `label` (one of the first `k`
    topics, at most 6, as even as can be). The words of a text give its label away; no text comes twice.
    """

    def make(n: int, seed: int = 0, k: int = 3) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        names = list(TOPICS)[:k]
        labels = [names[i % k] for i in rng.permutation(n)]
        texts: dict[str, None] = {}
        for label in labels:
            while True:
                text = _text(rng, [label], int(rng.integers(6, 40)))
                if text not in texts:
                    texts[text] = None
                    break
        return pd.DataFrame({"text": list(texts), "label": labels})

    return make


@pytest.fixture(scope="session")
def multilabel_table() -> TableFactory:
    """Returns a factory of tables with distinct texts and several labels.

    `multilabel_table(n, seed=0, k=4)` gives `n` rows with the columns `text` and `label` (one to `k` of the first `k` topics,
    `|`-separated, each topic in at least a fifth of the rows). Each label leaves at least one of its words in the text.
    """

    def make(n: int, seed: int = 0, k: int = 4) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        names = list(TOPICS)[:k]
        labels, texts = [], {}
        for row in range(n):
            chosen = [name for i, name in enumerate(names) if i == row % k or rng.random() < 0.25]
            while True:
                text = _text(rng, chosen, int(rng.integers(8, 40)))
                if text not in texts:
                    texts[text] = None
                    break
            labels.append("|".join(chosen))
        return pd.DataFrame({"text": list(texts), "label": labels})

    return make


def _save_tokenizer(folder: Path) -> int:
    """Saves a lower-casing word-piece tokenizer that knows the tables' words, and spells every other word; returns its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'\"-:;()")
    words = sorted({word for topic in TOPICS.values() for word in topic} | set(FILLER))
    vocabulary = dict.fromkeys([*special, *characters, *(f"##{c}" for c in characters), *words, *TOPICS])
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        model_max_length=128,
    )
    fast.save_pretrained(folder)
    return len(ids)


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the folder of a tokenizer with about 200 tokens (pad 0, unknown 1, [CLS] 2, [SEP] 3, [MASK] 4)."""
    folder = tmp_path_factory.mktemp("tiny_tokenizer")
    _save_tokenizer(folder)
    return str(folder)


def save_llama(folder: Path, tokens: int, positions: int, **options: Any) -> str:
    """Saves a Llama of 2 layers and width 32 with seeded random weights, `<s>` 0 and `</s>` 1; returns its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=0,
        eos_token_id=1,
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Gives up the rights of root, which no permission binds."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the folder of a BERT of 2 layers, width 32, 128 positions, seeded random weights, and the tiny tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_encoder")
    size = _save_tokenizer(folder)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return str(folder)
