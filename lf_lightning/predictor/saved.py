"""A saved predictor: one folder with all that it takes to answer for texts, and nothing in it that runs.

    model.safetensors   weights, calibrators, decision rule: every tensor of the system's state
    lf.json             what the system is (class, arguments, labels), how texts are cut, what it was fitted on, and the SHA-256
                        of the other files; written last
    tokenizer/          the tokenizer's own files

The encoder's configuration is among the arguments in `lf.json`, so no hub is asked. Other files beside these are not read.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

import lf_lightning
from lf_lightning.contract import Split, Task
from lf_lightning.errors import ConfigurationError, DataError, LFError
from lf_lightning.predictor.fitted_run import FittedRun, allowed_class
from lf_lightning.systems.base import ClassifierModule
from lf_lightning.systems.hyperparameters import check_factories

CARD, WEIGHTS, TOKENIZER = "lf.json", "model.safetensors", "tokenizer"
FORMAT = 1
MAX_CARD, MAX_HEADER = 16 << 20, 16 << 20
"""Bytes of `lf.json`, and of the header of the weights: far above any of ours, far below what would exhaust a machine."""

_FILE = re.compile(rf"{re.escape(WEIGHTS)}|{TOKENIZER}/\w[\w.-]*")
_OF_ENCODER = ("encoder_config", "encoder_configs")


@dataclass(frozen=True)
class SavedModel:
    """A folder that `saving.save` wrote, found and checked by `SavedModel.find`.

    Attributes:
        folder: Where it lies.
        card: What its `lf.json` says.
        fingerprint: SHA-256 of `lf.json`, hence of every file.
    """

    folder: Path
    card: Mapping[str, Any]
    fingerprint: str

    @classmethod
    def find(cls, folder: str | os.PathLike[str]) -> SavedModel:
        """Returns what lies in a folder, without reading weights.

        Args:
            folder: It has a `lf.json`.

        Raises:
            DataError: `lf.json` cannot be read, is of another format, or names files that it must not.
        """
        path = Path(folder)
        text = _card_bytes(path / CARD)
        try:
            card = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{str(path / CARD)!r} is no JSON: {str(error)[:200]}. Way out: save the model again.") from error
        if not isinstance(card, dict) or card.get("format") != FORMAT:
            found = card.get("format") if isinstance(card, dict) else None
            raise DataError(
                f"{str(path / CARD)!r} has format {found!r}; lf_lightning {lf_lightning.__version__} reads {FORMAT}. "
                "Way out: save the model again, or install the release that saved it."
            )
        for name, kind in _KINDS.items():
            if name not in card or not isinstance(card[name], kind):
                raise DataError(
                    f"{str(path / CARD)!r}: {name!r} is {str(card.get(name))[:80]!r}. Way out: save the model again."
                )
        wrong = [name for name in card["files"] if not _FILE.fullmatch(name)]
        if wrong or WEIGHTS not in card["files"]:
            raise DataError(
                f"{str(path / CARD)!r} names {wrong or 'no weights'}: only {WEIGHTS} and files of {TOKENIZER}/ are read. "
                "It was changed or made by others: do not load it."
            )
        return cls(path, card, sha256(text).hexdigest())

    @property
    def labels(self) -> list[str]:
        """The K label names, in the order of the probabilities."""
        return [str(label) for label in self.card["labels"]]

    @property
    def task(self) -> Task:
        """Multi-class or multi-label."""
        task: Task = self.card["task"]
        return task

    @property
    def scorers(self) -> list[str]:
        """Names of the M scorers that the system combines."""
        return [str(name) for name in self.card["scorers"]]

    @property
    def max_length(self) -> int:
        """Tokens kept of each text."""
        return int(self.card["max_length"])

    @property
    def max_words(self) -> int | None:
        """Words kept of each text, None for all."""
        words: int | None = self.card["max_words"]
        return words

    @property
    def origin(self) -> dict[str, Any]:
        """What it was fitted on, and the figures of its validation and test, as far as they were known."""
        return {"fitted_on": self.card["fitted_on"], "figures": self.card["figures"]}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            DataError: A file of it is missing, changed or not of it.
        """
        folder = self.folder / TOKENIZER
        self._check(f"{TOKENIZER}/")
        strangers = {f"{TOKENIZER}/{path.name}" for path in folder.iterdir()} - set(self.card["files"])
        if strangers:  # transformers would look into them
            raise DataError(
                f"{str(folder)!r} has files that were not saved with it: {sorted(strangers)}. Way out: remove them."
            )
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(folder, error) from error
        if not tokenizer.is_fast:
            raise DataError(f"{str(folder)!r} has no tokenizer.json. Way out: save the model again.")
        return tokenizer

    def sha256(self) -> str:
        """Returns the fingerprint."""
        return self.fingerprint

    def load(self) -> ClassifierModule:
        """Returns the system with its weights, calibrators and decision rule, on the CPU, in evaluation mode.

        Raises:
            ConfigurationError: A class that it names is not of an allowed package, or not of the right kind.
            DataError: The weights are damaged, changed, or not those of the system.
        """
        self._check(WEIGHTS)
        file = self.folder / WEIGHTS
        system = allowed_class(self.card["class_path"], ClassifierModule, self.folder / CARD)
        module = self._built(system)
        if (module.labels, module.task, list(getattr(module, "scorers", ()))) != (self.labels, self.task, self.scorers):
            raise DataError(f"{str(self.folder / CARD)!r}: labels, task or scorers are not those of the system's arguments.")
        _check_header(file)
        try:
            module.load_state_dict(load_file(file))
        except (SafetensorError, RuntimeError, ValueError, OSError) as error:
            raise _damaged(file, error) from error
        module.phase_begun = int(self.card["phase_begun"])
        return module.eval()

    def fitted_texts(self, splits: tuple[Split, ...] = ("train", "validation")) -> set[str]:
        """Never returns: a saved model has no rows with it.

        Args:
            splits: See `FittedRun.fitted_texts`.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(f"{str(self.folder)!r} does not have the rows that it was fitted on with it.")

    def _built(self, system: type[ClassifierModule]) -> ClassifierModule:
        """The system without its weights: from plain values of this folder only, so that no hub is asked."""
        arguments = {name: value for name, value in self.card["hyperparameters"].items() if not name.startswith("_")}
        check_factories(arguments, system)
        for name in inspect.signature(system).parameters:
            if name.endswith(_OF_ENCODER) and not arguments.get(name):
                raise DataError(f"{str(self.folder / CARD)!r} has no {name!r}, without which an encoder would be looked for.")
        from lightning.pytorch.cli import instantiate_module

        try:
            return instantiate_module(system, arguments)
        except LFError:
            raise
        except (ArgumentError, AttributeError, KeyError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            raise _damaged(self.folder / CARD, error) from error

    def _check(self, prefix: str) -> None:
        """Raises unless the files of this prefix are there as they were saved."""
        for name, facts in self.card["files"].items():
            if not name.startswith(prefix):
                continue
            file = self.folder / name
            if not file.is_file():
                raise DataError(f"{str(file)!r} is missing. Way out: copy the whole folder, or save the model again.")
            if not isinstance(facts, dict) or facts != file_facts(file):
                raise DataError(
                    f"{str(file)!r} is not the file that was saved: its size or SHA-256 differs from {CARD}. Nothing in it was "
                    "run. Way out: copy the whole folder again, or save the model again."
                )


_KINDS: dict[str, Any] = {
    "class_path": str,
    "hyperparameters": dict,
    "phase_begun": int,
    "labels": list,
    "task": str,
    "scorers": list,
    "max_length": int,
    "max_words": (int, type(None)),
    "fitted_on": dict,
    "figures": dict,
    "files": dict,
}


def find_fitted(run: str | os.PathLike[str], checkpoint: str = "best") -> FittedRun | SavedModel:
    """Returns what lies in a run's folder, in a checkpoint or in a saved folder, without loading weights.

    Args:
        run: See `FittedRun.find` and `SavedModel.find`.
        checkpoint: See `FittedRun.find`.
    """
    path = Path(run).expanduser()
    return SavedModel.find(path) if (path / CARD).is_file() else FittedRun.find(run, checkpoint)


def _check_header(file: Path) -> None:
    """Raises unless the header of the weights is of a bearable size."""
    with file.open("rb") as stream:
        announced = int.from_bytes(stream.read(8), "little")
    if announced > min(MAX_HEADER, file.stat().st_size - 8):
        raise DataError(f"{str(file)!r}: its header claims {announced:,} bytes, so it was not read. It is no saved model.")


def _card_bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_CARD:
            raise DataError(f"{str(file)!r} has {file.stat().st_size:,} bytes, so it was not read. It is no saved model's.")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror or error}.") from error


def file_facts(file: Path) -> dict[str, Any]:
    """Returns size and SHA-256 of a file, as `lf.json` has them."""
    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"bytes": file.stat().st_size, "sha256": digest.hexdigest()}


def _damaged(path: Path, error: Exception) -> DataError:
    told = " ".join(str(error).split())[:200]
    return DataError(f"{str(path)!r} cannot be read, and nothing in it was run: {told}. Way out: save the model again.")
