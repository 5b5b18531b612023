"""Decisions of multi-class classification that do not forget rare classes, tuned by one number on validation rows."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.calibration.fitted import FittedModule
from lf_lightning.calibration.rows import usable_rows
from lf_lightning.errors import ConfigurationError

_STRENGTHS = np.linspace(0, 1, 11)
_RESAMPLES = 100


class LogitAdjustment(FittedModule):
    r"""Decides by :math:`\arg\max_k \log p_k - \tau \log \pi_k` (post-hoc logit adjustment; Menon et al., 2021, eq. 9).

    Probabilities stay as they are; only the decision leans towards rare classes. :math:`\pi` are the class shares of the
    validation rows (Laplace-smoothed), and :math:`\tau` in {0, 0.1, ..., 1} has the greatest sum of accuracy and macro-F1
    there. It stays 0, the plain arg max, unless the gain exceeds its bootstrap standard error.

    Args:
        num_labels: K.
        min_rows: With fewer validation rows tau is 0.
    """

    _witness = "bias"
    bias: Tensor

    def __init__(self, num_labels: int, min_rows: int = 50) -> None:
        super().__init__()
        if num_labels < 2:
            raise ConfigurationError(f"num_labels={num_labels!r}: a multi-class decision needs 2 or more.")
        self.num_labels, self.min_rows = num_labels, min_rows
        self.register_buffer("bias", torch.full((num_labels,), torch.nan))

    @torch.no_grad()
    def fit(self, probabilities: Tensor, labels: Tensor) -> None:
        """Fits on validation rows; unlabelled rows, and rows of NaN probabilities, are ignored.

        Args:
            probabilities: (n, K), calibrated, as `decide` will get them.
            labels: (n,) int64, negative where unlabelled.

        Raises:
            ConfigurationError: Shapes that do not fit.
            NotFiniteError: A probability is infinite, or NaN in a row that has others.
            DataError: A label that is not one of the K.
        """
        rows = usable_rows(probabilities.float(), labels, self.num_labels, "multiclass", name="probabilities")
        y = rows.labels.astype(np.int64)
        log_prior = np.log((np.bincount(y, minlength=self.num_labels) + 1) / (len(y) + self.num_labels))
        tau = 0.0
        if len(y) >= self.min_rows:
            adjusted = np.log(np.clip(rows.values, 1e-12, None)) - _STRENGTHS[:, None, None] * log_prior
            tau = _strength(adjusted.argmax(-1), y, self.num_labels)
        self.bias.copy_(torch.from_numpy(-tau * log_prior))
        self.report = {"rows": len(y), "ignored_rows": rows.ignored, "tau": tau}
        self._seen_fitted = False

    def decide(self, probabilities: Float[Tensor, "rows labels"]) -> Int[Tensor, " rows"]:
        """Class numbers (B,) int64 of probabilities (B, K); -1 where they are NaN (no opinion).

        Raises:
            NotFittedError: Before `fit`.
        """
        self._require_fitted()
        p = probabilities.float()
        missing = torch.isnan(p).any(-1)
        return (p.clamp(min=1e-12).log() + self.bias).nan_to_num(0.0).argmax(-1).masked_fill(missing, -1)


def _strength(decisions: NDArray[np.int64], labels: NDArray[np.int64], num_labels: int) -> float:
    """Returns the best strength for decisions (11, n); 0 unless its gain exceeds one standard error."""
    n = len(labels)
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    weights = np.vstack([np.ones(n), weights]).astype(np.float32)
    true = np.eye(num_labels, dtype=np.float32)[labels]
    support = weights @ true
    occurs = support[0] > 0

    def goodness(made: NDArray[np.int64]) -> NDArray[np.float32]:
        said = np.eye(num_labels, dtype=np.float32)[made]
        f1 = 2 * (weights @ (true * said)) / np.maximum(support + weights @ said, 1e-12)
        return np.asarray(weights @ (made == labels) / n + f1[:, occurs].mean(1))

    plain = goodness(decisions[0])
    gains = [goodness(made) - plain for made in decisions]
    best = int(np.argmax([gain[0] for gain in gains]))
    return float(_STRENGTHS[best]) if gains[best][0] > gains[best][1:].std() else 0.0
