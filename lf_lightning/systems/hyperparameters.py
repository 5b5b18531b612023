"""Factories as plain values: what a checkpoint keeps of `head=partial(FusionMLP, dropout=0.2)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lf_lightning.errors import ConfigurationError


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
