"""Anthropic's models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent
from lf_lightning.scoring.providers.batches import BATCH_SECONDS, BatchInterface, BatchState, of_one
from lf_lightning.scoring.providers.connections import PerLoop, outcome_of
from lf_lightning.scoring.providers.exchange import Refused, call, exchange
from lf_lightning.scoring.providers.wire import (
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
    from anthropic import AsyncAnthropic

_CONNECT_SECONDS = 10.0
_FINISHES: dict[str, Finish] = {"refusal": "refused", "max_tokens": "length", "model_context_window_exceeded": "length"}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_HEADERS = "anthropic-ratelimit-"


class Anthropic(Provider, BatchInterface):
    """Anthropic, through the Messages interface: no log-probabilities, no seed; a schema is held by its structured outputs.

    Newer models take no temperature: such a model refuses a request that has one, and the error names the way out.

    Args:
        model: The model's name, best with its date, such as claude-haiku-4-5-20251001.
        thinking: disabled, or adaptive (the model decides); None leaves it to the provider.
        effort: How much the model puts into its answer; None leaves it to the provider.
        api_key_env: Name of the environment variable that holds the key.
        base_url: Another address of the same interface, such as a proxy; None: Anthropic's own.
    """

    name: ClassVar[str] = "anthropic"
    batch_requests: ClassVar[int] = 100_000
    batch_bytes: ClassVar[int] = 250_000_000
    can_find: ClassVar[bool] = False

    def __init__(
        self,
        model: str,
        thinking: Literal["disabled", "adaptive"] | None = None,
        effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None,
        api_key_env: str = "ANTHROPIC_API_KEY",
        base_url: str | None = None,
    ) -> None:
        if not model:
            raise ConfigurationError("model is empty. Way out: the model's name as the provider lists it.")
        self.model, self.thinking, self.effort = model, thinking, effort
        self.base_url = plain_url(base_url or "https://api.anthropic.com")
        self.api_key_env = check_key_name(api_key_env)
        self._clients: PerLoop[AsyncAnthropic] = PerLoop()

    @property
    def identity(self) -> dict[str, Any]:
        """Name, model, address and the options that are set. An option that is left to the provider is not in it."""
        options = {"thinking": self.thinking, "effort": self.effort}
        set_ = {name: value for name, value in options.items() if value is not None}
        return {"provider": self.name, "model": self.model, "base_url": self.base_url, **set_}

    def body(self, request: Request) -> dict[str, Any]:
        """Returns the JSON body of a request.

        Raises:
            ConfigurationError: Log-probabilities are asked for, which Anthropic does not give.
        """
        if request.top_logprobs:
            raise ConfigurationError(
                f"anthropic: model={self.model!r} gives no log-probabilities. "
                "Way out: another mode of the scorer (verbalized, vote)."
            )
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_output_tokens,
            "messages": [{"role": "user", "content": sendable(request.prompt)}],
        }
        if request.system:
            body["system"] = sendable(request.system)
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if self.thinking is not None:
            body["thinking"] = {"type": self.thinking}
        output: dict[str, Any] = {} if self.effort is None else {"effort": self.effort}
        if request.schema is not None:
            output["format"] = {"type": "json_schema", "schema": dict(request.schema)}
        return {**body, "output_config": output} if output else body

    async def send(self, request: Request, timeout: float) -> Sent:
        """Sends one request once, see `Provider.send`."""
        body = self.body(request)
        client = self.client()
        return await outcome_of(self._exchange(client, body, request), timeout, self.name)

    def client(self) -> AsyncAnthropic:
        """Returns the running loop's client.

        Raises:
            MissingDependencyError: The SDK is not installed.
            ProviderError: denied; there is no key.
        """
        try:
            import anthropic
        except ImportError as error:
            raise MissingDependencyError.of("anthropic", "anthropic") from error
        key = read_key(self.api_key_env, self.name)

        def make() -> AsyncAnthropic:
            # Everything is said here, because the SDK fills what is not from the environment: another key, another address.
            return anthropic.AsyncAnthropic(
                api_key=key,
                base_url=self.base_url,
                max_retries=0,
                timeout=anthropic.Timeout(None, connect=_CONNECT_SECONDS),
            )

        return self._clients.get(make)

    async def close(self) -> None:
        """Closes the running loop's connections."""
        client = self._clients.pop()
        if client is not None:
            await client.close()

    def read(self, raw: Mapping[str, Any]) -> Reply:
        """Reads a raw reply, see `Provider.read`."""
        content = raw.get("content")
        if not isinstance(content, list):
            raise ValueError("The reply has no content.")  # noqa: TRY004  the contract of `Provider.read`
        blocks = [block for block in content if isinstance(block, Mapping) and block.get("type") == "text"]
        text = "".join(str(block.get("text") or "") for block in blocks)
        return Reply(text, _FINISHES.get(str(raw.get("stop_reason")), "stop"), usage=_usage(raw.get("usage")))

    def outcome_of_status(self, status: int, body: Any, headers: Mapping[str, str], request: Request | None) -> Exception:
        """Returns what a status of failure means.

        Args:
            status: 400 to 599.
            body: The body, with an `error` object, if it could be read.
            headers: Looked up by lower-case names.
            request: What was asked, if it is known.
        """
        error = body.get("error") if isinstance(body, Mapping) else None
        fields = error if isinstance(error, Mapping) else {}
        code, words = str(fields.get("type") or ""), str(fields.get("message") or "")
        failure = failure_of(status, code, words, headers, self.name, rate_headers(headers, _HEADERS, flipped=True))
        if status == 400 and request is not None and isinstance(failure, ProviderError) and failure.kind == "rejected":
            low = words.lower()
            ways_out = [
                ("temperature", request.temperature is not None, "temperature=None, which leaves it to the provider"),
                ("output_config", request.schema is not None, "a simpler schema, another model, or mode vote"),
                ("output format", request.schema is not None, "a simpler schema, another model, or mode vote"),
                ("thinking", self.thinking is not None, "thinking=None"),
                ("effort", self.effort is not None, "effort=None"),
            ]
            for what, asked, way_out in ways_out:
                if asked and what in low:
                    return ConfigurationError(
                        f"anthropic: model={self.model!r} refuses {what} (HTTP {status}). Way out: {way_out}."
                    )
        return failure

    def batch_entry(self, key: str, request: Request) -> dict[str, Any]:
        """Returns a request as it stands in a batch."""
        return {"custom_id": key, "params": self.body(request)}

    async def submit(self, requests: Mapping[str, Request], label: str) -> str:
        """Submits a message batch, see `BatchInterface.submit`; it keeps no label."""
        entries: Any = [self.batch_entry(key, request) for key, request in requests.items()]
        client = self.client()
        batch = await self._call(lambda: client.messages.batches.create(requests=entries))
        return str(batch.id)

    async def poll(self, batch: str) -> BatchState:
        """Returns how far a batch is, see `BatchInterface.poll`; expired requests are told one by one."""
        client = self.client()
        found = await self._call(lambda: client.messages.batches.retrieve(batch))
        return "done" if found.processing_status == "ended" else "running"

    async def collect(self, batch: str) -> list[tuple[str, Sent | ProviderError]]:
        """Returns what became of each request, see `BatchInterface.collect`."""
        client = self.client()

        async def whole() -> list[dict[str, Any]]:
            return [entry.to_dict(mode="json") async for entry in await client.messages.batches.results(batch)]

        return [(str(entry["custom_id"]), self._one(entry["result"])) for entry in await self._call(whole)]

    async def find(self, label: str) -> str | None:
        """Returns None: message batches carry nothing that we chose until they have ended."""
        return None

    def _one(self, result: Mapping[str, Any]) -> Sent | ProviderError:
        if result.get("type") == "succeeded":
            return Sent(result["message"])
        if result.get("type") == "errored":
            body = result.get("error") or {}
            status = _STATUS.get(str((body.get("error") or {}).get("type")), 500)
            return of_one(self.outcome_of_status(status, body, {}, None))
        return ProviderError("unavailable", f"{self.name}: the batch ended before it came to this request.")

    async def _call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        import anthropic

        def explain(status: int, body: Any, headers: Mapping[str, str]) -> Exception:
            return self.outcome_of_status(status, body, headers, None)

        return await call(work, anthropic, self.name, explain, BATCH_SECONDS)

    async def _exchange(self, client: AsyncAnthropic, body: dict[str, Any], request: Request) -> Sent | Exception:
        import anthropic

        required = {name: body.pop(name) for name in ("model", "max_tokens", "messages")}
        create = client.messages.with_streaming_response.create
        outcome = await exchange(lambda: create(**required, extra_body=body), anthropic, self.name)
        if isinstance(outcome, ProviderError):
            return outcome
        if isinstance(outcome, Refused):
            return self.outcome_of_status(outcome.status, outcome.body, outcome.headers, request)
        try:
            limits = rate_headers(outcome.headers, _HEADERS, flipped=True)
            return Sent(parse_reply(outcome.content, self.name), limits)
        except ProviderError as error:
            return error


def _usage(usage: Any) -> Usage:
    """Anthropic counts what it read from and wrote to its cache beside the input."""
    if not isinstance(usage, Mapping):
        return Usage()
    cached = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    return Usage(count(usage.get("input_tokens")) + cached + written, count(usage.get("output_tokens")), cached, written)
