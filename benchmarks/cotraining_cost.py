"""What co-training's history and weights cost: time beside two nets without them, and memory at a million rows.

    python -m benchmarks.cotraining_cost

Both sides train the same two encoders on the same batches of BBC News; they take turns, batch by batch, on one core.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from benchmarks import record
from benchmarks.cotraining_cell import ENCODER
from benchmarks.cotraining_noise import data_of, noisy_store
from benchmarks.turns import Turns, take_turns
from lf_lightning.contract import Batch
from lf_lightning.dynamics import History
from lf_lightning.losses import cross_entropy
from lf_lightning.systems import ClassifierModule, CoTrainingLightningModule


class TwoNets(CoTrainingLightningModule):
    """The same nets, rows and steps without history and weights."""

    def _begin_phase_if_due(self) -> None:
        ClassifierModule._begin_phase_if_due(self)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the sum of two mean losses."""
        labels = self.rows.labels[batch["index"].cpu()].to(self.device)
        each = [cross_entropy(z, labels).mean() for z in self.nets.logits(batch, "train").unbind(1)]
        return {"loss": each[0] + each[1]}


class Timed(Callback):
    """Tells a side of the comparison where passes begin and batches end.

    Args:
        side: Filled in once it is known.
    """

    def __init__(self) -> None:
        self.side: Turns | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A pass begins; what the module does at an epoch's start counts."""
        assert self.side is not None
        self.side.begin()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any) -> None:
        """A batch is done."""
        assert self.side is not None
        self.side.batch(len(batch["index"]), bool(trainer.is_last_batch))


def side_of(kind: type[CoTrainingLightningModule], epochs: int, batches: int, store: Path) -> Turns:
    """Returns a side that fits `epochs` epochs of co-training, of so many batches each."""
    timed = Timed()

    def work(turns: Turns) -> None:
        timed.side = turns
        data = data_of(store, 0)
        module = kind(
            data.labels,
            scorers=data.scorer_names,
            encoder=ENCODER,
            weights_epochs=0,
            cotrain_epochs=epochs,
            finetune_epochs=0,
        )
        with tempfile.TemporaryDirectory() as folder:
            Trainer(
                max_epochs=-1,
                default_root_dir=folder,
                accelerator="cpu",
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
                limit_train_batches=batches,
                limit_val_batches=0,
                use_distributed_sampler=False,
                callbacks=[timed],
            ).fit(module, data)

    return Turns(work)


def memory(rows: int, nets: int) -> float:
    """Returns bytes a row and net of a history."""
    history = History(rows, nets)
    tensors = [*vars(history).values(), *history.metric_state.values(), *history._defaults.values()]
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if isinstance(t, Tensor)}
    return sum(held.values()) / rows / nets


def main() -> None:
    """Measures, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="at least 2: the first warms up")
    parser.add_argument("--batches", type=int, default=8, help="of an epoch")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cotraining_cost.json"))
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error(f"--epochs {options.epochs}: the first warms up, so at least 2")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "scores"
        noisy_store(store, 0.2, 0)
        sides = [side_of(kind, options.epochs, options.batches, store) for kind in (CoTrainingLightningModule, TwoNets)]
        take_turns(sides, options.epochs * options.batches, 0)
    # Processor time of the passes after the first: other work on the machine does not count.
    used = [np.array([cpu for _, _, cpu in side.passes]) for side in sides]
    ratios = used[0][1:] / used[1][1:]
    figures = {
        "extra_time": float(np.median(ratios) - 1),
        "extra_time_of_each_epoch": [float(ratio - 1) for ratio in ratios],
        "cpu_seconds_an_epoch": {name: float(np.median(u[1:])) for name, u in zip(("weighted", "plain"), used, strict=True)},
        "bytes_a_row_and_net": {f"{rows} rows, {nets} nets": memory(rows, nets) for rows in (10**4, 10**6) for nets in (1, 2)},
    }
    print(figures)
    claim = (
        f"History and weights add {100 * figures['extra_time']:.1f} % to the time of training two nets, "  # type: ignore[operator]
        f"and {memory(10**6, 2):.0f} bytes a row and net at 1,000,000 rows."
    )
    command = f"python -m benchmarks.cotraining_cost --epochs {options.epochs} --batches {options.batches}"
    record.write(options.out, claim, figures, command, [0])


if __name__ == "__main__":
    main()
