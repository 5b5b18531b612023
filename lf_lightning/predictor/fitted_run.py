"""What a fit left behind: its checkpoint, and what its config says of texts. Nothing in either may run."""

from __future__ import annotations

import importlib
import os
import pickle
from argparse import ArgumentError
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import yaml

from lf_lightning.callbacks.checkpoints import FOLDER
from lf_lightning.contract import Split, Task
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import ConfigurationError, DataError, LFError
from lf_lightning.imports import check_class_paths
from lf_lightning.results import ResultsManager
from lf_lightning.systems.base import ClassifierModule
from lf_lightning.systems.checkpoint_file import refuse_changed

CONFIG = "config.yaml"

_OF_A_DAMAGED_PICKLE = (LookupError, TypeError, AttributeError, AssertionError, MemoryError)


@dataclass(frozen=True)
class FittedRun:
    """A checkpoint and the config of its fit, found and read by `FittedRun.find`.

    Attributes:
        checkpoint: The file.
        hyperparameters: The system's arguments, as the checkpoint keeps them.
        config: The run's `config.yaml`.
        origin: `fitted_on` (rows and fingerprints by split) and `figures` (by split), as far as the checkpoint tells.
    """

    checkpoint: Path
    hyperparameters: Mapping[str, Any]
    config: Mapping[str, Any]
    origin: Mapping[str, Any]

    @classmethod
    def find(cls, run: str | os.PathLike[str], checkpoint: str = "best") -> FittedRun:
        """Returns what lies in a run folder, without loading weights.

        Args:
            run: A folder that `lf fit` wrote (`runs/<experiment>/<time>`, `runs/<experiment>/latest`), or a file in its
                `checkpoints`.
            checkpoint: `best` or `last`, where `run` is a folder.

        Raises:
            ConfigurationError: There is no such checkpoint, or no config of its fit.
            DataError: The checkpoint, or the config, cannot be read.
        """
        path = Path(run).expanduser()
        file = path / FOLDER / f"{checkpoint}.ckpt" if path.is_dir() else path
        if not file.is_file():
            raise ConfigurationError(
                f"run={str(run)!r}: there is no checkpoint {str(file)!r}. Way out: the folder of a finished lf fit, such as "
                "runs/ag_news/latest, a file in its checkpoints, or a folder that Predictor.save wrote."
            )
        kept = _plain_checkpoint(file)
        config = file.resolve().parent.parent / CONFIG
        if not config.is_file():
            raise ConfigurationError(
                f"run={str(run)!r}: {str(config)!r}, which says how texts were read and cut, does not exist. Way out: leave "
                "the checkpoint in its run folder; or load_from_checkpoint, and Predictor(module, tokenizer, max_length)."
            )
        return cls(file, _part(kept, file, "hyper_parameters"), _read_config(config), _origin(kept, file))

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of texts and labels of the splits that it was fitted on, as far as the checkpoint tells."""
        return dict(self.origin["fitted_on"].get("dataset_fingerprint", {}))

    @property
    def labels(self) -> list[str]:
        """The K label names, in the order of the probabilities."""
        return list(self._argument("labels"))

    @property
    def task(self) -> Task:
        """Multi-class or multi-label."""
        task: Task = self._argument("task")
        return task

    @property
    def scorers(self) -> list[str]:
        """Names of the M scorers that the system combines."""
        return list(self.hyperparameters.get("scorers", ()))

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer: the encoder's, unless the config has one of its own."""
        return str(self._data_arguments.get("tokenizer") or self._argument("encoder"))

    @property
    def max_length(self) -> int:
        """Tokens kept of each text.

        Raises:
            ConfigurationError: The config's data is of a class without this argument.
        """
        if "max_length" not in self._data_arguments:
            raise ConfigurationError(
                f"{CONFIG} of {str(self.checkpoint)!r} has no data.init_args.max_length: its data is of another class than "
                "ScoredTextDataModule. Way out: load_from_checkpoint, and Predictor(module, tokenizer, max_length)."
            )
        return int(self._data_arguments["max_length"])

    @property
    def max_words(self) -> int | None:
        """Words kept of each text, None for all."""
        words = self._data_arguments.get("max_words")
        return None if words is None else int(words)

    def sha256(self) -> str:
        """Returns the SHA-256 of the checkpoint file, 64 hex digits."""
        digest = sha256()
        with self.checkpoint.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def load(self) -> ClassifierModule:
        """Returns the system with its weights, calibrators and decision rule, on the CPU, in evaluation mode.

        Raises:
            ConfigurationError: Its class, or a class in its arguments, is not of an allowed package or not of the right kind.
            DataError: The file is not as it was written, or its weights do not fit the system.
        """
        path = self.hyperparameters.get("_class_path") or (self.config.get("model") or {}).get("class_path")
        system = allowed_class(path, ClassifierModule, self.checkpoint)
        refuse_changed(self.checkpoint)
        try:
            module: ClassifierModule = system.load_from_checkpoint(self.checkpoint, map_location="cpu")
        except LFError:
            raise
        except (ArgumentError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            told = " ".join(str(error).split())[:300]
            raise DataError(
                f"{str(self.checkpoint)!r} does not fit {system.__name__}: {told}. Way out: fit it again."
            ) from error
        return module.eval()

    def fitted_texts(self, splits: tuple[Split, ...] = ("train", "validation")) -> set[str]:
        """Returns the texts of the train and validation rows, white space evened out.

        On the first the weights were fitted, on the second epoch, calibrators and decisions. The data of the run's config is
        read again, and held against the fingerprints in the checkpoint.

        Args:
            splits: Of which of the two.

        Raises:
            ConfigurationError: It cannot be read from here, or is not what the system was fitted on.
        """
        try:
            data_class = allowed_class((self.config.get("data") or {}).get("class_path"), ScoredTextDataModule, self.checkpoint)
            data = data_class(**self._data_arguments)
            texts = {evened(text) for split in splits if data.number_of_rows(split) for text in data.texts(split)}
            found = data.dataset_fingerprint
        except (LFError, OSError, TypeError) as error:
            raise ConfigurationError(f"the rows that {str(self.checkpoint)!r} was fitted on cannot be read: {error}") from error
        for split in splits:
            if (split == "train" or split in found) and found.get(split) != self.fingerprints.get(split):
                raise ConfigurationError(
                    f"the rows that {str(self.checkpoint)!r} was fitted on are not known: the {split} rows of its config are "
                    "not, or no longer, those that the checkpoint names."
                )
        return texts

    def _argument(self, name: str) -> Any:
        if name not in self.hyperparameters:  # a system without save_hyperparameters()
            raise DataError(
                f"{str(self.checkpoint)!r} does not say its system's {name!r}. Way out: "
                "load_from_checkpoint, and Predictor(module, tokenizer, max_length)."
            )
        return self.hyperparameters[name]

    @property
    def _data_arguments(self) -> Mapping[str, Any]:
        arguments: Mapping[str, Any] = (self.config.get("data") or {}).get("init_args") or {}
        return arguments


def evened(text: str) -> str:
    """Returns a text with single spaces between words, as texts are compared that should not meet."""
    return " ".join(text.split())


def _plain_checkpoint(file: Path) -> dict[str, Any]:
    try:
        kept = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    # The last five: opcodes of a damaged pickle, which torch takes at their word.
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, *_OF_A_DAMAGED_PICKLE) as error:
        raise DataError(
            f"{str(file)!r} is no checkpoint of tensors and plain values, and nothing in it was run: "
            f"{' '.join(str(error).split())[:200]} Way out: a checkpoint that lf fit wrote."
        ) from error
    if not isinstance(kept, dict) or "state_dict" not in kept:
        raise DataError(f"{str(file)!r} is no checkpoint of a fit. Way out: one that lf fit wrote.")
    return kept


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{str(file)!r} cannot be read: {' '.join(str(error).split())[:200]}") from error
    _part(config, file, "data", "init_args"), _part(config, file, "model")
    found: Mapping[str, Any] = config
    return found


