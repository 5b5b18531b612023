"""The chat completions interface, which OpenAI began and others speak: what is common to `openai`, `compatible`, `deepseek`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent
from lf_lightning.scoring.providers.connections import PerLoop, outcome_of
from lf_lightning.scoring.providers.exchange import Refused, exchange
from lf_lightning.scoring.providers.wire import (
    best_first,
    check_key_name,
    count,
    failure_of,
    parse_reply,
    plain_url,
    rate_headers,
    read_key,
    sendable,
)
from lf_lightning.scoring.requests import Finish, Reply, Request, Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

SchemaField = Literal["json_schema", "json_object", "structured_outputs"]
_CONNECT_SECONDS = 10.0
_BLOCKED = ("content_filter", "content_policy_violation", "invalid_prompt", "ResponsibleAIPolicyViolation")
_WAYS_OUT = {
    "logprobs": "a model with log-probabilities, or another mode of the scorer (verbalized, vote)",
    "response_format": "another model, or a mode of the scorer without a schema (logprob, vote)",
    "temperature": "temperature=None, which leaves it to the provider",
    "max_tokens": "OpenAICompatible(max_tokens_field=...)",
    "seed": "one sample per text",
    "reasoning_effort": "reasoning_effort=None, or a value that this model has",
}


class ChatCompletions(Provider):
    """A provider that speaks chat completions. Subclasses name the fields of the body that are their own.

    Args:
        model: The model's name.
        base_url: Address of the interface.
        api_key_env: Name of the environment variable that holds the key; None: no key is sent.
    """

    def __init__(self, model: str, base_url: str, api_key_env: str | None) -> None:
        if not model:
            raise ConfigurationError("model is empty. Way out: the model's name as the provider lists it.")
        self.model = model
        self.base_url = plain_url(base_url)
        self.api_key_env = None if api_key_env is None else check_key_name(api_key_env)
        self._clients: PerLoop[AsyncOpenAI] = PerLoop()

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The subclass's options that change an answer; what is left to the provider (None) is dropped from the identity."""

    @abstractmethod
    def own_fields(self, request: Request) -> dict[str, Any]:
        """Returns the fields of the body that differ between providers: the length limit, the schema, options."""

    @property
    def identity(self) -> dict[str, Any]:
        """Name, model, address and the options that are set. An option that is left to the provider is not in it."""
        options = {name: value for name, value in self.options.items() if value is not None}
        return {"provider": self.name, "model": self.model, "base_url": self.base_url, **options}

    def body(self, request: Request) -> dict[str, Any]:
        """Returns the JSON body of a request."""
        system = [{"role": "system", "content": sendable(request.system)}] if request.system else []
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": sendable(request.prompt)}],
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_logprobs:
            body["logprobs"] = True
            body["top_logprobs"] = request.top_logprobs
        if request.sample:
            body["seed"] = request.sample
        return {**body, **self.own_fields(request)}

    async def send(self, request: Request, timeout: float) -> Sent:
        """Sends one request once, see `Provider.send`. A prompt that a filter blocks gives a reply that reads as refused."""
        client = self.client()
        return await outcome_of(self._exchange(client, request), timeout, self.name)

    def client(self) -> AsyncOpenAI:
        """Returns the running loop's client.

        Raises:
            MissingDependencyError: The SDK is not installed.
            ProviderError: denied; there is no key.
        """
        try:
            import openai
        except ImportError as error:
            raise MissingDependencyError.of("openai", "openai") from error
        key = None if self.api_key_env is None else read_key(self.api_key_env, self.name)

        def make() -> AsyncOpenAI:
            # Everything is said here, because the SDK fills what is not from the environment: another key, another address.
            return openai.AsyncOpenAI(
                api_key=key or "none",
                base_url=self.base_url,
                max_retries=0,
                timeout=openai.Timeout(None, connect=_CONNECT_SECONDS),
            )

        return self._clients.get(make)

    async def close(self) -> None:
        """Closes the running loop's connections."""
        client = self._clients.pop()
        if client is not None:
            await client.close()

    def read(self, raw: Mapping[str, Any]) -> Reply:
        """Reads a raw reply, see `Provider.read`. Refusals, filters and cut replies are told by `Reply.finish`."""
        usage = read_usage(raw.get("usage"))
        if "blocked" in raw:
            return Reply("", "refused", usage=usage)
        choices = raw.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            raise ValueError("The reply has no choices.")
        message = choices[0].get("message")
        if not isinstance(message, Mapping):
            raise ValueError("The reply's first choice has no message.")  # noqa: TRY004  the contract of `Provider.read`
        refusal, reason = message.get("refusal"), choices[0].get("finish_reason")
        finish: Finish = "refused" if refusal or reason == "content_filter" else "length" if reason == "length" else "stop"
        text = refusal if isinstance(refusal, str) and refusal else _text_of(message)
        return Reply(text, finish, read_alternatives(choices[0].get("logprobs")), usage)

    def outcome_of_status(
        self, status: int, error: Any, headers: Mapping[str, str], request: Request | None
    ) -> Sent | Exception:
        """Returns what a status of failure means: a blocked prompt is a reply, all else an error.

        Args:
            status: 400 to 599.
            error: The `error` object of the body, if there is one.
            headers: Looked up by lower-case names.
            request: What was asked, if it is known.
        """
        fields = error if isinstance(error, Mapping) else {}
        code = str(fields.get("code") or "")
        kind = str(fields.get("type") or "")
        words = str(fields.get("message") or (error if isinstance(error, str) else ""))
        if status in (400, 403) and (code in _BLOCKED or "flagged" in words.lower() or _is_moderated(fields)):
            return Sent({"blocked": code if code in _BLOCKED else "moderation"})
        code = code if code and not code.isdecimal() else kind
        limits = rate_headers(headers)
        failure = failure_of(status, code, f"{kind} {words}", headers, self.name, limits)
        if status in (400, 403, 422) and request is not None and "too long" not in str(failure):
            refused = _refused_field(str(fields.get("param") or ""), words.lower(), request)
            if refused:
                return ConfigurationError(
                    f"{self.name}: model={self.model!r} refuses {refused} (HTTP {status}). Way out: {_WAYS_OUT[refused]}."
                )
        return failure

    async def _exchange(self, client: AsyncOpenAI, request: Request) -> Sent | Exception:
        import openai

        body = self.body(request)
        messages, model = body.pop("messages"), body.pop("model")
        # What the environment holds for OpenAI is no other server's business.
        left_out: Any = {} if self.name == "openai" else dict.fromkeys(("OpenAI-Organization", "OpenAI-Project"), openai.Omit())
        if self.api_key_env is None:
            left_out["Authorization"] = openai.Omit()
        create = client.chat.completions.with_streaming_response.create
        outcome = await exchange(
            lambda: create(messages=messages, model=model, extra_body=body, extra_headers=left_out), openai, self.name
        )
        if isinstance(outcome, ProviderError):
            return outcome
        if isinstance(outcome, Refused):
            return self.outcome_of_status(outcome.status, outcome.body, outcome.headers, request)
        try:
            return Sent(parse_reply(outcome.content, self.name), rate_headers(outcome.headers))
        except ProviderError as error:
            return error


