"""How far to ask: the plan that a budget allows, or that an accuracy needs, by the validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError


@dataclass(frozen=True)
class Plan:
    """Whom to ask: scorer m where its value for a price of 1 is `rate` at least, and the scorers before it were asked.

    Attributes:
        rate: Value per price; -inf asks always, inf never.
        shares: (M,) of all texts about which each scorer is asked, in [0, 1].
        cost: Of a text on average, in the unit of the prices.
        accuracy: On the validation rows under this plan.
        accuracy_without: On the same rows, nobody asked.
        accuracy_with_all: On the same rows, everybody asked.
        depths: (n,) how many scorers are asked about each validation row.
    """

    rate: float
    shares: NDArray[np.float64]
    cost: float
    accuracy: float
    accuracy_without: float
    accuracy_with_all: float
    depths: NDArray[np.int64]


def plan_for(
    values: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    prices: Sequence[float],
    budget: float | None = None,
    cost: float | None = None,
    target_accuracy: float | None = None,
) -> Plan:
    """Returns the plan of one wish out of three.

    Args:
        values: (n, M) value of asking each scorer about each validation row, the scorers before it asked.
        right: (n, M + 1), whether the decision with none, one, ..., all of them asked is right.
        prices: (M,) of one question to each, above 0, in any unit.
        budget: Share of what it costs to ask everybody about every text, in [0, 1]; with one scorer the share of texts.
        cost: Most that a text may cost on average, in the unit of the prices.
        target_accuracy: In [0, 1]; the cheapest plan whose accuracy on these rows reaches it.

    Raises:
        ConfigurationError: Not exactly one wish, one out of range, or an accuracy that is not reached.
    """
    if sum(wish is not None for wish in (budget, cost, target_accuracy)) != 1:
        raise ConfigurationError("give exactly one of budget (llm-budget), cost (max-cost) and target_accuracy.")
    checked = checked_prices(prices, values.shape[1])
    n, whole = len(values), float(checked.sum())
    rows, scorers, rates = order_of_asking(values, checked)
    spent = np.concatenate([[0.0], checked[scorers].cumsum() / n])
    steps = right[rows, scorers + 1].astype(float) - right[rows, scorers]
    accuracy = np.concatenate([[0.0], steps.cumsum() / n]) + right[:, 0].mean()
    if target_accuracy is not None:
        if not 0 <= target_accuracy <= 1:
            raise ConfigurationError(f"target_accuracy={target_accuracy} is not within 0 and 1.")
        reached = np.flatnonzero(accuracy >= target_accuracy - 1e-12)
        if not len(reached):
            best = int(accuracy.argmax())
            raise ConfigurationError(
                f"target_accuracy={target_accuracy}: on the {n} validation rows accuracy is {accuracy[0]:.3f} with no call, "
                f"{accuracy[-1]:.3f} with all, and at most {accuracy[best]:.3f} (at {spent[best] / whole:.0%} of the calls). "
                f"Way out: a target of {np.floor(1000 * accuracy[best]) / 1000:.3f} or less, or better members."
            )
        count, limit = int(reached[0]), float(spent[reached[0]])
    else:
        limit = cost if cost is not None else budget * whole  # type: ignore[operator]  # one of them is given
        if limit < 0 or (budget is not None and budget > 1) or not np.isfinite(limit):
            name, value = ("cost", cost) if cost is not None else ("budget", budget)
            raise ConfigurationError(f"{name}={value}: a share within 0 and 1, or a cost of 0 or more.")
        limit = min(limit, whole)
        count = int(np.searchsorted(spent, limit + 1e-9 * whole, side="right")) - 1
    shares = np.bincount(scorers[:count], minlength=len(checked)) / n
    if count < len(rows):  # a fraction of the next question, so that new texts get what the budget allows to the last
        shares[scorers[count]] += max(limit - spent[count], 0.0) / checked[scorers[count]]
    rate = -np.inf if count == len(rows) else np.inf if count == 0 else float(rates[count - 1])
    depths = np.bincount(rows[:count], minlength=n)
    mean = float(right[:, 0].mean()), float(right[:, -1].mean())
    return Plan(rate, np.minimum(shares, 1.0), float(shares @ checked), float(accuracy[count]), *mean, depths)


def order_of_asking(
    values: NDArray[np.floating[Any]], prices: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Returns rows, scorers and rates (n M,) of all questions, the most worthwhile first, none before those that it needs.

    A question's rate is the least value per price on the way to it, so that any beginning of the order is a cascade.

    Args:
        values: (n, M).
        prices: (M,).

    Example:
        >>> order_of_asking(np.array([[2.0, 3.0], [1.0, 4.0]]), np.ones(2))[0]
        array([0, 0, 1, 1])
    """
    rates = np.minimum.accumulate(np.asarray(values, dtype=np.float64) / prices, axis=1)
    n, m = rates.shape
    rows, scorers = np.divmod(np.arange(n * m), m)
    order = np.lexsort((rows, scorers, -rates.ravel()))
    return rows[order], scorers[order], rates.ravel()[order]


def checked_prices(prices: Sequence[float], num_scorers: int) -> NDArray[np.float64]:
    """Returns the prices (M,) as an array.

    Raises:
        ConfigurationError: Another number of them, or one that is not above 0.
    """
    found = np.asarray(prices, dtype=np.float64)
    if found.shape != (num_scorers,) or not (np.isfinite(found) & (found > 0)).all():
        raise ConfigurationError(f"prices={list(prices)!r}: give {num_scorers} numbers above 0, one for each scorer in order.")
    return found
