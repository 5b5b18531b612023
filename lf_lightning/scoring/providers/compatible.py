"""Any server that speaks chat completions: vLLM, llama.cpp, Ollama, LM Studio, OpenRouter."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from lf_lightning.scoring.providers.chat_completions import ChatCompletions, SchemaField
from lf_lightning.scoring.requests import Request


class OpenAICompatible(ChatCompletions):
    """A server that speaks chat completions.

    How a schema is asked for differs: `json_schema` (OpenAI's form; vLLM, Ollama, LM Studio, OpenRouter), `json_object` with
    the schema beside it (llama.cpp), `structured_outputs` (vLLM's own field, which older `guided_json` became).

    Args:
        model: The model's name as the server lists it.
        base_url: The interface's address, such as http://localhost:8000/v1.
        api_key_env: Name of the environment variable that holds the key; None: no key is sent.
        max_tokens_field: What the server calls the longest reply.
        schema_field: How a schema is asked for: json_schema, json_object or structured_outputs.
        thinking: Switch a hybrid model's thinking on or off (vLLM, llama.cpp); None leaves it to the server.
        reasoning_effort: How long a reasoning model thinks, in the server's words; None leaves it to the server.
        upstream: OpenRouter: the one upstream provider that may answer, such as deepinfra; None leaves it to OpenRouter.
    """

    name: ClassVar[str] = "openai-compatible"

    def __init__(
        self,
        model: str,
        base_url: str,
        api_key_env: str | None = None,
        max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        schema_field: SchemaField = "json_schema",
        thinking: bool | None = None,
        reasoning_effort: str | None = None,
        upstream: str | None = None,
    ) -> None:
        super().__init__(model, base_url, api_key_env)
        self.max_tokens_field, self.schema_field = max_tokens_field, schema_field
        self.thinking, self.reasoning_effort, self.upstream = thinking, reasoning_effort, upstream

    @property
    def options(self) -> dict[str, Any]:
        """Thinking, effort, upstream, and how a schema is asked for (servers differ in how strictly they hold each form)."""
        return {
            "schema_field": None if self.schema_field == "json_schema" else self.schema_field,
            "thinking": self.thinking,
            "reasoning_effort": self.reasoning_effort,
            "upstream": self.upstream,
        }

    def own_fields(self, request: Request) -> dict[str, Any]:
        """Returns the length limit, the schema in the server's form and the options that are set."""
        fields: dict[str, Any] = {self.max_tokens_field: request.max_output_tokens}
        if request.schema is not None:
            fields |= self._schema(dict(request.schema))
        if self.thinking is not None:
            fields["chat_template_kwargs"] = {"enable_thinking": self.thinking}
        if self.reasoning_effort is not None:
            fields["reasoning_effort"] = self.reasoning_effort
        if self.upstream is not None:
            fields["provider"] = {"only": [self.upstream], "allow_fallbacks": False, "require_parameters": True}
        return fields

    def _schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        if self.schema_field == "structured_outputs":
            return {"structured_outputs": {"json": schema}}
        if self.schema_field == "json_object":
            return {"response_format": {"type": "json_object", "schema": schema}}
        strict = {"name": "reply", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": strict}}
