"""Rows whose classes are not as frequent as those of others: probabilities and decisions rest on how frequent they are.

Train rows are often chosen so many a class, and validation rows drawn as texts come. Under label shift (Saerens et al., 2002;
Lipton et al., 2018: only the shares differ, not what the texts of a class are like) a model of log-probabilities can be fitted
on all such rows, if its logits are shifted by the logarithm of the ratio of shares (the offset of case-control studies:
Prentice and Pyke, 1979; logit adjustment: Menon et al., 2021). What has no place for a shift sees fewer rows, of equal shares.
"""

from __future__ import annotations

import torch
from scipy.stats import chi2_contingency
from torch import Tensor

SIGNIFICANT = 1e-3
"""Shares that differ less than chance does once in a thousand draws count as the same."""
ENOUGH = 5
"""Rows of a class from which its share can be read, as the chi-square test has it."""


def share_shift(labels: Tensor, drawn: Tensor, num_labels: int) -> Tensor | None:
    """Returns (K,) log shares of the classes of some rows, less those of rows that were `drawn`; None where they do not differ.

    They differ if significantly so, if those drawn are of two classes at least, and if one of these has rows enough on either
    side. Each class counts half a row more than it has, so that one that nobody drew is rare and not impossible.

    Args:
        labels: (n,) classes.
        drawn: (m,) classes.
        num_labels: K.

    >>> share_shift(torch.arange(2).repeat_interleave(50), torch.tensor([0] * 45 + [1] * 5), 2)
    tensor([-0.5790,  1.5339])
    """
    here, there = torch.bincount(labels, minlength=num_labels), torch.bincount(drawn, minlength=num_labels)
    if not _differ(here, there):
        return None
    shares = [(count + 0.5) / (count + 0.5).sum() for count in (here.double(), there.double())]
    return (shares[0] / shares[1]).log().float()


def thinned_to(labels: Tensor, drawn: Tensor, seed: int) -> Tensor:
    """Returns which rows (n,) to keep so that classes are as frequent as among those that were `drawn`.

    All of them, unless the shares differ as in `share_shift`; then those kept are as if drawn like the others.

    Args:
        labels: (n,) classes.
        drawn: (m,) classes.
        seed: Of the choice.
    """
    k = 1 + max((int(rows.max()) for rows in (labels, drawn) if len(rows)), default=0)
    here, there = torch.bincount(labels, minlength=k), torch.bincount(drawn, minlength=k)
    if not _differ(here, there):
        return torch.ones(len(labels), dtype=torch.bool)
    most = torch.minimum(here, ((here / there)[_common(here, there)].min() * there).round().long())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    number = torch.empty_like(labels)  # of a row among those of its class, in the order drawn
    for label in range(k):
        own = order[labels[order] == label]
        number[own] = torch.arange(len(own))
    return number < most[labels]


def _differ(here: Tensor, there: Tensor) -> bool:
    if (there > 0).sum() < 2 or not _common(here, there).any():
        return False
    return bool(chi2_contingency(torch.stack([here, there])[:, here + there > 0].numpy()).pvalue < SIGNIFICANT)


def _common(here: Tensor, there: Tensor) -> Tensor:
    return (there >= ENOUGH) & (here > 0)
