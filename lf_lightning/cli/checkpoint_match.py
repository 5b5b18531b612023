"""Whether a checkpoint belongs to the model that a config describes, said by argument and not by tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import torch
from lightning.pytorch import LightningModule

from lf_lightning.cli import runs
from lf_lightning.errors import ConfigurationError

FIT_ONLY = frozenset(
    {
        "auxiliary_weight", "class_weight", "classifier_lr", "compile", "dropout", "encoder_epochs", "encoder_lr",
        "frozen_layers", "gradient_checkpointing", "head_epochs", "head_lr", "holdout", "loss", "schedule", "score_dropout",
        "seed", "warmup", "weight_decay",
    }
)  # fmt: skip
"""Arguments that a fit reads and a fitted model's answers do not depend on: an evaluation may give others."""

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_TORCH_SAYS = "Error(s) in loading state_dict"


def refuse_other_model(checkpoint: Path, model: LightningModule, command: str) -> None:
    """Raises if `model` was made with arguments that would change a fitted model's answers.

    The weights might load all the same, as with another `pooling`, and every figure be wrong.

    Args:
        checkpoint: The file that an evaluation reads.
        model: What the config describes.
        command: The command of `lf`, for the message.

    Raises:
        ConfigurationError: An argument differs; the message names each with both values.
    """
    found = [text for name, text in _differences(checkpoint, model) if FIT_ONLY.isdisjoint(name.split("."))]
    if found:
        raise ConfigurationError(_message(checkpoint, command, found))


def loading_error(error: RuntimeError, checkpoint: Path, model: LightningModule, command: str) -> ConfigurationError | None:
    """Returns what to say when torch cannot load a checkpoint's weights into `model`; None if `error` is another one.

    Args:
        error: What the trainer raised.
        checkpoint: The file that it read.
        model: What the config describes.
        command: The command of `lf`, for the message.
    """
    if _TORCH_SAYS not in str(error):
        return None
    found = [text for _, text in _differences(checkpoint, model)]
    tensors = [line.strip() for line in str(error).splitlines()[1:]]
    return ConfigurationError(_message(checkpoint, command, found or tensors[:2]))


def _differences(checkpoint: Path, model: LightningModule) -> Iterator[tuple[str, str]]:
    """Yields the arguments that both name and that differ, each with a text that says how."""
    if not checkpoint.is_file():  # a sharded checkpoint is a folder
        return
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get("hyper_parameters", {})
    there, here = dict(_flat("", kept)), dict(_flat("", model.hparams))
    differing = sorted(name for name in here.keys() & there.keys() if _shown(here[name]) != _shown(there[name]))
    for name in differing:
        if not any(name.startswith(f"{other}.") for other in differing):  # another class has other arguments
            label = "model" if name == "_class_path" else name
            yield name, f"{label} is {_shown(here[name])!r} here and {_shown(there[name])!r} there"


def _flat(prefix: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        if name in ("_instantiator", "encoder_config"):  # the configuration follows from the encoder's name
            continue
        if isinstance(value, Mapping) and "class_path" in value:
            yield prefix + name, value["class_path"]
            yield from _flat(f"{prefix}{name}.", value.get("init_args") or {})
        else:
            yield prefix + name, value


def _shown(value: Any) -> Any:
    # A class has several import paths, and a folder of weights may have moved: the last part is the name.
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    if isinstance(value, str) and _IMPORT_PATH.fullmatch(value):
        return value.rpartition(".")[2]
    return list(value) if isinstance(value, tuple) else value


def _message(checkpoint: Path, command: str, found: list[str]) -> str:
    run = runs.run_of_checkpoint(checkpoint)
    with_config = run is not None and (run / "config.yaml").is_file()
    last = " --ckpt_path last" if command == "fit" else ""
    by_run = f"lf {command} --run {run}{last} without --config and --model, which reads the run's own config; or "
    return (
        f"the checkpoint {checkpoint} was fitted with another model than this config describes: {'; '.join(found)}. "
        f"Way out: {by_run if with_config else ''}the same --model and --data arguments as the fit."
    )
