"""Google's Gemini models, through google-genai."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent
from lf_lightning.scoring.providers.batches import BATCH_SECONDS, BatchInterface, BatchState, batch_line, of_one, read_lines
from lf_lightning.scoring.providers.connections import PerLoop, outcome_of
from lf_lightning.scoring.providers.exchange import lost_connection
from lf_lightning.scoring.providers.gemini_replies import read_generated
from lf_lightning.scoring.providers.wire import (
    check_key_name,
    failure_of,
    parse_reply,
    plain_url,
    read_key,
    seconds_of,
    sendable,
)
from lf_lightning.scoring.requests import Reply, Request

if TYPE_CHECKING:
    from google.genai import Client

_STATES: dict[str, BatchState] = {
    "JOB_STATE_SUCCEEDED": "done",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "done",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_CANCELLED": "expired",
    "JOB_STATE_EXPIRED": "expired",
}
# The SDK speaks aiohttp where that is installed and httpx elsewhere; their errors are told apart by name.
_NEVER_SENT = (
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ClientConnectorSSLError",
    "ClientConnectorCertificateError",
    "ConnectionTimeoutError",
    "ConnectError",
    "ConnectTimeout",
)
_LOST = ("ServerDisconnectedError", "ClientOSError", "ReadError", "WriteError", "RemoteProtocolError")


class Gemini(Provider, BatchInterface):
    """Google's Gemini, through the Gemini Developer interface.

    Most of its models give no log-probabilities there: such a model fails with a ConfigurationError when they are asked for.

    Args:
        model: The model's name, such as gemini-2.5-flash.
        thinking_budget: Most tokens that the model thinks, billed as output; 0: none, where the model allows that.
        thinking_level: How long newer models think; not together with thinking_budget.
        api_key_env: Name of the environment variable that holds the key.
        base_url: Another address of the same interface, such as a proxy; None: Google's own.

    Raises:
        ConfigurationError: Both thinking_budget and thinking_level.
    """

    name: ClassVar[str] = "google"
    batch_requests: ClassVar[int] = 100_000
    batch_bytes: ClassVar[int] = 1_000_000_000
    can_find: ClassVar[bool] = True

    def __init__(
        self,
        model: str,
        thinking_budget: int | None = None,
        thinking_level: Literal["minimal", "low", "medium", "high"] | None = None,
        api_key_env: str = "GEMINI_API_KEY",
        base_url: str | None = None,
    ) -> None:
        if not model:
            raise ConfigurationError("model is empty. Way out: the model's name as the provider lists it.")
        if thinking_budget is not None and thinking_level is not None:
            raise ConfigurationError(
                f"thinking_budget={thinking_budget}, thinking_level={thinking_level!r}: give one of the two."
            )
        self.model = model.removeprefix("models/")
        self.thinking_budget, self.thinking_level = thinking_budget, thinking_level
        self.base_url = plain_url(base_url or "https://generativelanguage.googleapis.com")
        self.api_key_env = check_key_name(api_key_env)
        self._clients: PerLoop[Client] = PerLoop()

    @property
    def identity(self) -> dict[str, Any]:
        """Name, model, address and the options that are set. An option that is left to the provider is not in it."""
        options = {"thinking_budget": self.thinking_budget, "thinking_level": self.thinking_level}
        set_ = {name: value for name, value in options.items() if value is not None}
        return {"provider": self.name, "model": self.model, "base_url": self.base_url, **set_}

    def body(self, request: Request) -> dict[str, Any]:
        """Returns the JSON body of a request."""
        settings: dict[str, Any] = {"maxOutputTokens": request.max_output_tokens}
        if request.temperature is not None:
            settings["temperature"] = request.temperature
        if request.top_logprobs:
            settings |= {"responseLogprobs": True, "logprobs": request.top_logprobs}
        if request.sample:
            settings["seed"] = request.sample
        if request.schema is not None:
            settings |= {"responseMimeType": "application/json", "responseJsonSchema": dict(request.schema)}
        if self.thinking_budget is not None:
            settings["thinkingConfig"] = {"thinkingBudget": self.thinking_budget}
        if self.thinking_level is not None:
            settings["thinkingConfig"] = {"thinkingLevel": self.thinking_level.upper()}
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": sendable(request.prompt)}]}]}
        if request.system:
            body["systemInstruction"] = {"parts": [{"text": sendable(request.system)}]}
        return {**body, "generationConfig": settings}

    async def send(self, request: Request, timeout: float) -> Sent:
        """Sends one request once, see `Provider.send`."""
        client = self.client()
        return await outcome_of(self._exchange(client, request), timeout, self.name)

    def client(self) -> Client:
        """Returns the running loop's client.

        Raises:
            MissingDependencyError: The SDK is not installed.
            ProviderError: denied; there is no key.
        """
        try:
            from google import genai
        except ImportError as error:
            raise MissingDependencyError.of("google-genai", "gemini") from error
        key = read_key(self.api_key_env, self.name)

        def make() -> Client:
            # Everything is said here, because the SDK fills what is not from the environment. One attempt has to be said as
            # well: without it, the SDK sends a request whose connection broke a second time, and both are billed.
            once = genai.types.HttpRetryOptions(attempts=1)
            options = genai.types.HttpOptions(base_url=self.base_url, api_version="v1beta", retry_options=once)
            return genai.Client(vertexai=False, api_key=key, http_options=options)

        return self._clients.get(make)

    async def close(self) -> None:
        """Closes the running loop's connections."""
        client = self._clients.pop()
        if client is not None:
            await client.aio.aclose()
            client.close()

    def read(self, raw: Mapping[str, Any]) -> Reply:
        """Reads a raw reply, see `Provider.read`. A prompt or a reply that a filter blocks is refused."""
        return read_generated(raw)

    def outcome_of_status(self, status: int, body: Any, headers: Mapping[str, str], request: Request | None) -> Exception:
        """Returns what a status of failure means.

        Args:
            status: 400 to 599.
            body: The body, with an `error` object, if it could be read.
            headers: Looked up by lower-case names.
            request: What was asked, if it is known.
        """
        body = body[0] if isinstance(body, list) and body else body
        error = body.get("error", body) if isinstance(body, Mapping) else None
        fields = error if isinstance(error, Mapping) else {}
        code, words = str(fields.get("status") or ""), str(fields.get("message") or "")
        told = fields.get("details")
        details = [each for each in (told if isinstance(told, list) else []) if isinstance(each, Mapping)]
        if any(each.get("reason") == "API_KEY_INVALID" for each in details):
            status = 401
        low = words.lower()
        if status == 400 and request is not None and request.top_logprobs and "logprob" in low:
            return ConfigurationError(
                f"google: model={self.model!r} gives no log-probabilities (HTTP {status}). "
                "Way out: another mode of the scorer (verbalized, vote)."
            )
        if status == 400 and request is not None and request.schema is not None and "schema" in low:
            return ConfigurationError(
                f"google: model={self.model!r} refuses the schema (HTTP {status}). Way out: a simpler one, or mode vote."
            )
        if status == 400 and "thinking" in low:
            return ConfigurationError(
                f"google: model={self.model!r} refuses thinking_budget={self.thinking_budget}, "
                f"thinking_level={self.thinking_level!r} (HTTP {status}). Way out: leave both out."
            )
        failure = failure_of(status, code, words, headers, self.name)
        if isinstance(failure, ProviderError) and status == 429:
            if "PerDay" in json.dumps(details):
                return ProviderError(
                    "quota", f"{self.name}: the day's quota is used up. Way out: run again tomorrow.", None, status
                )
            waits = [seconds_of(str(each["retryDelay"])) for each in details if "retryDelay" in each]
            failure.retry_after = failure.retry_after if failure.retry_after is not None else next(iter(waits), None)
        return failure

    def batch_entry(self, key: str, request: Request) -> dict[str, Any]:
        """Returns a request as it stands in a batch's file."""
        return {"key": key, "request": self.body(request)}

    async def submit(self, requests: Mapping[str, Request], label: str) -> str:
        """Uploads a file of requests and submits it, see `BatchInterface.submit`."""
        content = b"".join(batch_line(self.batch_entry(key, request)) for key, request in requests.items())
        files, batches = self.client().aio.files, self.client().aio.batches
        config: Any = {"display_name": label, "mime_type": "application/jsonl"}
        file = await self._call(lambda: files.upload(file=io.BytesIO(content), config=config))
        batch = await self._call(lambda: batches.create(model=self.model, src=file.name, config={"display_name": label}))
        return str(batch.name)

    async def poll(self, batch: str) -> BatchState:
        """Returns how far a batch is, see `BatchInterface.poll`."""
        batches = self.client().aio.batches
        found = await self._call(lambda: batches.get(name=batch))
        return _STATES.get(found.state.value if found.state is not None else "", "running")

    async def collect(self, batch: str) -> list[tuple[str, Sent | ProviderError]]:
        """Returns what became of each request, see `BatchInterface.collect`."""
        files, batches = self.client().aio.files, self.client().aio.batches
        found = await self._call(lambda: batches.get(name=batch))
        if found.dest is None or not found.dest.file_name:
            return []
        content = await self._call(lambda: files.download(file=found.dest.file_name))
        return [(str(entry.get("key")), self._one(entry)) for entry in read_lines(content)]

    async def find(self, label: str) -> str | None:
        """Returns the newest batch under a label, see `BatchInterface.find`."""
        batches = self.client().aio.batches

        async def search() -> str | None:
            async for batch in await batches.list(config={"page_size": 100}):
                if batch.display_name == label:
                    return batch.name
            return None

        found: str | None = await self._call(search)
        return found

    def _one(self, entry: Mapping[str, Any]) -> Sent | ProviderError:
        response, error = entry.get("response"), entry.get("error") or entry.get("status")
        if isinstance(response, Mapping):
            return Sent(response)
        code = error.get("code") if isinstance(error, Mapping) else None
        status = (
            code
            if isinstance(code, int) and 400 <= code < 600
            else _HTTP_OF_RPC.get(code if isinstance(code, int) else -1, 500)
        )
        return of_one(self.outcome_of_status(status, {"error": error}, {}, None))

    async def _exchange(self, client: Client, request: Request) -> Sent | Exception:
        from google.genai import types

        body = self.body(request)
        plain = {**body["generationConfig"], "shouldReturnHttpResponse": True}
        if "systemInstruction" in body:
            plain["systemInstruction"] = body["systemInstruction"]
        config = types.GenerateContentConfig.model_validate(plain)
        contents = [types.Content.model_validate(content) for content in body["contents"]]
        outcome = await self._caught(
            lambda: client.aio.models.generate_content(model=self.model, contents=contents, config=config), request
        )
        if isinstance(outcome, Exception):
            return outcome
        try:
            return Sent(parse_reply(outcome.sdk_http_response.body or "", self.name))
        except ProviderError as error:
            return error

    async def _call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        return await outcome_of(self._caught(work, None), BATCH_SECONDS, self.name)

    async def _caught(self, work: Callable[[], Awaitable[Any]], request: Request | None) -> Any:
        """The result; or the error, returned so that no error of the SDK hangs on ours."""
        from google.genai import errors

        try:
            return await work()
        except errors.APIError as error:
            headers = {name.lower(): value for name, value in getattr(error.response, "headers", {}).items()}
            return self.outcome_of_status(error.code, error.details, headers, request)
        except json.JSONDecodeError:  # the SDK reads the body of a failure as JSON, whatever it is
            return ProviderError("unavailable", f"{self.name}: a failure whose body cannot be read.")
        except Exception as error:  # noqa: BLE001  aiohttp's or httpx's, see `_LOST`; any other is returned, to be raised
            return _lost(error, self.name)


_HTTP_OF_RPC = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
"""HTTP statuses of the canonical RPC codes, which result files of batches hold."""


def _lost(error: Exception, provider: str) -> Exception:
    cause = type(error).__name__
    if cause in _NEVER_SENT:
        return lost_connection("ConnectError", provider)
    if cause in _LOST and "complete" not in str(error):
        return lost_connection(cause, provider)
    if cause in ("ClientPayloadError", "RemoteProtocolError", "UnicodeDecodeError"):
        return ProviderError("garbled", f"{provider}: the reply ended in its middle ({cause}).", status=200)
    return error
