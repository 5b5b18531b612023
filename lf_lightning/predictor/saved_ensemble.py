"""A saved ensemble: one folder with its members in it, and nothing in it that runs.

ensemble.json          the rule and the calibrator (class, arguments), labels, names of the members, figures, and the
                       SHA-256 of the file below; written last
ensemble.safetensors   what they were fitted to, and the keys of the texts of that fit
members/0, 1, ...      folders that the members' own `save` wrote: predictors, or ensembles again
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

import lf_lightning
from lf_lightning.calibration import Calibrator
from lf_lightning.errors import ConfigurationError, DataError, LFError
from lf_lightning.heads import FusionHead
from lf_lightning.imports import check_class_paths
from lf_lightning.predictor.ensemble import Ensemble
from lf_lightning.predictor.fitted_run import allowed_class
from lf_lightning.predictor.predictor import DType, Predictor
from lf_lightning.predictor.saving import refuse_full, whole_folder
from lf_lightning.store.keys import KEY_BYTES
from lf_lightning.systems.hyperparameters import plain_factory

CARD, WEIGHTS, MEMBERS = "ensemble.json", "ensemble.safetensors", "members"
FORMAT = 1
MAX_CARD, MAX_WEIGHTS = 16 << 20, 1 << 30
"""Bytes: far above any of ours, far below what would exhaust a machine."""
MAX_MEMBERS = 1000


def load_system(
    path: str | os.PathLike[str],
    checkpoint: str = "best",
    batch_size: int = 64,
    dtype: DType = "float32",
    device: str = "auto",
) -> Predictor | Ensemble:
    """Returns whatever answers in a folder: a run, a checkpoint, a saved predictor or a saved ensemble.

    Args:
        path: Folder or file.
        checkpoint: `best` or `last`, where `path` is a run's folder.
        batch_size: Texts at once; changes speed and memory, not answers.
        dtype: See `Predictor`.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ConfigurationError: There is none, or it names a class that is not allowed.
        DataError: It is damaged, changed, or holds more than tensors and plain values; nothing in it was run.
    """
    folder = Path(path).expanduser()
    if (folder / CARD).is_file():
        return _load(folder, batch_size, dtype, device)
    return Predictor.of_run(path, checkpoint, batch_size, dtype, device)


def save(ensemble: Ensemble, folder: str | os.PathLike[str]) -> None:
    """See `Ensemble.save`."""
    refuse_full(folder)
    for name, member in zip(ensemble.names, ensemble.members, strict=True):
        if not isinstance(member, (Predictor, Ensemble)):
            raise ConfigurationError(f"{name} is a {type(member).__name__}; only a Predictor or an Ensemble can be saved.")
    card = {
        "format": FORMAT,
        "lf_lightning": lf_lightning.__version__,
        "rule": plain_factory("rule", ensemble.rule),
        "calibrator": plain_factory("calibrator", ensemble.calibrator_rule),
        "tune_decisions": ensemble.tune_decisions,
        "fitted": ensemble.is_fitted,
        "labels": ensemble.labels,
        "task": ensemble.task,
        "names": ensemble.names,
        "figures": ensemble.figures,
    }
    try:
        json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"rule, calibrator: an argument is no plain value ({error}).") from error
    with whole_folder(folder) as partial:
        for number, member in enumerate(ensemble.members):
            assert isinstance(member, (Predictor, Ensemble))
            member.save(partial / MEMBERS / str(number))
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in ensemble.modules().state_dict().items()}
        keys = np.frombuffer(b"".join(sorted(ensemble.fitted_keys)), dtype=np.uint8).reshape(-1, KEY_BYTES).copy()
        save_file({**state, "fitted_keys": torch.from_numpy(keys)}, partial / WEIGHTS)
        card["sha256"] = sha256((partial / WEIGHTS).read_bytes()).hexdigest()
        (partial / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _load(folder: Path, batch_size: int, dtype: DType, device: str) -> Ensemble:
    card = _card(folder / CARD)
    names = card["names"]
    members = []
    for number in range(len(names)):
        inside = folder / MEMBERS / str(number)
        if inside.is_symlink() or (folder / MEMBERS).is_symlink():
            raise DataError(f"{str(inside)!r} leads out of the ensemble. It was changed or made by others: do not load it.")
        members.append(load_system(inside, "best", batch_size, dtype, device))
    try:
        rule, calibrator = (_factory(card[part], base, folder / CARD) for part, base in _PARTS.items())
        ensemble = Ensemble(members, rule, calibrator, card["tune_decisions"], names)
        _check_order(ensemble, card, folder)
        if (folder / WEIGHTS).stat().st_size > MAX_WEIGHTS:
            raise DataError(f"{str(folder / WEIGHTS)!r} is larger than any ensemble's, so it was not read.")
        content = (folder / WEIGHTS).read_bytes()
        if sha256(content).hexdigest() != card["sha256"]:
            raise DataError(f"{str(folder / WEIGHTS)!r} is not the file that was saved. Way out: save the ensemble again.")
        state = load(content)
        keys = state.pop("fitted_keys").numpy()
        ensemble.modules().load_state_dict(state)
        ensemble.is_fitted, ensemble.figures = card["fitted"], card["figures"]
        ensemble.fitted_keys = {row.tobytes() for row in keys}
    except LFError:
        raise
    except (OSError, SafetensorError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error
    return ensemble


_PARTS: dict[str, type[Any]] = {"rule": FusionHead, "calibrator": Calibrator}
_KINDS: dict[str, type[Any]] = {
    "rule": dict,
    "calibrator": dict,
    "tune_decisions": bool,
    "fitted": bool,
    "labels": list,
    "task": str,
    "names": list,
    "figures": dict,
    "sha256": str,
}


def _card(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_CARD:
            raise DataError(f"{str(file)!r} is larger than any ensemble's, so it was not read.")
        card = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file.parent, error) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DataError(
            f"{str(file)!r} is not of format {FORMAT}, which lf_lightning {lf_lightning.__version__} reads. "
            "Way out: save the ensemble again, or install the release that saved it."
        )
    for name, kind in _KINDS.items():
        if not isinstance(card.get(name), kind):
            raise _damaged(file.parent, ValueError(f"{name} is {str(card.get(name))[:80]!r}"))
    if not all(isinstance(name, str) for name in card["names"]) or len(card["names"]) > MAX_MEMBERS:
        raise _damaged(file.parent, ValueError("names are no names of members"))
    return card


def _factory(plain: Mapping[str, Any], base: type[Any], file: Path) -> Callable[..., Any]:
    arguments = plain.get("init_args", {})
    check_class_paths(dict(plain))
    if not isinstance(arguments, dict):
        raise DataError(f"{str(file)!r}: the arguments of {plain.get('class_path')!r} are no mapping.")
    return partial(allowed_class(plain.get("class_path"), base, file), **arguments)


def _check_order(ensemble: Ensemble, card: Mapping[str, Any], folder: Path) -> None:
    if (ensemble.labels, ensemble.task) != (card["labels"], card["task"]):
        raise DataError(f"{str(folder)!r}: its members have other labels than {CARD} says. Way out: save the ensemble again.")


def _damaged(folder: Path, error: Exception) -> DataError:
    told = " ".join(str(error).split())[:200]
    return DataError(f"{str(folder)!r} cannot be read as an ensemble: {told}. Way out: save the ensemble again.")
