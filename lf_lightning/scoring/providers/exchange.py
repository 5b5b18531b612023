"""One exchange through an SDK of OpenAI's or Anthropic's kind (one generator made both): a whole body, or what went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from lf_lightning.scoring.providers.base import ProviderError
from lf_lightning.scoring.providers.connections import outcome_of

Result = TypeVar("Result")

_NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "WriteError", "WriteTimeout", "ProxyError")


@dataclass(frozen=True)
class Whole:
    """A reply of status 200: its bytes and its headers (looked up by lower-case names)."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Refused:
    """A status of failure, with the body that the SDK read."""

    status: int
    body: Any
    headers: Mapping[str, str]


async def exchange(
    opening: Callable[[], AbstractAsyncContextManager[Any]], sdk: ModuleType, provider: str
) -> Whole | Refused | ProviderError:
    """Returns what came back. An error is returned, not raised: no error of the SDK, which quotes the provider, hangs on it.

    The body is read by itself, after the headers: what is lost before them may never have been served, what is lost behind
    them was.

    Args:
        opening: Starts the request; its result is a streamed raw response of the SDK.
        sdk: The SDK's module, for its errors.
        provider: For messages.
    """
    began = False
    try:
        async with opening() as response:
            began = True
            return Whole(await response.read(), response.headers)
    except sdk.APIStatusError as error:
        return Refused(error.status_code, error.body, error.response.headers)
    except sdk.APIConnectionError as error:
        return lost_connection(type(error.__cause__).__name__, provider)
    except Exception as error:  # the HTTP client's own errors, whose package differs between releases of the SDK
        if not began:
            raise
        return ProviderError("garbled", f"{provider}: the reply ended in its middle ({type(error).__name__}).", status=200)


def lost_connection(cause: str, provider: str) -> ProviderError:
    """Returns what a lost connection means: whether the request can have reached the provider.

    Args:
        cause: Name of the HTTP client's error.
        provider: For the message.
    """
    if cause in _NEVER_SENT:
        return ProviderError("unavailable", f"{provider}: no connection ({cause}).")
    return ProviderError("disconnected", f"{provider}: the connection ended before a reply began ({cause}).")


async def call(
    work: Callable[[], Awaitable[Result]],
    sdk: ModuleType,
    provider: str,
    explain: Callable[[int, Any, Mapping[str, str]], Any],
    seconds: float,
) -> Result:
    """Returns what a call of the SDK other than the sending of a request gives (a batch, a file).

    Args:
        work: The call.
        sdk: The SDK's module, for its errors.
        provider: For messages.
        explain: Gives the error that a status of failure, its body and its headers mean.
        seconds: Longest time.

    Raises:
        ProviderError: It failed.
    """

    async def caught() -> Result | Exception:
        try:
            return await work()
        except sdk.APIStatusError as error:
            explained: Exception = explain(error.status_code, error.body, error.response.headers)
            return explained
        except sdk.APIConnectionError as error:
            return lost_connection(type(error.__cause__).__name__, provider)
        except Exception as error:  # noqa: BLE001  bodies that are no JSON; the HTTP client's own errors while a file is read
            return ProviderError("garbled", f"{provider}: the reply cannot be read ({type(error).__name__}).")

    return await outcome_of(caught(), seconds, provider)
