"""Which modules a YAML or a checkpoint may cause to be imported.

A `class_path` runs the code of its module before its type is checked, so every path is held against a short list first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lf_lightning.errors import ConfigurationError

_ALWAYS = ("lf_lightning", "lightning", "torch", "torchmetrics", "transformers")
_allowed: list[str] = list(_ALWAYS)


def allow(packages: Iterable[str]) -> None:
    """Adds top-level packages of the user to those that a YAML or a checkpoint may import.

    Args:
        packages: Importable package names, for example `["my_heads"]`.
    """
    for package in packages:
        if package not in _allowed:
            _allowed.append(package)


def allowed() -> tuple[str, ...]:
    """Returns the packages that may be imported, ours first."""
    return tuple(_allowed)


def check_class_paths(tree: Any) -> None:
    """Raises unless every `class_path` inside a nested configuration is of an allowed package.

    Args:
        tree: Nested dicts and lists, such as the hyper-parameters of a checkpoint.

    Raises:
        ConfigurationError: A `class_path` lies outside the allowed packages; nothing was imported.
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key in ("class_path", "_class_path") and isinstance(value, str):
                _check(value)
            check_class_paths(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            check_class_paths(value)


def _check(path: str) -> None:
    if "." in path and path.split(".", 1)[0] not in _allowed:
        raise ConfigurationError(
            f"class_path {path!r} is not of an allowed package ({', '.join(_allowed)}), so it was not imported. "
            f"Way out, if you trust it: lf --allow-imports {path.split('.', 1)[0]} ..., "
            f"or lf_lightning.imports.allow([{path.split('.', 1)[0]!r}]) in Python."
        )
