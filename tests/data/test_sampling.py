from __future__ import annotations

import numpy as np
import pytest

from lf_lightning.data.sampling import LengthGroupedBatchSampler, OrderSampler, evaluation_order, training_batches

LENGTHS = np.random.default_rng(0).integers(4, 120, 5000)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 67, 1000])
@pytest.mark.parametrize("grouped", [True, False])
def test_ranks_share_the_rows_evenly(world: int, n: int, grouped: bool) -> None:
    rows = np.random.default_rng(1).permutation(5000)[:n]
    ranks = [training_batches(LENGTHS, rows, 16, 0, 0, rank, world, grouped) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {-(-n // (16 * world))}
    assert len({tuple(len(batch) for batch in batches) for batches in ranks}) == 1
    served = np.concatenate([batch for batches in ranks for batch in batches])
    assert set(served) == set(rows)
    assert len(served) == -(-n // world) * world  # so at most world - 1 rows come twice
    assert len(LengthGroupedBatchSampler(LENGTHS, rows, 16, 0, world=world)) == len(ranks[0])


def test_order_is_a_function_of_seed_and_epoch() -> None:
    rows = np.arange(500)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(training_batches(LENGTHS, rows, 8, seed, epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def padding(batches: list[np.ndarray]) -> float:
    real = sum(LENGTHS[batch].sum() for batch in batches)
    return float(1 - real / sum(LENGTHS[batch].max() * len(batch) for batch in batches))


def test_grouping_saves_padding_and_still_mixes_batches() -> None:
    rows = np.arange(5000)
    assert padding(training_batches(LENGTHS, rows, 16, 0, 0)) < 0.06
    assert padding(training_batches(LENGTHS, rows, 16, 0, 0, grouped=False)) > 0.3
    first = np.array([LENGTHS[batch].mean() for batch in training_batches(LENGTHS, rows, 16, 0, 0)])
    assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.2  # long batches do not come first

    def company(epoch: int) -> set[frozenset[int]]:
        return {frozenset(batch.tolist()) for batch in training_batches(LENGTHS, np.arange(200), 16, 0, epoch)}

    assert not company(0) & company(1)


def test_skip_leaves_out_consumed_batches_of_its_epoch_only() -> None:
    rows = np.arange(100)
    whole = [batch.tolist() for batch in LengthGroupedBatchSampler(LENGTHS, rows, 8, 0, epoch=3)]
    sampler = LengthGroupedBatchSampler(LENGTHS, rows, 8, 0, epoch=3, skip=5)
    assert len(sampler) == len(whole) == 13
    assert [batch.tolist() for batch in sampler] == whole[5:]
    sampler.set_epoch(3)
    assert [batch.tolist() for batch in sampler] == whole[5:]
    sampler.set_epoch(4)
    assert len(list(sampler)) == 13


@pytest.mark.parametrize(("n", "world"), [(67, 1), (67, 2), (1, 3), (2, 3), (6, 3)])
def test_evaluation_order_is_even_and_complete(n: int, world: int) -> None:
    rows = np.arange(n)
    shares = [evaluation_order(LENGTHS, rows, rank, world) for rank in range(world)]
    assert {len(share) for share in shares} == {-(-n // world)}
    assert set(np.concatenate(shares)) == set(range(n))
    assert (np.diff(LENGTHS[shares[0]]) <= 0).all()
    assert evaluation_order(LENGTHS, rows[::-1], grouped=False).tolist() == rows[::-1].tolist()


def test_order_sampler_serves_its_order() -> None:
    sampler = OrderSampler(np.array([3, 1, 2]))
    assert list(sampler) == list(sampler) == [3, 1, 2]
    assert len(sampler) == 3
