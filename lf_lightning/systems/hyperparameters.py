"""Factories as plain values: what a checkpoint keeps of `head=partial(FusionMLP, dropout=0.2)`, and may bring back."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any

from lf_lightning.errors import ConfigurationError
from lf_lightning.imports import check_class_paths

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def plain_factory(argument: str, factory: Callable[..., Any] | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns a class, or a partial of one, as `{"class_path": ..., "init_args": {...}}`; a mapping or None unchanged.

    Args:
        argument: The argument's name, for the error message.
        factory: What was given for it.

    Raises:
        ConfigurationError: It is a function or a lambda, which a checkpoint cannot name.

    >>> plain_factory("head", partial(dict, a=1))
    {'class_path': 'builtins.dict', 'init_args': {'a': 1}}
    """
    if factory is None or isinstance(factory, Mapping):
        return None if factory is None else dict(factory)
    made: Any = factory
    if isinstance(factory, partial):  # jsonargparse's partials call an instantiator whose last position is the class
        made = factory.args[-1] if factory.args else factory.func
    if not isinstance(made, type):
        raise ConfigurationError(
            f"{argument}={factory!r} cannot be named in a checkpoint. "
            "Way out: a class, or functools.partial of one with keyword arguments."
        )
    options = dict(factory.keywords) if isinstance(factory, partial) else {}
    return {"class_path": f"{made.__module__}.{made.__qualname__}", "init_args": options}


def keep_factories(hparams: MutableMapping[str, Any], factories: Mapping[str, Callable[..., Any] | None]) -> None:
    """Puts a module's factories into its hyper-parameters as plain values, and names who makes them of these again.

    Args:
        hparams: The module's; what they have already, a parser's partials or a checkpoint's plain values, goes first.
        factories: By argument, as the module was given them.

    Raises:
        ConfigurationError: See `plain_factory`.
    """
    for name, factory in factories.items():
        hparams[name] = plain_factory(name, hparams.get(name, factory))
    hparams.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")


def check_factories(hyperparameters: Mapping[str, Any], system: type) -> None:
    """Raises unless what a checkpoint would have imported is of an allowed package, and stands where a factory is expected.

    Only arguments annotated as callables may name classes; in them every text that could be an import path is held against
    `lf_lightning.imports`, because a parser takes the text `a.b` for `{class_path: a.b}`.

    Args:
        hyperparameters: As a checkpoint keeps them.
        system: The class whose signature says which arguments are factories.

    Raises:
        ConfigurationError: Something else is named; nothing was imported.
    """
    check_class_paths(hyperparameters)
    parameters = inspect.signature(system).parameters
    for name, value in hyperparameters.items():
        factory = name in parameters and "Callable" in str(parameters[name].annotation)
        misplaced = factory and not (value is None or isinstance(value, Mapping))
        for key, text in _texts(value):
            misplaced = misplaced or (key == "class_path" and not factory)
            if factory and _IMPORT_PATH.fullmatch(text):
                check_class_paths({"class_path": text})
        if misplaced:
            raise ConfigurationError(
                f"The checkpoint's hyper-parameter {name!r} is {value!r}, which this package does not write. "
                "It was changed or made by others, and nothing that it names was imported: do not load it."
            )


def _texts(tree: Any, key: Any = None) -> Iterator[tuple[Any, str]]:
    """Yields each text of nested dicts and lists with the key that it stands under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _texts(value, name)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _texts(value, key)
