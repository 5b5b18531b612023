"""A tiny causal language model on disk, with a tokenizer that spells every byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import save_llama


def _save_tokenizer(folder: Path, adds_end: bool = False) -> int:
    """Saves a byte-level tokenizer without merges, `<s>` first; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if adds_end else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return len(ids)


@pytest.fixture(scope="session")
def save_tokenizer() -> Callable[..., int]:
    """Returns `save_tokenizer(folder, adds_end=False)`, which saves the model's tokenizer, or one that ends texts by `</s>`."""
    return _save_tokenizer


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the folder of a Llama of 256 positions, see `save_llama`."""
    folder = tmp_path_factory.mktemp("tiny_lm")
    return save_llama(folder, _save_tokenizer(folder), 256, initializer_range=0.3)
