"""How fast requests may be sent: fixed budgets per minute, and a pace that finds a limit which nobody told us."""

from __future__ import annotations

from collections import deque

SOFT_START = 0.95
GROWTH = 4e-4
SLOWEST = 1.0


class Budget:
    """So much per second, evenly, and so much at once: the generic cell rate algorithm, as a queue of moments.

    Args:
        per_second: Requests or tokens.
        at_once: What may go without waiting after a rest.

    >>> budget = Budget(per_second=2.0, at_once=1.0)
    >>> [budget.book(1.0, now=10.0) for _ in range(3)]
    [10.0, 10.5, 11.0]
    """

    def __init__(self, per_second: float, at_once: float) -> None:
        self.per_second = per_second
        self.at_once = at_once
        self._used_up = float("-inf")

    @classmethod
    def per_minute(cls, amount: int | None) -> Budget | None:
        """Returns a budget of which a second's worth may go at once; None for None."""
        return None if amount is None else cls(amount / 60, max(1.0, amount / 60))

    def book(self, amount: float, now: float) -> float:
        """Takes a place and returns the moment from which it holds."""
        self._used_up = max(self._used_up, now) + amount / self.per_second
        return max(now, self._used_up - max(self.at_once, amount) / self.per_second)


class Share:
    """Share of bad outcomes among the last two hundred or so.

    Args:
        before: How many good outcomes to assume before the first, so that a single bad one is not everything.
    """

    def __init__(self, before: int = 60) -> None:
        self.value = 0.0
        self._count = before

    def note(self, bad: bool) -> float:
        """Counts one outcome and returns the share."""
        self._count = min(self._count + 1, 200)
        self.value += (bad - self.value) / self._count
        return self.value


class Pace:
    r"""Requests per second that a provider takes, found by asking too much.

    No limit until more than 5 % of the replies say "too many"; then 95 % of what was answered in a second, and from
    there :math:`r(t) = r_0 (1 + c (t - K)^3)` with :math:`K = \sqrt[3]{0.05 / c}`: back soon, long near the limit, then beyond
    it. The curve is TCP CUBIC's (RFC 9438) scaled by the limit, so that it fits 1 and 1,000 requests per second.
    A single "too many" changes nothing: with many keys or processes on one limit they never end.
    """

    def __init__(self) -> None:
        self._top: float | None = None
        self._cut = float("-inf")
        self._answered: deque[float] = deque(maxlen=4096)
        self._share = Share()
        self._used_up = float("-inf")
        self._judged_from = float("-inf")

    def rate(self, now: float) -> float | None:
        """Returns requests per second; None: no limit."""
        if self._top is None:
            return None
        back: float = ((1 - SOFT_START) / GROWTH) ** (1 / 3)
        since: float = now - self._cut - back
        return max(SLOWEST, self._top * (1 + GROWTH * since**3))

    def book(self, now: float) -> float:
        """Takes the next place and returns its moment."""
        rate = self.rate(now)
        if rate is None:
            return now
        moment = max(self._used_up, now)
        self._used_up = moment + 1 / rate
        return moment

    def answered(self, now: float, nothing_left: bool) -> None:
        """Counts a reply.

        Args:
            now: Moment of the reply.
            nothing_left: Its headers say that the next request would be one too many.
        """
        self._answered.append(now)
        self._note(nothing_left, now, now)

    def limited(self, now: float, sent: float) -> bool:
        """Counts a "too many" and returns whether there are so many that everyone should wait.

        Args:
            now: Moment of the reply.
            sent: When the request was sent: what was sent before the last cut says nothing of the new pace.
        """
        return self._note(True, now, sent)

    def _note(self, bad: bool, now: float, sent: float) -> bool:
        if sent < self._judged_from:
            return bad
        if self._share.note(bad) <= 0.05 or not bad:
            return False
        measured, rate = self._busiest_second(now), self.rate(now)
        if measured:
            self._top, self._cut = max(SLOWEST, measured if rate is None else min(measured, rate)), now
            self._judged_from = (
                max(now, self._used_up) + 1
            )  # from when what was booked before is sent, and the provider has rested
            self._share = Share(before=200)
        return True

    def _busiest_second(self, now: float) -> int:
        """Most replies in a second of the last three: a moment in which this machine was busy is no limit of the provider.

        0 in the first second, after a pause too: refusals come back before the first answers, which would be taken for all.
        """
        recent = [moment for moment in self._answered if moment > now - 3]
        if not recent or recent[0] > now - 1:
            return 0
        begin = most = 0
        for end, moment in enumerate(recent):
            while recent[begin] <= moment - 1:
                begin += 1
            most = max(most, end - begin + 1)
        return most
