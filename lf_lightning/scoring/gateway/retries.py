"""Whether a failed request is worth another attempt, and when."""

from __future__ import annotations

from random import Random

from lf_lightning.scoring.providers.base import ProviderError

FIRST, LONGEST = 0.5, 60.0


def wait_before_retry(
    error: ProviderError, attempt: int, attempts: int, spent: float, deadline: float, chance: Random
) -> float | None:
    """Returns seconds to wait before the next attempt; None: give up.

    Exponential backoff with full jitter (uniform from 0 to 0.5 s, 1 s, ... at most 60 s), after what the provider asks for.

    Args:
        error: How the attempt ended.
        attempt: Its number, from 1.
        attempts: Most attempts.
        spent: Seconds since the first attempt began.
        deadline: Seconds since then in which the last attempt has to begin.
        chance: Source of the jitter.

    >>> error = ProviderError("rate_limited", "too many", retry_after=2.0)
    >>> wait_before_retry(error, 6, 6, 1.0, 900.0, Random(0)), 2.0 < wait_before_retry(error, 1, 6, 1.0, 900.0, Random(0)) < 2.5
    (None, True)
    """
    if not error.retryable or attempt >= attempts:
        return None
    wait = (error.retry_after or 0.0) + chance.uniform(0, min(LONGEST, FIRST * 2 ** (attempt - 1)))
    return wait if spent + wait < deadline else None
