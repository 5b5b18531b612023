"""Each weighting against its formula, unknown rows, and what none may do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lf_lightning.dynamics import (
    AreaUnderMargin,
    CleanlabPruning,
    Confidence,
    Dynamics,
    Halves,
    SmallLoss,
    StatedConfidence,
    SwappedDynamics,
    Uniform,
    Weighting,
    swapped_weights,
)
from lf_lightning.errors import ConfigurationError, NotFiniteError

N, K = 60, 3


def seen(unknown: int = 0, nets: int = 2, **other: Any) -> Dynamics:
    draw = torch.Generator().manual_seed(0)
    confidence, variability = torch.rand(N, nets, generator=draw), 0.3 * torch.rand(N, nets, generator=draw)
    latest = torch.rand(N, nets, generator=draw)
    confidence[:unknown] = latest[:unknown] = torch.nan
    values: dict[str, Any] = {
        "confidence": confidence,
        "variability": variability,
        "latest": latest,
        "stated": torch.rand(N, generator=draw),
        "half": torch.arange(N) % 3 - 1,
        "progress": 0.5,
        "labels": torch.arange(N) % K,
    }
    return Dynamics(**{**values, **other})


def test_each_is_its_formula() -> None:
    known = seen()
    c = known.confidence
    assert torch.equal(Uniform()(known), torch.ones(N, 2))
    assert torch.equal(SwappedDynamics()(known), swapped_weights(c, known.variability))
    assert torch.equal(Confidence()(known), c[:, [1, 0]])
    assert torch.equal(StatedConfidence()(known), known.stated[:, None].repeat(1, 2))
    torch.testing.assert_close(AreaUnderMargin(2.0)(known), torch.sigmoid(2 * c[:, [1, 0]]))


def test_halves_share_out_the_gold_rows_and_weigh_1_on_average() -> None:
    half = torch.arange(N) % 3 - 1
    half[1] = 1  # 19 rows and 21
    weights = Halves()(seen(half=half))
    assert weights[half == -1].sum() == 0  # no half: no gold row
    torch.testing.assert_close(weights[half == 0], torch.tensor([[40 / 19, 0.0]]).expand(19, 2))
    torch.testing.assert_close(weights[half == 1], torch.tensor([[0.0, 40 / 21]]).expand(21, 2))
    torch.testing.assert_close(weights[half >= 0].mean(0), torch.ones(2))


def test_small_loss_keeps_what_the_other_net_finds_likely() -> None:
    known = seen(unknown=10)
    weights = SmallLoss(forget=0.4, ramp=1.0)(known)  # half of the epochs are over: a fifth of 50 rows goes
    for net, peer in ((0, 1), (1, 0)):
        column = weights[10:, net]
        assert int((column == 0).sum()) == 10
        latest = known.latest[10:, peer]
        assert latest[column == 0].max() < latest[column == 1].min()
    assert (weights[:10] == 1).all()
    assert (SmallLoss()(seen(progress=0.0)) == 1).all()


@pytest.mark.parametrize(
    "weighting", [SwappedDynamics(), SwappedDynamics("rescale"), Confidence(), AreaUnderMargin(), SmallLoss()]
)
def test_rows_of_which_nothing_is_known_count_1(weighting: Weighting) -> None:
    weights = weighting(seen(unknown=7))
    assert (weights[:7] == 1).all()
    assert weights.isfinite().all()
    assert weights[7:].std() > 0


def test_no_weight_is_negative_but_with_clamp_none() -> None:
    low = seen(confidence=torch.full((N, 2), 0.05), variability=torch.full((N, 2), 0.2))
    assert SwappedDynamics()(low).min() == 0
    assert SwappedDynamics("none")(low).min() == pytest.approx(-0.15)


def test_even_labels_give_each_label_the_mean_weight_1() -> None:
    known = seen(unknown=5)
    labels = torch.where(torch.arange(N) < 50, 0, 1)  # the second label is rare, and the nets are less sure of it
    labels[-2:] = -1
    low = known._replace(
        confidence=torch.where((labels == 1)[:, None], 0.3 * known.confidence, known.confidence), labels=labels
    )
    plain, even = SwappedDynamics()(low), SwappedDynamics(even_labels=True)(low)
    assert plain[50:58].mean() < 0.7 * plain[5:50].mean()
    for rows in (slice(5, 50), slice(50, 58)):
        torch.testing.assert_close(even[rows].mean(0), torch.ones(2))
        ratio = even[rows] / plain[rows]
        kept = plain[rows] > 0
        for k in (0, 1):
            own = ratio[kept[:, k], k]
            torch.testing.assert_close(own, own[:1].expand_as(own))
    assert (even[:5] == 1).all()
    assert torch.equal(even[-2:], plain[-2:])


def test_cleanlab_finds_flipped_labels() -> None:
    pytest.importorskip("cleanlab")
    truth = torch.arange(N) % K
    labels = truth.clone()
    labels[:9] = (labels[:9] + 1) % K
    p = 0.1 + 0.7 * torch.nn.functional.one_hot(truth, K).float()
    p = (p / p.sum(-1, keepdim=True)).unsqueeze(1).repeat(1, 2, 1)
    p[-5:] = torch.nan
    weights = CleanlabPruning()(seen(labels=labels, probabilities=p))
    assert (weights[:9] == 0).all()
    assert (weights[9:] == 1).all()
    with pytest.raises(ConfigurationError, match="one hard label"):
        CleanlabPruning()(seen())


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="two nets"):
        SwappedDynamics()(seen(nets=1))
    with pytest.raises(ConfigurationError, match="forget=1"):
        SmallLoss(forget=1.0)
    with pytest.raises(ConfigurationError, match="clamp='zer'"):
        SwappedDynamics("zer")  # type: ignore[arg-type]

    class Endless(Weighting):
        def weigh(self, seen: Dynamics) -> torch.Tensor:
            return seen.confidence / 0

    with pytest.raises(NotFiniteError, match="Endless"):
        Endless()(seen())
