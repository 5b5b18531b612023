"""One of two processes that share a history: `python tests/dynamics/two_processes.py RANK PORT FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

from lf_lightning.dynamics import History


def main(rank: int, port: str, folder: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    told = np.load(folder / "told.npy")
    _, n, nets = told.shape
    history = History(n, nets)
    order = np.random.default_rng(5).permutation(n)
    padded = np.concatenate([order, order[:1]])  # an odd number of rows on two ranks: one comes twice
    for epoch in told:
        for rows in np.array_split(padded[rank::2], 4):
            history.update(torch.from_numpy(rows), torch.from_numpy(epoch[rows]))
        history.end_epoch()
    # An epoch that was under way when the first process saved it: the second must not add it again.
    history.update(torch.tensor([0, 1]), torch.ones(2, nets))
    again = History(n, nets)
    again.restore(history.kept())
    said = {"mean": history.mean, "squares": history.squares, "under way": again.compute(), "times": again.times}
    torch.save(said, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
