"""The LLMs that take part: from the words that a user says to scorers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.base import Scorer
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.providers.base import Provider

PROVIDERS = ("openai", "gemini", "anthropic", "deepseek")
_DEFAULT_MODELS = {
    "openai": "gpt-4.1-mini-2025-04-14",
    "gemini": "gemini-2.5-flash",
    "anthropic": "claude-haiku-4-5-20251001",
    "deepseek": "deepseek-v4-flash",
}
_LOCAL = "local"
_TAKEN = ("encoder", "average", "stack", "fusion")
TEMPLATE = "{{ text }}\nCategory: {{ label }}"
MULTILABEL_TEMPLATE = "{{ text }}\nQuestion: Is {{ label }} a label of this text? Answer yes or no.\nAnswer:"


def scorers_of(
    llm_provider: Any,
    llm_model: Any,
    api_key_env: Any,
    labels: list[str],
    task: Task,
    mode: Any,
    temperature: float | None,
    description: str,
    label_descriptions: Mapping[str, str] | None,
    responses: str | os.PathLike[str],
    device: str,
) -> list[Scorer]:
    """Returns the scorers, none loaded or asked yet.

    Args:
        llm_provider: None; `openai`, `gemini`, `anthropic`, `deepseek`; an http address of OpenAI's interface; `local`; a
            `Provider`; a `Scorer`; or a list of these.
        llm_model: The model of each; None: the provider's small one.
        api_key_env: Environment variable with the key of each; None: the provider's usual one.
        labels: The K label names in order.
        task: Multi-class or multi-label.
        mode: How LLMs behind an interface are asked, see `LLMScorer`.
        temperature: None: as the mode wants it.
        description: What the texts are.
        label_descriptions: What is meant by a label.
        responses: Folder of the response cache.
        device: For local models.

    Raises:
        ConfigurationError: An unknown name, a model that is lacking, or a scorer of other labels.
    """
    given = list(llm_provider) if isinstance(llm_provider, (list, tuple)) else [] if llm_provider is None else [llm_provider]
    models, variables = _one_each(llm_model, len(given), "llm_model"), _one_each(api_key_env, len(given), "api_key_env")
    made: list[Scorer] = []
    for who, model, variable in zip(given, models, variables, strict=True):
        if isinstance(who, Scorer):
            made.append(_fitting(who, labels, task))
            continue
        if who == _LOCAL:
            made.append(_local(model, labels, task, made, device))
            continue
        from lf_lightning.scoring.llm import LLMScorer

        provider = who if isinstance(who, Provider) else _provider(who, model, variable)
        made.append(
            LLMScorer(
                _name(provider.model, made),
                provider,
                labels,
                task,
                mode=mode,
                description=description,
                label_descriptions=None if label_descriptions is None else {str(k): v for k, v in label_descriptions.items()},
                temperature="mode" if temperature is None else temperature,
                gateway=Gateway(os.fspath(responses)),
            )
        )
    names = [_name_of(scorer) for scorer in made]
    if len(set(names)) < len(names) or set(names) & set(_TAKEN):
        raise ConfigurationError(f"llm_provider: the scorers {names} need names of their own, none of {', '.join(_TAKEN)}.")
    return made


def _one_each(given: Any, count: int, argument: str) -> list[Any]:
    if not isinstance(given, (list, tuple)):
        return [given] * count
    if len(given) != count:
        raise ConfigurationError(
            f"{argument}={list(given)!r}: {len(given)} for {count} of llm_provider. Way out: one for each."
        )
    return list(given)


def _provider(who: Any, model: Any, api_key_env: Any) -> Provider:
    from lf_lightning.scoring.providers import Anthropic, DeepSeek, Gemini, OpenAI, OpenAICompatible

    if isinstance(who, str) and who.lower().startswith(("http://", "https://")):
        if not model:
            raise ConfigurationError("llm_provider is an address. Way out: llm_model, the model's name as the server lists it.")
        return OpenAICompatible(model, who, api_key_env=api_key_env)
    classes: dict[str, Any] = {"openai": OpenAI, "gemini": Gemini, "anthropic": Anthropic, "deepseek": DeepSeek}
    name = who.lower() if isinstance(who, str) else ""
    if name not in classes:
        near = get_close_matches(name, [*PROVIDERS, _LOCAL], n=1)
        nearest = f" The nearest is {near[0]!r}." if near else ""
        raise ConfigurationError(
            f"llm_provider={who!r} is not known.{nearest} Known: {', '.join(PROVIDERS)}; "
            "'local' (a model on this machine, named by llm_model); an address such as http://localhost:8000/v1; None."
        )
    variable = {} if api_key_env is None else {"api_key_env": api_key_env}
    provider: Provider = classes[name](model or _DEFAULT_MODELS[name], **variable)
    return provider


def _local(model: Any, labels: list[str], task: Task, others: Sequence[Scorer], device: str) -> Scorer:
    from lf_lightning.scoring.causal_lm import CausalLMScorer

    if not model:
        raise ConfigurationError(
            "llm_provider='local' needs llm_model. Way out: a hub name such as Qwen/Qwen2.5-0.5B-Instruct, a folder, a .gguf "
            "file, or package:NAME/PATH."
        )
    name = str(model).rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    template = TEMPLATE if task == "multiclass" else MULTILABEL_TEMPLATE
    return CausalLMScorer(_name(name, others), str(model), labels, template, task, device=device)


def _fitting(scorer: Scorer, labels: list[str], task: Task) -> Scorer:
    own, kind = list(getattr(scorer, "labels", ()) or scorer.card.labels), getattr(scorer, "task", None) or scorer.card.task
    if sorted(own) != sorted(labels) or kind != task:
        raise ConfigurationError(
            f"llm_provider: scorer {_name_of(scorer)!r} is for {kind} labels {own}, the data has {task} labels {labels}. "
            "Way out: the same labels, as text."
        )
    return scorer


def _name_of(scorer: Scorer) -> str:
    """The name, without the card, for which an LLM would have to be asked what it can give."""
    return str(getattr(scorer, "name", "") or scorer.card.name)


def _name(wanted: str, others: Sequence[Scorer]) -> str:
    taken = {_name_of(scorer) for scorer in others} | set(_TAKEN)
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name
