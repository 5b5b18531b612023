"""Calibration rows whose classes are as frequent as those of other rows: probabilities and decisions rest on that."""

from __future__ import annotations

import torch
from scipy.stats import chi2_contingency
from torch import Tensor

SIGNIFICANT = 1e-3
"""Shares that differ less than chance does once in a thousand draws count as the same."""
ENOUGH = 5
"""Rows of a class from which its share can be read, as the chi-square test has it."""


def thinned_to(labels: Tensor, drawn: Tensor, seed: int) -> Tensor:
    """Returns which rows (n,) to keep so that classes are as frequent as among those that were `drawn`.

    All of them, unless the shares differ significantly: train rows are often chosen so many a class, and validation rows drawn
    as texts come. (All of them, too, where those drawn are of one class, which is no draw.) Under label shift (Saerens et al.,
    2002; Lipton et al., 2018: only the shares differ, not what the texts of a class are like) the rows kept are as if drawn
    like the others.

    Args:
        labels: (n,) classes.
        drawn: (m,) classes.
        seed: Of the choice.
    """
    k = int(torch.cat([labels, drawn]).max()) + 1
    here, there = torch.bincount(labels, minlength=k), torch.bincount(drawn, minlength=k)
    seen = here + there > 0
    shares = torch.stack([here, there])[:, seen].numpy()
    common = (there >= ENOUGH) & (here > 0)
    if (there > 0).sum() < 2 or not common.any() or chi2_contingency(shares).pvalue >= SIGNIFICANT:
        return torch.ones(len(labels), dtype=torch.bool)
    most = torch.minimum(here, ((here / there)[common].min() * there).round().long())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    number = torch.empty_like(labels)  # of a row among those of its class, in the order drawn
    for label in range(k):
        own = order[labels[order] == label]
        number[own] = torch.arange(len(own))
    return number < most[labels]