def read_usage(usage: Any) -> Usage:
    """Returns the billed tokens; all 0 where the reply does not tell them. Reasoning is part of the output."""
    if not isinstance(usage, Mapping):
        return Usage()
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    return Usage(
        count(usage.get("prompt_tokens")),
        count(usage.get("completion_tokens")),
        count(details.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))),  # the second is DeepSeek's
        count(details.get("cache_write_tokens")),
    )


def read_alternatives(logprobs: Any) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Returns the candidates of each token, best first; the token that was drawn is among them even if it is not in the top."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list):
        return ()
    found = []
    for position in content:
        if not isinstance(position, Mapping):
            return ()
        top = position.get("top_logprobs")
        found.append(best_first([position, *(top if isinstance(top, list) else [])], "logprob"))
    return tuple(found)


def _text_of(message: Mapping[str, Any]) -> str:
    """The content; where there is none, what a forced tool was called with."""
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list):  # parts, as some servers give
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    if not content and isinstance(calls, list) and calls and isinstance(calls[0], Mapping):
        function = calls[0].get("function")
        content = function.get("arguments") if isinstance(function, Mapping) else ""
    return content if isinstance(content, str) else ""


def _is_moderated(fields: Mapping[str, Any]) -> bool:
    metadata = fields.get("metadata")  # OpenRouter's
    return isinstance(metadata, Mapping) and bool(metadata.get("flagged_input"))


def _refused_field(param: str, words: str, request: Request) -> str | None:
    """The field that the provider does not take, by its `param` or, where it has none, by its words."""
    if "context" in words:
        return None
    asked = {
        "logprobs": request.top_logprobs > 0,
        "response_format": request.schema is not None,
        "temperature": request.temperature is not None,
        "max_tokens": True,
        "seed": request.sample > 0,
        "reasoning_effort": True,
    }
    names = {
        "logprobs": ("logprob",),
        "response_format": ("response_format", "json_schema", "structured_outputs"),
        "temperature": ("temperature",),
        "max_tokens": ("max_tokens", "max_completion_tokens"),
        "seed": ("seed",),
        "reasoning_effort": ("reasoning_effort",),
    }
    where = param.lower() or words
    return next((field for field, sent in asked.items() if sent and any(name in where for name in names[field])), None)
