"""OpenAI's models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from lf_lightning.scoring.providers.base import ProviderError, Sent
from lf_lightning.scoring.providers.batches import (
    BATCH_SECONDS,
    BatchInterface,
    BatchState,
    batch_line,
    of_one,
    read_lines,
)
from lf_lightning.scoring.providers.chat_completions import ChatCompletions
from lf_lightning.scoring.providers.exchange import call
from lf_lightning.scoring.requests import Request

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_STATES: dict[str, BatchState] = {
    "completed": "done",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "expired",
}


class OpenAI(ChatCompletions, BatchInterface):
    """OpenAI, through chat completions.

    Log-probabilities: the 4o and 4.1 families give up to 20 per token; of the gpt-5 family only 5.1 and later, with
    `reasoning_effort="none"`. A model that has none fails with a ConfigurationError: nothing is changed silently.

    Args:
        model: The model's name, best with its date, such as gpt-4.1-mini-2025-04-14.
        reasoning_effort: How long a reasoning model thinks; None leaves it to the provider.
        api_key_env: Name of the environment variable that holds the key.
        base_url: Another address of the same interface, such as a proxy; None: OpenAI's own.
    """

    name: ClassVar[str] = "openai"
    batch_requests: ClassVar[int] = 50_000
    batch_bytes: ClassVar[int] = 200_000_000
    can_find: ClassVar[bool] = True

    def __init__(
        self,
        model: str,
        reasoning_effort: ReasoningEffort | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        base_url: str | None = None,
    ) -> None:
        super().__init__(model, base_url or "https://api.openai.com/v1", api_key_env)
        self.reasoning_effort = reasoning_effort

    @property
    def options(self) -> dict[str, Any]:
        """How long it thinks."""
        return {"reasoning_effort": self.reasoning_effort}

    def own_fields(self, request: Request) -> dict[str, Any]:
        """Returns the length limit under its new name, the strict schema and the reasoning effort."""
        fields: dict[str, Any] = {"max_completion_tokens": request.max_output_tokens}
        if request.schema is not None:
            schema = {"name": "reply", "strict": True, "schema": dict(request.schema)}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.reasoning_effort is not None:
            fields["reasoning_effort"] = self.reasoning_effort
        return fields

    def batch_entry(self, key: str, request: Request) -> dict[str, Any]:
        """Returns a request as it stands in a batch's file."""
        return {"custom_id": key, "method": "POST", "url": _ENDPOINT, "body": self.body(request)}

    async def submit(self, requests: Mapping[str, Request], label: str) -> str:
        """Uploads a file of requests and submits it, see `BatchInterface.submit`."""
        content = b"".join(batch_line(self.batch_entry(key, request)) for key, request in requests.items())
        client = self.client()
        upload = (f"{label}.jsonl", content, "application/jsonl")
        file = await self._call(lambda: client.files.create(file=upload, purpose="batch"))
        batch = await self._call(
            lambda: client.batches.create(
                input_file_id=file.id, endpoint=_ENDPOINT, completion_window="24h", metadata={"lf_lightning": label}
            )
        )
        return str(batch.id)

    async def poll(self, batch: str) -> BatchState:
        """Returns how far a batch is, see `BatchInterface.poll`."""
        client = self.client()
        found = await self._call(lambda: client.batches.retrieve(batch))
        return _STATES.get(found.status, "running")

    async def collect(self, batch: str) -> list[tuple[str, Sent | ProviderError]]:
        """Returns what became of each request, see `BatchInterface.collect`: of the output file and of the file of errors."""
        client = self.client()
        found = await self._call(lambda: client.batches.retrieve(batch))
        collected: list[tuple[str, Sent | ProviderError]] = []
        for name in (found.output_file_id, found.error_file_id):
            if name:
                content = await self._call(partial(_content, client, name))
                collected += [(str(entry.get("custom_id")), self._one(entry)) for entry in read_lines(content)]
        return collected

    async def find(self, label: str) -> str | None:
        """Returns the newest batch under a label, see `BatchInterface.find`."""
        client = self.client()

        async def search() -> str | None:
            async for batch in client.batches.list(limit=100):
                if (batch.metadata or {}).get("lf_lightning") == label:
                    return batch.id
            return None

        found: str | None = await self._call(search)
        return found

    def _one(self, entry: Mapping[str, Any]) -> Sent | ProviderError:
        response = entry.get("response")
        if not isinstance(response, Mapping):
            return ProviderError("unavailable", f"{self.name}: the batch ended before it came to this request.")
        body, status = response.get("body"), response.get("status_code")
        if status == 200 and isinstance(body, Mapping):
            return Sent(body)
        error = body.get("error") if isinstance(body, Mapping) else None
        return of_one(self.outcome_of_status(status if isinstance(status, int) and status >= 400 else 500, error, {}, None))

    async def _call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        import openai

        def explain(status: int, body: Any, headers: Mapping[str, str]) -> Any:
            return self.outcome_of_status(status, body, headers, None)

        return await call(work, openai, self.name, explain, BATCH_SECONDS)


async def _content(client: Any, file: str) -> bytes:
    content: bytes = (await client.files.content(file)).content
    return content
