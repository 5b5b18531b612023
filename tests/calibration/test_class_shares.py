"""Train rows beside validation rows of other class shares: how far logits shift, and which rows calibrators may see."""

from __future__ import annotations

import pytest
import torch

from lf_lightning.calibration import TemperatureScaling, share_shift, thinned_to

PRIOR = torch.tensor([0.5, 0.3, 0.15, 0.05])


def drawn(rows: int, seed: int, prior: torch.Tensor = PRIOR) -> torch.Tensor:
    return torch.multinomial(prior, rows, True, generator=torch.Generator().manual_seed(seed))


def test_the_shift_is_the_logarithm_of_the_ratio_of_shares() -> None:
    even, others = torch.arange(5).repeat_interleave(400), drawn(4000, 0)
    shift = share_shift(even, others, 5)
    assert shift is not None
    torch.testing.assert_close(shift[:4], (0.2 / PRIOR).log(), atol=0.1, rtol=0.0)
    assert 5 < shift[4] < 8  # nobody drew the fifth class: rare, not impossible


def test_rows_drawn_alike_have_no_shift() -> None:
    assert all(share_shift(drawn(400, 2 * seed), drawn(150, 2 * seed + 1), 4) is None for seed in range(20))
    assert share_shift(torch.arange(4).repeat_interleave(50), torch.full((60,), 2), 4) is None


def test_too_few_rows_of_every_class_tell_nothing_to_either() -> None:
    even, others = torch.arange(20).repeat_interleave(50), torch.arange(6).repeat_interleave(4)
    assert share_shift(even, others, 20) is None
    assert thinned_to(even, others, 0).all()
    nothing = torch.zeros(0, dtype=torch.long)
    assert share_shift(nothing, nothing, 20) is None
    assert thinned_to(nothing, nothing, 0).shape == (0,)


def test_rows_of_even_classes_are_thinned_to_the_shares_of_the_others() -> None:
    even, others = torch.arange(4).repeat_interleave(50), drawn(230, 0)
    kept = thinned_to(even, others, 3)
    counts, shares = torch.bincount(even[kept], minlength=4), torch.bincount(others, minlength=4) / 230
    assert counts[0] == 50  # as many as can be
    assert (counts / counts.sum() - shares).abs().max() < 0.02
    assert torch.equal(kept, thinned_to(even, others, 3))
    assert not torch.equal(kept, thinned_to(even, others, 4))


def test_rows_drawn_alike_all_stay() -> None:
    for seed in range(20):
        assert thinned_to(drawn(400, 2 * seed), drawn(150, 2 * seed + 1), 0).all()


@pytest.mark.parametrize("others", [torch.full((60,), 2), torch.tensor([0, 1, 2, 3])], ids=["one class", "few rows"])
def test_rows_that_tell_no_shares_leave_all(others: torch.Tensor) -> None:
    assert thinned_to(torch.arange(4).repeat_interleave(50), others, 0).all()


def test_a_class_that_only_the_others_have_empties_none() -> None:
    train, others = torch.tensor([0, 1]).repeat_interleave(50), drawn(230, 0)
    kept = thinned_to(train, others, 0)
    assert 0.55 < (train[kept] == 0).double().mean() < 0.7
    assert kept.sum() >= 60


def test_classes_that_the_others_lack_are_left_out() -> None:
    train = torch.arange(5).repeat_interleave(50)
    assert not thinned_to(train, drawn(230, 0), 0)[train == 4].any()


def test_calibration_on_thinned_rows_knows_the_shares() -> None:
    """Of opinions that are too sharp: their temperature is another on rows of other shares."""
    generator = torch.Generator().manual_seed(0)
    even, others = torch.arange(4).repeat_interleave(200), drawn(800, 1)

    def opinion(labels: torch.Tensor) -> torch.Tensor:
        exact = torch.eye(4)[labels] * 1.5 + torch.randn(len(labels), 4, generator=generator) + PRIOR.log()
        return 2 * exact  # too sharp

    logits, labels = opinion(even), even
    kept = thinned_to(labels, others, 0)
    right, wrong = TemperatureScaling(4, "multiclass"), TemperatureScaling(4, "multiclass")
    right.fit(logits[kept], labels[kept])
    wrong.fit(logits, labels)
    test_labels = drawn(4000, 2)
    test = opinion(test_labels)
    loss = [torch.nn.functional.cross_entropy(module(test), test_labels) for module in (right, wrong)]
    assert loss[0] < loss[1]