def _part(tree: Any, file: Path, *names: str) -> Mapping[str, Any]:
    """The mapping under these names, empty where there is none.

    Raises:
        DataError: There is something else.
    """
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise DataError(f"{str(file)!r} is damaged, or no file of a run: a mapping is {str(tree)[:60]!r}.")
    return _part(tree.get(names[0]), file, *names[1:]) if names else tree


def _origin(kept: Mapping[str, Any], file: Path) -> dict[str, Any]:
    figures = {"validation": dict(_part(kept, file, "callbacks", "LogMetrics", "validation"))}
    if file.name == "best.ckpt":  # of others no test is on record
        with suppress(LFError):
            figures["test"] = dict(ResultsManager(file.resolve().parent.parent).read().metrics.get("test", {}))
    return {
        "fitted_on": dict(_part(kept, file, "callbacks", "RecordResults", "fitted_on")),
        "figures": {split: found for split, found in figures.items() if found},
    }


def allowed_class(path: Any, base: type[Any], where: Path) -> Any:
    """Returns the class of an import path that a file names, imported only if its package is allowed.

    Args:
        path: The import path.
        base: Of which it has to be a subclass.
        where: The file, for error messages.

    Raises:
        ConfigurationError: It is not allowed, is not there, or is no such class.
    """
    if not isinstance(path, str) or "." not in path:
        raise ConfigurationError(f"{str(where)!r} and its {CONFIG} name no {base.__name__}, but {path!r}.")
    check_class_paths({"class_path": path})
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ConfigurationError(f"class_path {path!r} of {str(where)!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigurationError(f"class_path {path!r} of {str(where)!r} is no {base.__name__}.")
    return found
