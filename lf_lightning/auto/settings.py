"""The config dict of the LabelFusion paper and plain keyword arguments, as one set of arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers.wire import check_key_name

_SAID_ELSEWHERE = {
    "fusion_hidden_dims": "the head chooses its own width",
    "fusion_ml_lr": "encoder and head are not trained together; ml_learning_rate is the encoder's",
    "max_completion_tokens": "the way of asking knows how long a reply may be",
    "top_p": "give an LLMScorer as llm_provider for all that an LLM can be told",
    "top_k": "give an LLMScorer as llm_provider for all that an LLM can be told",
    "frequency_penalty": "give an LLMScorer as llm_provider for all that an LLM can be told",
    "presence_penalty": "give an LLMScorer as llm_provider for all that an LLM can be told",
    "api_key": "a key belongs into the environment; api_key_env is the name of its variable",
}
"""Keys of other implementations of the paper that have no counterpart, and why."""


def check_keys(config: Any, known: Iterable[str]) -> None:
    """Raises unless each key of `config` is an argument; values are not repeated, as one might be a key.

    Args:
        config: The paper's dict; anything else than a mapping is left to `merged`.
        known: Names of the arguments.

    Raises:
        ConfigurationError: A key is not; the message names the nearest.
    """
    names = list(known)
    if not isinstance(config, Mapping):
        return
    check_no_key(config.get("api_key_env"))
    for key in config:
        if key in names:
            continue
        near = get_close_matches(str(key), names, n=1)
        nearest = f" The nearest is {near[0]!r}." if near else ""
        why = _SAID_ELSEWHERE.get(str(key), "")
        raise ConfigurationError(
            f"config has the key {key!r}, which is no argument.{nearest}{f' {why[:1].upper()}{why[1:]}.' if why else ''} "
            f"Known: {', '.join(names)}."
        )


def check_no_key(api_key_env: Any) -> None:
    """Raises where a key itself stands for the name of its variable: it would be in every repr.

    Raises:
        ConfigurationError: It does; it is not repeated.
    """
    for name in api_key_env if isinstance(api_key_env, (list, tuple)) else [api_key_env]:
        if isinstance(name, str) and len(name) >= 16:
            check_key_name(name)


def merged(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments with those of `config` in the place of defaults: a keyword that was set goes before it.

    Args:
        given: All keyword arguments, `config` among them.
        defaults: Those that hold where nothing is said.

    Raises:
        ConfigurationError: `config` is no mapping, or one of its keys is no argument.
    """
    config = given["config"]
    if config is None:
        return dict(given)
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"config is a {type(config).__name__}. Way out: a dict such as {{'llm_provider': 'deepseek'}}, or keywords."
        )
    check_keys(config, [name for name in defaults if name != "config"])
    said = {name: value for name, value in config.items() if given[name] is defaults[name] or given[name] == defaults[name]}
    return {**given, **said, "config": None}
