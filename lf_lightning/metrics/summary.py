"""All numbers of one set of predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lf_lightning.metrics.checks import Values, check_decisions, check_probabilities, finite
from lf_lightning.metrics.decisions import accuracy, f1
from lf_lightning.metrics.probabilistic import brier, ece, nll, roc_auc

if TYPE_CHECKING:
    from lf_lightning.contract import Task


def decide(probabilities: Values, task: Task) -> NDArray[np.int64]:
    """Decisions without tuned thresholds: the most probable class (n,), or (n, K) 1 where p >= 0.5.

    Raises:
        NotFiniteError: A NaN.

    Example:
        >>> decide([[0.9, 0.5]], "multilabel")
        array([[1, 1]])
    """
    p = finite(probabilities, "probabilities")
    return p.argmax(1).astype(np.int64) if task == "multiclass" else (p >= 0.5).astype(np.int64)


def evaluate(probabilities: Values, labels: Values, task: Task, decisions: Values | None = None) -> dict[str, float]:
    """Accuracy, F1s, likelihood, Brier score and calibration error of predictions on labelled rows.

    Args:
        probabilities: (n, K) in [0, 1].
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        task: `multiclass` or `multilabel`.
        decisions: As `labels`, for example by tuned thresholds; None: `decide`.

    Returns:
        `accuracy` (multi-label: subset accuracy), `macro_f1`, `micro_f1`, `weighted_f1` (over all K labels), `nll`, `brier`,
        `ece` (15 bins of equal mass), and `roc_auc` (macro) where every label has positives and negatives; else it is absent.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that do not fit.
        DataError: Values that are not probabilities, labels or decisions.

    Example:
        >>> numbers = evaluate([[0.9, 0.1], [0.2, 0.8]], [0, 1], "multiclass")
        >>> numbers["accuracy"], numbers["macro_f1"], round(numbers["ece"], 3)
        (1.0, 1.0, 0.15)
    """
    p, y = check_probabilities(probabilities, labels, task)
    made, _ = check_decisions(decide(p, task) if decisions is None else decisions, y, p.shape[1])
    numbers = {
        "accuracy": accuracy(made, y),
        "macro_f1": f1(made, y, "macro", p.shape[1]),
        "micro_f1": f1(made, y, "micro", p.shape[1]),
        "weighted_f1": f1(made, y, "weighted", p.shape[1]),
        "nll": nll(p, y, task),
        "brier": brier(p, y, task),
        "ece": ece(p, y, task),
    }
    auc = roc_auc(p, y, task)
    if auc is not None:
        numbers["roc_auc"] = auc
    return numbers
