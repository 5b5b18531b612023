"""Writing a fitted system as a folder of tensors and plain values, see `saved` for what is in it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

import lf_lightning
from lf_lightning.encoders import TextEncoder
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.saved import CARD, FORMAT, TOKENIZER, WEIGHTS, file_facts
from lf_lightning.store.durable import sync_folder
from lf_lightning.systems.base import ClassifierModule

_VERSIONS = ("torch", "transformers", "tokenizers", "safetensors")


def save(
    folder: str | os.PathLike[str],
    module: ClassifierModule,
    tokenizer: Any,
    max_length: int,
    max_words: int | None,
    origin: Mapping[str, Any],
) -> None:
    """Writes a system as a folder, under its name only once all of it is on the disk.

    Args:
        folder: New, or empty.
        module: The system, fitted.
        tokenizer: Its tokenizer, fast.
        max_length: Tokens kept of each text.
        max_words: Words kept of each text, None for all.
        origin: `fitted_on` and `figures`, plain values.

    Raises:
        ConfigurationError: There is something in the folder, it cannot be written, or an argument of the system is no plain
            value.
    """
    with whole_folder(folder) as partial:
        _write(partial, module, tokenizer, max_length, max_words, origin)


def refuse_full(folder: str | os.PathLike[str], argument: str = "folder") -> None:
    """Raises where saving would find something in its folder.

    Args:
        folder: The folder.
        argument: What the message calls it.

    Raises:
        ConfigurationError: There is something in it.
    """
    path = Path(folder).expanduser()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigurationError(f"{argument}={str(folder)!r} is not empty. Way out: another folder, or remove this one first.")


@contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a folder to write into, which gets its name once the block has ended; after an error nothing is left of it.

    Args:
        folder: New, or empty.

    Raises:
        ConfigurationError: There is something in it, or it cannot be written.
    """
    refuse_full(folder)
    target = Path(folder).expanduser()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        partial.mkdir()
        try:
            yield partial
            sync_folder(partial)
            partial.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(
            f"folder={str(folder)!r} cannot be written: {error.strerror or error}. Way out: another folder."
        ) from error


def _write(
    folder: Path,
    module: ClassifierModule,
    tokenizer: Any,
    max_length: int,
    max_words: int | None,
    origin: Mapping[str, Any],
) -> None:
    arguments = {
        name: _without_folder(module, name, value) for name, value in module.hparams.items() if not name.startswith("_")
    }
    card: dict[str, Any] = {
        "format": FORMAT,
        "lf_lightning": lf_lightning.__version__,
        "versions": {name: version(name) for name in _VERSIONS},
        "class_path": f"{type(module).__module__}.{type(module).__qualname__}",
        "hyperparameters": arguments,
        "phase_begun": module.phase_begun,
        "labels": list(module.labels),
        "task": module.task,
        "scorers": list(getattr(module, "scorers", ())),
        "max_length": max_length,
        "max_words": max_words,
        "fitted_on": dict(origin.get("fitted_on", {})),
        "figures": dict(origin.get("figures", {})),
    }
    try:
        json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{type(module).__name__} has arguments that JSON cannot hold ({error}). Way out: plain values, finite numbers."
        ) from error
    # Clones, because two names of one tensor are refused; a state dict has tensors only, or fails here.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    tokenizer.backend_tokenizer.no_truncation()  # the last call's, which the next one sets again
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder / TOKENIZER)
    files = [folder / WEIGHTS, *sorted((folder / TOKENIZER).iterdir())]
    card["files"] = {file.relative_to(folder).as_posix(): file_facts(file) for file in files}
    # A lone surrogate in a label has no UTF-8; written as \udxxx it is still the same JSON.
    text = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    (folder / CARD).write_bytes(text + b"\n")
    for file in (*files, folder / CARD):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _without_folder(module: ClassifierModule, name: str, value: Any) -> Any:
    """An argument, and of an encoder's folder on this machine its name alone: whoever loads has the configuration instead."""
    if not any(isinstance(part, TextEncoder) for part in module.modules()):
        return value
    if isinstance(value, dict):
        return {key: _without_folder(module, str(key), part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_folder(module, name, part) for part in value]
    is_encoder = isinstance(value, str) and (name.endswith("encoder") or name == "_name_or_path")
    return Path(value).resolve().name if is_encoder and Path(value).is_dir() else value
