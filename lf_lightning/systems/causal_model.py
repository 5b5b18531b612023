"""Causal language models for training: loaded with plain weights, with or without adapters, and written as a plain folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.pretrained import load_pretrained

ADAPTER = "default"


def load_causal_model(name: str, config: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """Returns a causal language model in float32, ready to be trained.

    Args:
        name: Hub name, folder, `.gguf` file, or `package:NAME/PATH`. Packed weights are unpacked into a fresh model, because
            the loaded one cannot be saved.
        config: The model's configuration as plain values; when given, the weights are left for a checkpoint.

    Raises:
        ConfigurationError: It cannot be loaded, or is no causal language model.
    """
    if config is not None:
        return _built(config)
    options: dict[str, Any] = {}
    packed = name.endswith(".gguf")
    unpacked = getattr(transformers, "GgufConfig", None)  # older releases have no packed layers and need no such wish
    if packed and unpacked is not None:
        options["quantization_config"] = unpacked(dequantize=True)
    model: PreTrainedModel = load_pretrained(
        AutoModelForCausalLM, name, argument="encoder", extra="local-llm", dtype=torch.float32, **options
    )
    if packed:
        fresh = _built(plain_config(model))
        fresh.load_state_dict(model.state_dict())
        return fresh
    return model


def load_causal_tokenizer(name: str) -> Any:
    """Returns the tokenizer of a causal language model.

    Args:
        name: As for `load_causal_model`.

    Raises:
        ConfigurationError: It cannot be loaded.
    """
    return load_pretrained(AutoTokenizer, name, argument="encoder", extra="local-llm")


def plain_config(model: PreTrainedModel) -> dict[str, Any]:
    """Returns the configuration as plain values, from which `load_causal_model` builds the same architecture."""
    values = dict(model.config.to_dict())
    values.pop("quantization_config", None)
    return values


def add_adapters(model: PreTrainedModel, rank: int, alpha: int, dropout: float, targets: Sequence[str] | None) -> None:
    """Freezes the model and adds LoRA adapters, which alone are trained: W x + (alpha / rank) B A x, with B = 0 at first.

    Args:
        model: Changed in place: it keeps its class, so that all that holds of it goes on to hold.
        rank: Rows of A.
        alpha: Scale.
        dropout: On x, in training.
        targets: Ends of the names of the linear layers; None: all but the output embedding.

    Raises:
        MissingDependencyError: peft is not installed.
        ConfigurationError: No layer has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingDependencyError.of("peft", "lora") from error
    wanted = "all-linear" if targets is None else list(targets)
    options = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=wanted,
        task_type="CAUSAL_LM",
    )
    try:
        inject_adapter_in_model(options, model, ADAPTER)
    except ValueError as error:
        raise ConfigurationError(f"lora_targets={targets!r}: {str(error)[:200]}") from error
    for parameter in model.parameters():
        # Biases and norms next to a layer are frozen by peft, embeddings and heads elsewhere are not.
        parameter.requires_grad_(False)
    for module in model.modules():
        for part in ("lora_A", "lora_B"):
            if isinstance(layers := getattr(module, part, None), nn.ModuleDict):
                layers.requires_grad_(True)


def last_logits(model: PreTrainedModel, ids: Tensor, mask: Tensor, columns: int) -> Tensor:
    """Returns the logits (B, columns, V) of the last columns of left-padded rows; others are not made where it can be helped.

    Args:
        model: The model.
        ids: (B, T).
        mask: (B, T), 1 on real tokens.
        columns: C.
    """
    given: dict[str, Any] = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0), "logits_to_keep": columns, "use_cache": False}
    known = inspect.signature(model.forward).parameters
    options = {name: value for name, value in given.items() if name in known}
    logits: Tensor = model(input_ids=ids, attention_mask=mask, **options).logits
    return logits[:, -columns:]


def activation_checkpoints(model: PreTrainedModel) -> None:
    """Has the model recompute activations in the backward pass.

    Raises:
        ConfigurationError: It has no such form.
    """
    if not model.supports_gradient_checkpointing:
        raise ConfigurationError(
            f"gradient_checkpointing=True: {type(model).__name__} has none. Way out: false, and smaller batches."
        )
    current = hasattr(model, "activation_checkpointing_enable")  # transformers 5.0 has the old name only
    enable = getattr(model, f"{'activation' if current else 'gradient'}_checkpointing_enable")
    enable({"use_reentrant": False})


def save_plain(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Writes model and tokenizer as a folder that transformers loads, with adapters merged into the weights.

    Args:
        model: With or without adapters; not changed.
        tokenizer: Its tokenizer.
        folder: Made, or written over.
    """
    state: dict[str, Tensor] = {}
    merged = {
        name: module.base_layer.weight + module.get_delta_weight(ADAPTER)
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    for name, value in model.state_dict().items():
        if ".lora_" in name:
            continue
        layer = name.rpartition(".base_layer.")[0]
        plain = name.replace(".base_layer.", ".")
        state[plain] = merged[layer] if layer and name.endswith(".weight") else value
    fresh = _built(plain_config(model))
    fresh.load_state_dict({name: value.detach().float().cpu() for name, value in state.items()})
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _built(config: Mapping[str, Any]) -> PreTrainedModel:
    values = dict(config)
    try:
        built = AutoConfig.for_model(values.pop("model_type"), **values)
        return AutoModelForCausalLM.from_config(built, dtype=torch.float32, trust_remote_code=False)  # type: ignore[no-untyped-call, no-any-return]
    except (KeyError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"encoder_config is of no causal language model: {told}") from error
