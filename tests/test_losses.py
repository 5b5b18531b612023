from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lf_lightning.errors import ConfigurationError
from lf_lightning.losses import (
    Asymmetric,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    RowLoss,
    asymmetric,
    binary_cross_entropy,
    cross_entropy,
    focal,
    labelled,
    mean_over_labelled,
)

G = torch.Generator().manual_seed(0)
Z = torch.randn(12, 4, generator=G, dtype=torch.float64) * 3
CLASSES = torch.randint(0, 4, (12,), generator=G)
TABLE = torch.randint(0, 2, (12, 4), generator=G).double()
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
BOTH: list[tuple[RowLoss, Tensor]] = [
    (CrossEntropy(), CLASSES),
    (CrossEntropy(0.1), CLASSES),
    (Focal(), CLASSES),
    (Focal(0.5), CLASSES),
    (BinaryCrossEntropy(), TABLE),
    (Focal(), TABLE),
    (Focal(0.5), TABLE),
    (Asymmetric(), TABLE),
    (Asymmetric(0.5, 0.5, 0.0), TABLE),
    (Asymmetric(1.0, 0.5, 0.2), TABLE),
]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_the_formula(smoothing: float) -> None:
    target = (1 - smoothing) * F.one_hot(CLASSES, 4) + smoothing / 4
    expected = -(target * WEIGHT * torch.log(Z.softmax(-1))).sum(-1)
    torch.testing.assert_close(cross_entropy(Z, CLASSES, WEIGHT, smoothing), expected)


def test_binary_cross_entropy_is_the_formula() -> None:
    p = Z.sigmoid()
    expected = -(WEIGHT * TABLE * p.log() + (1 - TABLE) * (1 - p).log()).mean(-1)
    torch.testing.assert_close(binary_cross_entropy(Z, TABLE, WEIGHT), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_the_formula(gamma: float) -> None:
    p_y = Z.softmax(-1).gather(1, CLASSES[:, None])[:, 0]
    torch.testing.assert_close(focal(Z, CLASSES, WEIGHT, gamma), -WEIGHT[CLASSES] * (1 - p_y) ** gamma * p_y.log())
    p_t = torch.where(TABLE == 1, Z.sigmoid(), 1 - Z.sigmoid())
    w = torch.where(TABLE == 1, WEIGHT, 1.0)
    torch.testing.assert_close(focal(Z, TABLE, WEIGHT, gamma), -(w * (1 - p_t) ** gamma * p_t.log()).mean(-1))


def test_focal_with_gamma_0_is_the_cross_entropy() -> None:
    torch.testing.assert_close(focal(Z, CLASSES, WEIGHT, 0.0), cross_entropy(Z, CLASSES, WEIGHT))
    torch.testing.assert_close(focal(Z, TABLE, WEIGHT, 0.0), binary_cross_entropy(Z, TABLE, WEIGHT))


def test_asymmetric_is_the_formula() -> None:
    p = Z.sigmoid()
    q = (p - 0.05).clamp(min=0)
    expected = -(WEIGHT * TABLE * (1 - p) * p.log() + (1 - TABLE) * q**4 * (1 - q).log()).mean(-1)
    torch.testing.assert_close(asymmetric(Z, TABLE, WEIGHT, 1.0, 4.0, 0.05), expected)
    torch.testing.assert_close(asymmetric(Z, TABLE, WEIGHT, 0.0, 0.0, 0.0), binary_cross_entropy(Z, TABLE, WEIGHT))


@pytest.mark.parametrize(("loss", "labels"), BOTH)
def test_gradients_are_those_of_finite_differences(loss: RowLoss, labels: Tensor) -> None:
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, WEIGHT), (z,))


@pytest.mark.parametrize(("loss", "labels"), BOTH)
def test_extreme_logits_give_finite_losses_and_gradients(loss: RowLoss, labels: Tensor) -> None:
    z = (torch.eye(4).repeat(3, 1) * 2e4 - 1e4).requires_grad_()
    losses = loss(z, labels.float() if labels.ndim == 2 else labels)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(("loss", "labels"), BOTH)
def test_unlabelled_rows_cost_nothing_and_move_nothing(loss: RowLoss, labels: Tensor) -> None:
    some = labels.clone()
    some[3] = -1 if labels.ndim == 1 else torch.nan
    z = Z.float().requires_grad_()
    losses = loss(z, some, WEIGHT.float())
    assert losses.dtype == torch.float32
    assert losses[3] == 0
    assert loss.labelled(some).tolist() == [i != 3 for i in range(12)]
    mean = mean_over_labelled(losses, some)
    torch.testing.assert_close(mean, losses[labelled(some)].mean())
    mean.backward()
    assert z.grad is not None
    assert (z.grad[3] == 0).all()
    assert (z.grad[4] != 0).any()
    torch.testing.assert_close(losses[4:], loss(Z.float(), labels, WEIGHT.float())[4:])


@pytest.mark.parametrize(("loss", "labels"), BOTH)
def test_a_batch_without_a_label_gives_zero_and_can_be_stepped(loss: RowLoss, labels: Tensor) -> None:
    z = Z.float().requires_grad_()
    mean = mean_over_labelled(loss(z, torch.full_like(labels, -1 if labels.ndim == 1 else torch.nan)), torch.full((12,), -1))
    mean.backward()
    assert mean == 0
    assert z.grad is not None
    assert (z.grad == 0).all()


@pytest.mark.parametrize(("loss", "labels"), BOTH)
def test_bf16_logits_are_computed_in_float32(loss: RowLoss, labels: Tensor) -> None:
    half = Z.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = loss(half, labels.float() if labels.ndim == 2 else labels, WEIGHT.bfloat16())
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, loss(half.float(), labels, WEIGHT.float()))


def test_integer_tables_are_taken() -> None:
    torch.testing.assert_close(binary_cross_entropy(Z, TABLE.long()), binary_cross_entropy(Z, TABLE))


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="cross_entropy takes labels of shape"):
        cross_entropy(Z, TABLE)
    with pytest.raises(ConfigurationError, match="CrossEntropy or Focal"):
        binary_cross_entropy(Z, CLASSES)
    with pytest.raises(ConfigurationError, match="asymmetric"):
        asymmetric(Z, CLASSES)
    with pytest.raises(ConfigurationError, match="label_smoothing=1"):
        CrossEntropy(1.0)
    with pytest.raises(ConfigurationError, match="gamma=-1"):
        Focal(-1.0)
