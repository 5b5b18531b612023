"""The history against numpy over whole series; across processes; and what it weighs."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lf_lightning.dynamics import History

N, NETS, EPOCHS = 37, 2, 6


def series(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((EPOCHS, N, NETS)).astype(np.float32)


def tell(history: History, values: np.ndarray, batch: int = 5) -> None:
    order = np.random.default_rng(1).permutation(len(values))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        history.update(torch.from_numpy(rows), torch.from_numpy(values[rows]))


def test_mean_and_population_deviation_are_numpys() -> None:
    history, told = History(N, NETS), series()
    for epoch in told:
        tell(history, epoch)
        np.testing.assert_allclose(history.end_epoch().numpy(), epoch, rtol=1e-6)
    np.testing.assert_allclose(history.confidence.numpy(), told.astype(float).mean(0), rtol=1e-5)
    np.testing.assert_allclose(history.deviation.numpy(), told.astype(float).std(0), rtol=1e-4)


def test_a_tiny_deviation_is_not_lost_to_rounding() -> None:
    history = History(N, NETS)
    told = (0.999 + 1e-5 * series()).astype(np.float32)
    for epoch in told:
        history.take_in(torch.from_numpy(epoch))
    # Sums of squares in single precision would be wrong by 1e-4 and more, ten times the deviation itself.
    np.testing.assert_allclose(history.deviation.numpy(), told.astype(float).std(0), atol=3e-8)


def test_rows_that_come_twice_count_once_and_rows_that_do_not_come_keep_what_they_had() -> None:
    history, told = History(N, NETS), series()
    history.take_in(torch.from_numpy(told[0]))
    history.update(torch.tensor([3, 4, 3]), torch.from_numpy(told[1][[3, 4, 3]]))
    latest = history.end_epoch()
    assert latest.isfinite().all(1).nonzero().flatten().tolist() == [3, 4]
    expected = told[0].copy()
    expected[[3, 4]] = told[:2].mean(0)[[3, 4]]
    np.testing.assert_allclose(history.confidence.numpy(), expected, rtol=1e-6)
    assert history.epochs.tolist() == [2 if row in (3, 4) else 1 for row in range(N)]


def test_unknown_rows_are_nan_not_zero() -> None:
    history = History(N, NETS)
    assert history.confidence.isnan().all()
    history.update(torch.tensor([0]), torch.zeros(1, NETS))
    assert history.end_epoch()[0].tolist() == [0.0, 0.0]
    assert history.confidence[0].tolist() == [0.0, 0.0]
    assert history.confidence[1:].isnan().all()


def test_kept_and_restored_within_an_epoch_it_goes_on_bit_for_bit() -> None:
    told = series()
    whole, first, second = History(N, NETS), History(N, NETS), History(N, NETS)
    for history in (whole, first):
        history.take_in(torch.from_numpy(told[0]))
        history.update(torch.arange(10), torch.from_numpy(told[1][:10]))
    second.restore(first.kept())
    for history in (whole, second):
        history.update(torch.arange(10, N), torch.from_numpy(told[1][10:]))
        history.end_epoch()
        history.take_in(torch.from_numpy(told[2]))
    assert torch.equal(whole.mean, second.mean)
    assert torch.equal(whole.squares, second.squares)


def test_an_epoch_whose_every_batch_came_before_the_restart_is_taken_in() -> None:
    first, second = History(N, NETS), History(N, NETS)
    tell(first, series()[0])
    second.restore(first.kept())
    np.testing.assert_allclose(second.end_epoch().numpy(), series()[0], rtol=1e-6)


@pytest.mark.parametrize("nets", [1, 2])
def test_a_million_rows_weigh_24_bytes_a_row_and_net_at_most(nets: int) -> None:
    def weight(rows: int) -> int:
        history = History(rows, nets)
        tensors = [*vars(history).values(), *history.metric_state.values(), *history._defaults.values()]
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if isinstance(t, torch.Tensor)
        }
        return sum(storages.values())

    assert weight(1_000_000) / 1_000_000 / nets == {1: 20, 2: 18}[nets] <= 24
    assert weight(1_000_000) == 10 * weight(100_000)


@pytest.mark.slow
def test_two_processes_hold_the_history_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    np.save(tmp_path / "told.npy", series())
    script = str(Path(__file__).with_name("two_processes.py"))
    words = [[sys.executable, script, str(rank), str(port), str(tmp_path)] for rank in (0, 1)]
    processes = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for line in words]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    single = History(N, NETS)
    for epoch in series():
        tell(single, epoch)
        single.end_epoch()
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name in ("mean", "squares"):
        assert torch.equal(ranks[0][name], ranks[1][name])
        torch.testing.assert_close(ranks[0][name], getattr(single, name))
    assert ranks[0]["under way"][:2].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert [int(rank["times"][0]) for rank in ranks] == [1, 0]  # not once for each process
