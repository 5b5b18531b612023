"""Configs of runs, held against each other: what differs, and which are one config under several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from lf_lightning.results.record import CONFIG, RunRecord

_SHORT = 12
_LONGEST = 60
_NO_SUCH = "—"


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the `config.yaml` of a run folder as plain values, empty if there is none that can be read."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load((folder / CONFIG).read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 (a safe loader)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def plain(value: Any) -> Any:
    """Returns a value as JSON can hold it: what is no number, text, list or dict as text, and so are infinities and NaN.

    Example:
        >>> plain({"clip": float("inf"), "sizes": (1, 2)})
        {'clip': 'inf', 'sizes': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and isfinite(value)):
        return value
    return str(value)


def settings(record: RunRecord, folder: Path) -> dict[str, Any]:
    """Returns all that a run was told, by dotted key: its config, its scores, its train rows.

    `class_path` and `init_args` are left out of the keys: `model.head` is a class, `model.head.hidden` its argument.

    Args:
        record: Of the run; a record of schema 1 has no config, which is then read from the folder.
        folder: The run's.
    """
    told = flat(record.config or read_config(folder))
    if not told:
        told = {f"seed.{name}": value for name, value in record.seeds.items()}
    told |= {f"scores of {name}": (digest or "unknown")[:_SHORT] for name, digest in record.scores.items()}
    prints = record.dataset_fingerprint
    return told | {f"{split} rows": prints[split][:_SHORT] for split in ("train", "validation") if split in prints}


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts by dotted key; lists are leaves, and so is an empty dict.

    Example:
        >>> flat({"model": {"class_path": "a.B", "init_args": {"lr": 0.1, "sizes": [1, 2]}}})
        {'model': 'a.B', 'model.lr': 0.1, 'model.sizes': [1, 2]}
    """
    if not isinstance(config, Mapping) or not config:
        return {prefix: config} if prefix else {}
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        inner = prefix if key in ("class_path", "init_args") and prefix else f"{prefix}.{key}" if prefix else str(key)
        leaves |= flat(value, inner)
    return leaves


def is_seed(key: str) -> bool:
    """Whether a dotted key is a seed that repeats of one config differ in; not `split_seed`, which chooses test rows."""
    return key.rpartition(".")[2] in ("seed", "seed_everything") or key.startswith("seed.")


def without_seeds(told: Mapping[str, Any]) -> str:
    """Returns one text for settings that differ in seeds, and in the rows that these chose, only."""
    kept = {key: value for key, value in told.items() if not is_seed(key) and key not in ("train rows", "validation rows")}
    return json.dumps(kept, sort_keys=True, default=str)


def differing(told: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns, by key, the values that n runs have where they are not all the same; `—` where a run has no such key.

    Where a class differs, its arguments follow: one that all runs of the class have alike is left out.

    Example:
        >>> differing([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}])
        {'b': ['2', '3'], 'c': ['—', 'null']}
        >>> differing([{"head": "x.A", "head.dim": 1}, {"head": "x.B"}])
        {'head': ['x.A', 'x.B']}
    """
    keys = dict.fromkeys(key for one in told for key in one)
    table = {key: [shown(one[key]) if key in one else _NO_SUCH for one in told] for key in keys}
    found = {key: values for key, values in table.items() if len(set(values)) > 1}

    def follows(key: str, values: Sequence[str]) -> bool:
        parents = [key[:end] for end, sign in enumerate(key) if sign == "."]
        return len(set(values) - {_NO_SUCH}) == 1 and any(parent in found for parent in parents)

    return {key: values for key, values in found.items() if not follows(key, values)}


def shown(value: Any) -> str:
    """Returns a setting on one short line; of a class path the class.

    Example:
        >>> shown("lf_lightning.heads.GatedFusion"), shown(None), shown([64])
        ('GatedFusion', 'null', '[64]')
    """
    if isinstance(value, str):
        text = value.rpartition(".")[2] if value.startswith("lf_lightning.") and " " not in value else value
    else:
        text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
