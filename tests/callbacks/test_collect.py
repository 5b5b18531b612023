from __future__ import annotations

import numpy as np
import pytest
import torch

from lf_lightning.callbacks.collect import gather_outputs
from lf_lightning.callbacks.judging import figures_of, judge
from lf_lightning.contract import Outputs


class Gathers:
    """Stands in for a module among several ranks: a gather returns what each of them holds, stacked."""

    def __init__(self, ranks):
        self.parts = ranks

    def all_gather(self, mine):
        # Each rank's tensors in the order in which gather_outputs asks for them: index, logits, labels, members.
        position = next(i for i, t in enumerate(self._tensors(self.parts[0])) if t.shape == mine.shape and torch.equal(t, mine))
        return torch.stack([self._tensors(part)[position] for part in self.parts])

    @staticmethod
    def _tensors(part):
        return [part.index, part.logits, part.labels, *part.members.values()]


def part(rows, table):
    members = {"encoder": table["encoder"][rows]}
    return Outputs(rows, table["system"][rows], table["labels"][rows], members)


@pytest.mark.parametrize("ranks", [2, 3])
def test_rows_that_ranks_repeat_count_once_and_figures_equal_one_process(ranks, system, table):
    rows = table(67, 3, "multiclass", ("encoder",), 0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(67))
    share = -(-67 // ranks)
    shares = [torch.cat([order, order])[rank : rank + ranks * share : ranks][:share] for rank in range(ranks)]
    assert len(torch.cat(shares)) > 67
    module = system(["a", "b", "c"], members=["encoder"])
    for calibrator in (module.calibrator, *module.member_calibrators):
        calibrator.fit(rows["system"], rows["labels"])
    module.evaluated["test"] = gather_outputs([part(shares[0], rows)], Gathers([part(share, rows) for share in shares]))
    several = figures_of(judge(module, "test"))
    assert module.evaluated["test"].index.tolist() == list(range(67))
    module.evaluated["test"] = part(torch.arange(67), rows)
    assert several == figures_of(judge(module, "test"))
