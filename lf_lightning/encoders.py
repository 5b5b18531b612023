"""Hugging Face encoders with pooling and freezing: token ids in, one vector a text out."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from lf_lightning.errors import ConfigurationError
from lf_lightning.packaged import locate
from lf_lightning.pretrained import load_pretrained

Pooling = Literal["mean", "cls", "max"]


class TextEncoder(nn.Module):
    """Any encoder of the Hugging Face hub (RoBERTa, BERT, MPNet, MiniLM, DeBERTa, ModernBERT, ...) as one vector a text.

    Args:
        name: Hub name, local folder, or `package:NAME/PATH`.
        pooling: How token vectors become one: mean over real tokens, the first token, or the maximum over real tokens.
        frozen_layers: The embeddings and so many lower layers keep their weights; 0 trains all, -1 freezes the whole encoder.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, about a third more time.
        config: The encoder's configuration as plain values; when given, the weights are not loaded but left for a checkpoint.

    Raises:
        ConfigurationError: The name cannot be loaded, `frozen_layers` is not within -1..the number of layers, or the model
            has no gradient checkpointing.
    """

    def __init__(
        self,
        name: str,
        pooling: Pooling = "mean",
        frozen_layers: int = 0,
        gradient_checkpointing: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.model = _load(name, config)
        if hasattr(self.model, "pooler"):
            setattr(self.model, "pooler", None)  # noqa: B010  typed as a module; never part of the pooled vector; DDP refuses parameters without a gradient
        self.frozen = frozen_layers == -1
        self.model.train(not self.frozen)  # from_pretrained leaves dropout off, and Lightning keeps the mode it finds
        self._freeze(frozen_layers)
        if gradient_checkpointing:
            if not self.model.supports_gradient_checkpointing:
                raise ConfigurationError(
                    f"gradient_checkpointing=True: {type(self.model).__name__} has none. Way out: false, and smaller batches."
                )
            current = hasattr(self.model, "activation_checkpointing_enable")  # transformers 5.0 has the old name only
            enable = getattr(self.model, f"{'activation' if current else 'gradient'}_checkpointing_enable")
            enable({"use_reentrant": False})

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return int(self.model.config.hidden_size)

    @property
    def plain_config(self) -> dict[str, Any]:
        """The configuration as plain values, from which `config=` builds the same architecture without a hub."""
        return dict(self.model.config.to_dict())

    def train(self, mode: bool = True) -> TextEncoder:
        """Switches dropout; a wholly frozen encoder stays in evaluation mode, so that its vectors can be kept."""
        return super().train(mode and not self.frozen)

    def forward(self, input_ids: Int[Tensor, "b t"], attention_mask: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Returns the pooled vectors (B, d).

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T), 1 on real tokens, at least one in a row.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        if self.pooling == "mean":
            return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return hidden.masked_fill(mask == 0, torch.finfo(hidden.dtype).min).amax(1)

    def _freeze(self, frozen_layers: int) -> None:
        layers = _layers(self.model)
        if not -1 <= frozen_layers <= len(layers):
            raise ConfigurationError(
                f"frozen_layers={frozen_layers}: this encoder has {len(layers)} layers. "
                f"Way out: 0 to {len(layers)}, or -1 for all."
            )
        if self.frozen:
            self.requires_grad_(False)
        elif frozen_layers > 0:
            self.model.get_input_embeddings().requires_grad_(False)
            embeddings = getattr(self.model, "embeddings", None)
            if embeddings is not None:
                embeddings.requires_grad_(False)
            for layer in layers[:frozen_layers]:
                layer.requires_grad_(False)


def _load(name: str, config: Mapping[str, Any] | None) -> PreTrainedModel:
    model: PreTrainedModel
    if config is None:
        with _no_load_report():
            model, found = load_pretrained(AutoModel, name, argument="encoder", dtype=torch.float32, output_loading_info=True)
        lacking = sorted(key for key in {*found["missing_keys"], *found["mismatched_keys"]} if not key.startswith("pooler."))
        if lacking:
            warnings.warn(
                f"encoder={name!r}: {len(lacking)} of its weights are not in the checkpoint and begin at random ({lacking[0]}, "
                "...). Way out: a checkpoint of this architecture.",
                stacklevel=2,
            )
    else:
        values = dict(config)
        built: PretrainedConfig = AutoConfig.for_model(values.pop("model_type"), **values)
        model = AutoModel.from_config(built, dtype=torch.float32, trust_remote_code=False)  # type: ignore[no-untyped-call]
    if getattr(model.config, "is_encoder_decoder", False) or not hasattr(model.config, "hidden_size"):
        raise ConfigurationError(
            f"encoder={name!r} ({model.config.model_type}) is not an encoder. Way out: roberta-base, for example."
        )
    return model


def keep_classifier(folder: Path, classifier: nn.Linear, labels: Sequence[str], pooling: Pooling) -> None:
    """Writes the classifier that an encoder was trained with into its folder (safetensors; no code in it).

    Args:
        folder: The encoder's.
        classifier: From its vectors to K logits.
        labels: The K label names.
        pooling: How its vectors were made.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    save_file(tensors, folder / _CLASSIFIER, {"labels": json.dumps(list(labels)), "pooling": pooling})


def kept_classifier(name: str, labels: Sequence[str], pooling: Pooling, dim: int) -> dict[str, Tensor] | None:
    """Returns the state of the classifier in an encoder's folder, its rows in the order of `labels`; None where there is none.

    Args:
        name: As for `TextEncoder`.
        labels: The K label names wanted.
        pooling: As for `TextEncoder`. A classifier of other labels or pooling is left where it is, with a warning.
        dim: Width d of the encoder's vectors.

    Raises:
        ConfigurationError: The file is damaged, or not of this encoder.
    """
    path = Path(locate(name)) / _CLASSIFIER
    if not (path.exists() or path.is_symlink()):
        return None
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if not {"labels", "pooling"} <= about.keys():
                return None  # somebody else's file
            state = {key: file.get_tensor(key) for key in ("weight", "bias")}
        known = json.loads(about["labels"])
        if not isinstance(known, list) or not all(isinstance(label, str) for label in known):
            raise ValueError("its labels are no list of names")
        for key, shape in (("weight", (len(known), dim)), ("bias", (len(known),))):
            if state[key].shape != shape or state[key].dtype != torch.float32 or not state[key].isfinite().all():
                raise ValueError(f"its {key} is not {shape} finite values of float32")
    except (SafetensorError, OSError, RecursionError, ValueError) as error:
        raise ConfigurationError(
            f"encoder={name!r}: {_CLASSIFIER} in its folder cannot be used: {error}. "
            "Way out: export the encoder again, or delete that file to begin with a new classifier."
        ) from error
    if sorted(known) != sorted(labels) or about["pooling"] != pooling:
        warnings.warn(
            f"encoder={name!r}: the classifier in its folder, of labels {', '.join(known)} and pooling {about['pooling']}, "
            "is not used, as these are others.",
            stacklevel=2,
        )
        return None
    order = [known.index(label) for label in labels]
    return {key: value[order] for key, value in state.items()}


_CLASSIFIER = "classifier.safetensors"


@contextmanager
def _no_load_report() -> Iterator[None]:
    """Leaves out transformers' table of weights that are read by other heads, and of the pooler, which is not used."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    depth = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ConfigurationError(f"The layers of {type(model).__name__} were not found. Way out: frozen_layers: 0.")
