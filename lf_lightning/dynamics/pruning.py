"""Rows whose label cleanlab takes for wrong are left out."""

from __future__ import annotations

import torch
from torch import Tensor

from lf_lightning.dynamics.weightings import Dynamics, Weighting
from lf_lightning.errors import ConfigurationError, MissingDependencyError


class CleanlabPruning(Weighting):
    """Weight 0 for the labels that confident learning finds wrong (Northcutt et al. 2021, arXiv 1911.00068), 1 for the others.

    Evidence is the mean of the nets' probabilities after the phase of weights, in which no net saw a pseudo-label. One
    multi-class label a row; needs the extra `cleanlab`.

    Args:
        filter_by: cleanlab's rule, such as prune_by_noise_rate, confident_learning or both.
    """

    needs_probabilities = True

    def __init__(self, filter_by: str = "prune_by_noise_rate") -> None:
        self.filter_by = filter_by

    def weigh(self, seen: Dynamics) -> Tensor:
        """Returns 0 and 1; NaN, so 1, for rows of which no net said anything."""
        try:
            from cleanlab.filter import find_label_issues
        except ImportError as error:
            raise MissingDependencyError.of("cleanlab", "cleanlab") from error
        if seen.labels.ndim != 1 or seen.probabilities is None:
            raise ConfigurationError(
                "CleanlabPruning takes one hard label a row. Way out: soft_labels: false, task: multiclass."
            )
        weights = torch.full_like(seen.confidence, torch.nan)
        known = seen.probabilities.isfinite().all(-1).all(-1)
        p = seen.probabilities[known].double().mean(1)
        wrong = find_label_issues(
            seen.labels[known].numpy(), (p / p.sum(-1, keepdim=True)).numpy(), filter_by=self.filter_by, n_jobs=1
        )
        weights[known] = 1.0 - torch.from_numpy(wrong).float().unsqueeze(-1)
        return weights
