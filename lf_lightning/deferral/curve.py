"""The cost-accuracy curve of a deferral, its area, and the calls that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from lf_lightning.deferral.plan import checked_prices, order_of_asking
from lf_lightning.errors import ConfigurationError
from lf_lightning.metrics import accuracy, f1

Metric = Literal["accuracy", "macro_f1"]


@dataclass(frozen=True)
class Curve:
    """What a deferral reaches for what it costs; P points, from nobody asked to everybody.

    Attributes:
        cost: (P,) share of what it costs to ask everybody about every text, 0 to 1; with one scorer the share of texts.
        accuracy: (P,) in [0, 1].
        macro_f1: (P,) in [0, 1].
    """

    cost: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    macro_f1: NDArray[np.float64]

    def area(self, metric: Metric = "accuracy") -> float:
        """Returns the mean over all costs of the metric less its value when nobody is asked."""
        y: NDArray[np.float64] = getattr(self, metric)
        return float(trapezoid(y - y[0], self.cost))


def cost_curve(
    values: NDArray[np.floating[Any]],
    decisions: NDArray[np.int64],
    labels: NDArray[np.int64],
    num_labels: int,
    prices: Sequence[float] | None = None,
    points: int = 101,
) -> Curve:
    """Returns the curve on labelled rows.

    Args:
        values: (n, M), what the deferral expects of asking each scorer, the scorers before it asked.
        decisions: (M + 1, n) class numbers, or (M + 1, n, K) of 0 and 1, with none, one, ..., all scorers asked.
        labels: (n,) or (n, K).
        num_labels: K.
        prices: (M,) of one question to each; None: the same for all.
        points: P, at least 2.

    Raises:
        ConfigurationError: Shapes that do not fit.

    Example:
        >>> cost_curve(np.array([[1.0], [0.0]]), np.array([[0, 0], [1, 1]]), np.array([1, 0]), 2, points=3).accuracy
        array([0.5, 1. , 0.5])
    """
    n, m = values.shape
    if decisions.shape[:2] != (m + 1, n) or len(labels) != n or points < 2:
        raise ConfigurationError(
            f"values {values.shape}, decisions {decisions.shape}, labels {labels.shape} and points={points} do not fit."
        )
    paid = np.ones(m) if prices is None else checked_prices(prices, m)
    rows, scorers, _ = order_of_asking(values, paid)
    spent = np.concatenate([[0.0], paid[scorers].cumsum() / (n * paid.sum())])
    cost = np.linspace(0, 1, points)
    counts = np.searchsorted(spent, cost + 1e-9, side="right") - 1
    made, done, found = decisions[0].copy(), 0, []
    for count in counts:
        for row, scorer in zip(rows[done:count], scorers[done:count], strict=True):
            made[row] = decisions[scorer + 1, row]
        done = count
        found.append((accuracy(made, labels), f1(made, labels, num_labels=num_labels if made.ndim == 1 else None)))
    reached = np.array(found)
    return Curve(cost, reached[:, 0], reached[:, 1])


def average_gain_recovered(curve: Curve, metric: Metric = "accuracy") -> float:
    r"""Average performance gap recovered (Ong et al., 2024, RouteLLM, eq. 7): the area over what asking everybody gains.

    :math:`\int_0^1 \frac{q(c) - q(0)}{q(1) - q(0)} \, dc`: 0.5 for asking at random, above 1 where asking
    everybody is worse than asking about the right texts; NaN where everybody gains nothing.

    Args:
        curve: The curve.
        metric: accuracy or macro_f1.
    """
    y: NDArray[np.float64] = getattr(curve, metric)
    return curve.area(metric) / float(y[-1] - y[0]) if y[-1] > y[0] else float("nan")


def calls_needed(curve: Curve, share: float = 0.95, metric: Metric = "accuracy") -> float:
    """Returns the least cost in [0, 1] that recovers a share of what asking everybody gains.

    The call-performance threshold of Ong et al. (2024); NaN where asking everybody gains nothing.

    Args:
        curve: The curve.
        share: Of the gain, in (0, 1].
        metric: accuracy or macro_f1.
    """
    y: NDArray[np.float64] = getattr(curve, metric)
    if y[-1] <= y[0]:
        return float("nan")
    return float(curve.cost[np.argmax(y - y[0] >= share * (y[-1] - y[0]) - 1e-12)])
