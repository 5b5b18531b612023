"""Weightings: what each row counts in the loss of each net. A YAML names one by `class_path`; a new one is ten lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from lf_lightning.dynamics.functional import Clamp, even_by_label, swapped_weights
from lf_lightning.errors import ConfigurationError, NotFiniteError


class Dynamics(NamedTuple):
    """What is known of N rows when an epoch of co-training begins.

    Attributes:
        confidence: (N, nets), mean over epochs of the weighting's signal; NaN where no epoch told of the row.
        variability: (N, nets), its population standard deviation.
        latest: (N, nets), of the newest epoch alone; NaN where it told nothing.
        stated: (N,) in [0, 1], the probability that the LLM gave its label.
        half: (N,) int64, the half 0 or 1 that a gold row is in; -1 elsewhere.
        progress: Share of the phase's epochs that are over, in [0, 1).
        labels: (N,) or (N, K), gold or pseudo-labels; see `dynamics.functional`.
        probabilities: (N, nets, K) of each net before it saw a pseudo-label; None unless the weighting asks for them.
    """

    confidence: Tensor
    variability: Tensor
    latest: Tensor
    stated: Tensor
    half: Tensor
    progress: float
    labels: Tensor
    probabilities: Tensor | None = None


class Weighting(ABC):
    """Base of weightings. A subclass writes `weigh`; its arguments are the YAML's."""

    signal: ClassVar[Literal["agreement", "margin"]] = "agreement"
    """What the history keeps of each net: `dynamics.agreement` or `dynamics.margin`."""
    needs_probabilities: ClassVar[bool] = False
    """Whether `Dynamics.probabilities` is needed; the weights are then made once, when co-training begins."""
    needs_history: ClassVar[bool] = True
    """Whether the weights follow from what the nets said, for which a phase of weights comes first."""

    @abstractmethod
    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns (N, nets), what each row counts for each net; NaN where nothing is known, which counts as 1."""

    def __call__(self, seen: Dynamics) -> Tensor:
        """Returns the weights (N, nets), finite, float32.

        Raises:
            NotFiniteError: One is infinite.
        """
        weights = self.weigh(seen).float()
        if weights.isinf().any():
            raise NotFiniteError(
                f"{type(self).__name__}: a weight is infinite. Way out: weights that are finite, or NaN for 1."
            )
        return weights.nan_to_num(1.0)


class Uniform(Weighting):
    """Every row counts 1 for every net."""

    needs_history = False

    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns ones."""
        return torch.ones_like(seen.confidence)


class Halves(Weighting):
    """Each net learns from its own half of the gold rows (LG-CoTrain, line 1 of algorithm 1).

    A row of net k's half counts so much that the mean weight over all gold rows is 1: a mean over a batch, and over processes,
    is then on average that over the net's own rows.
    """

    needs_history = False

    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns gold rows / rows of half k where net k is given half k, else 0."""
        own = (seen.half.unsqueeze(-1) == torch.arange(seen.confidence.shape[1])).float()
        return own * (seen.half >= 0).sum() / own.sum(0).clamp(min=1)


class SwappedDynamics(Weighting):
    """LG-CoTrain (arXiv 2509.16516, eq. 1 to 6): net 1 learns with the other's c - v, net 2 with the other's c + v.

    Args:
        clamp: Negative weights become 0 (zero), each column is stretched to [0, 1] (rescale), or they stay (none).
        even_labels: Divide by the mean weight of the rows with the same label, so that weighting makes no label rarer
            (multi-class; beyond the paper).
    """

    def __init__(self, clamp: Clamp = "zero", even_labels: bool = False) -> None:
        if clamp not in ("zero", "rescale", "none"):
            raise ConfigurationError(f"clamp={clamp!r}: zero, rescale or none.")
        self.clamp: Clamp = clamp
        self.even_labels = even_labels

    def weigh(self, seen: Dynamics) -> Tensor:
        """See `dynamics.swapped_weights` and `even_by_label`."""
        if seen.confidence.shape[1] != 2:
            raise ConfigurationError("SwappedDynamics weighs for two nets. Way out: nets: 2, or another weighting.")
        weights = swapped_weights(seen.confidence, seen.variability, self.clamp)
        return even_by_label(weights, seen.labels) if self.even_labels else weights


class Confidence(Weighting):
    """The other net's confidence alone, the paper's ablation."""

    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns c of the other net."""
        return seen.confidence.flip(1)


class AreaUnderMargin(Weighting):
    """How far the label stood above the others in the other net, on the mean over epochs (Pleiss et al. 2020).

    The paper drops rows below a threshold that it learns from rows with a false extra class; here the weight falls smoothly.

    Args:
        sharpness: s of the weight sigmoid(s AUM).
    """

    signal = "margin"

    def __init__(self, sharpness: float = 1.0) -> None:
        self.sharpness = sharpness

    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns sigmoid(s AUM) of the other net."""
        return (self.sharpness * seen.confidence.flip(1)).sigmoid()


class SmallLoss(Weighting):
    """Co-teaching (Han et al. 2018, arXiv 1804.06872): each net learns from the rows on which the other's loss is smallest.

    Rows are chosen among all rows by the loss of the last epoch, where the paper chooses within each batch by the current one.

    Args:
        forget: Share of the rows that is left out at the end, tau in the paper: the share of wrong labels, in [0, 1).
        ramp: Share of the epochs over which that share rises from 0.
    """

    def __init__(self, forget: float = 0.2, ramp: float = 0.5) -> None:
        if not 0 <= forget < 1 or not 0 < ramp <= 1:
            raise ConfigurationError(f"forget={forget}, ramp={ramp}: forget is in [0, 1), ramp in (0, 1].")
        self.forget, self.ramp = forget, ramp

    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns 1 for the rows to learn from and 0 for the others."""
        known = seen.latest.isfinite().all(-1)
        weights = torch.full_like(seen.latest, torch.nan)
        count = round(int(known.sum()) * self.forget * min(1.0, seen.progress / self.ramp))
        for k, column in enumerate(seen.latest[known].flip(1).unbind(1)):
            kept = torch.ones_like(column)
            kept[column.argsort(stable=True)[:count]] = 0.0
            weights[known, k] = kept
        return weights


class StatedConfidence(Weighting):
    """The probability that the LLM itself gave its label; no net is asked."""

    needs_history = False

    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns it, for every net."""
        return seen.stated.unsqueeze(-1).expand_as(seen.confidence)
