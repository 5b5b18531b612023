"""DeepSeek's models."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers.chat_completions import ChatCompletions
from lf_lightning.scoring.requests import Request


class DeepSeek(ChatCompletions):
    """DeepSeek, through chat completions.

    Thinking is on at DeepSeek unless it is switched off; log-probabilities come only with thinking off, which is the default
    here. A schema is held by a strict tool that the model must call, which its beta address offers. There is no seed.

    Args:
        model: The model's name, such as deepseek-v4-flash.
        thinking: Let the model think before it answers; without log-probabilities, and billed as output.
        reasoning_effort: How long it thinks; only with thinking; None leaves it to DeepSeek.
        api_key_env: Name of the environment variable that holds the key.
        base_url: Another address of the same interface; None: DeepSeek's own.

    Raises:
        ConfigurationError: reasoning_effort without thinking.
    """

    name: ClassVar[str] = "deepseek"

    def __init__(
        self,
        model: str,
        thinking: bool = False,
        reasoning_effort: Literal["low", "high", "max"] | None = None,
        api_key_env: str = "DEEPSEEK_API_KEY",
        base_url: str | None = None,
    ) -> None:
        super().__init__(model, base_url or "https://api.deepseek.com/beta", api_key_env)
        if reasoning_effort is not None and not thinking:
            raise ConfigurationError(f"reasoning_effort={reasoning_effort!r} needs thinking=True.")
        self.thinking, self.reasoning_effort = thinking, reasoning_effort

    @property
    def options(self) -> dict[str, Any]:
        """Whether and how long it thinks."""
        return {"thinking": self.thinking, "reasoning_effort": self.reasoning_effort}

    def own_fields(self, request: Request) -> dict[str, Any]:
        """Returns the length limit, the thinking switch and the strict tool that holds a schema.

        Raises:
            ConfigurationError: Log-probabilities are asked for while the model thinks.
        """
        if request.top_logprobs and self.thinking:
            raise ConfigurationError(
                "deepseek: there are no log-probabilities while the model thinks. "
                "Way out: thinking=False, or another mode of the scorer (verbalized, vote)."
            )
        fields: dict[str, Any] = {
            "max_tokens": request.max_output_tokens,
            "thinking": {"type": "enabled" if self.thinking else "disabled"},
        }
        if self.reasoning_effort is not None:
            fields["reasoning_effort"] = self.reasoning_effort
        if request.schema is not None:
            function = {"name": "reply", "description": "Gives the reply.", "strict": True, "parameters": dict(request.schema)}
            fields["tools"] = [{"type": "function", "function": function}]
            fields["tool_choice"] = {"type": "function", "function": {"name": "reply"}}
        return fields

    def body(self, request: Request) -> dict[str, Any]:
        """Returns the JSON body of a request, without a seed: samples differ by chance."""
        body = super().body(request)
        body.pop("seed", None)
        return body
