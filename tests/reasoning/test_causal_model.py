"""Loading and saving of language models for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lf_lightning.errors import ConfigurationError
from lf_lightning.pretrained import load_pretrained
from lf_lightning.systems.causal_model import (
    activation_checkpoints,
    add_adapters,
    load_causal_model,
    load_causal_tokenizer,
    plain_config,
    save_plain,
)


def test_a_packed_file_is_a_folder_and_a_name_for_transformers() -> None:
    asked: list[Any] = []

    class Loader:
        @staticmethod
        def from_pretrained(path: str, **options: Any) -> str:
            asked.append((path, options["gguf_file"], options["local_files_only"]))
            return "loaded"

    assert load_pretrained(Loader, "some/folder/model.gguf", argument="encoder") == "loaded"
    assert asked == [("some/folder", "model.gguf", True)]


def test_adapters_that_have_learnt_are_merged_into_what_is_saved(lm: str, tmp_path: Path) -> None:
    model = load_causal_model(lm).eval()
    torch.manual_seed(0)
    add_adapters(model, 4, 16, 0.0, ["q_proj", "down_proj"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    save_plain(model, load_causal_tokenizer(lm), tmp_path)
    ids = torch.tensor([[0, 30, 31, 32]])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(plain(ids).logits, load_causal_model(lm).eval()(ids).logits, atol=1e-3)
    assert [parameter.requires_grad for name, parameter in model.named_parameters()].count(True) == 2 * 2 * 2


def test_recomputed_activations_change_no_gradient(lm: str) -> None:
    ids = torch.tensor([[0, 30, 31, 32]])
    gradients = []
    for recompute in (False, True):
        model = load_causal_model(lm).train()
        if recompute:
            activation_checkpoints(model)
        model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_config_builds_the_same_architecture_without_weights(lm: str) -> None:
    model = load_causal_model(lm)
    built = load_causal_model("no/such model", plain_config(model))
    assert {n: v.shape for n, v in built.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}
    with pytest.raises(ConfigurationError, match="no causal language model"):
        load_causal_model("no/such model", {"model_type": "nothing"})
    with pytest.raises(ConfigurationError, match="could not be loaded"):
        load_causal_model("no/such model")
