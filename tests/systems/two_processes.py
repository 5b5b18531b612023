"""Done in two processes: `python tests/systems/two_processes.py WORLD CHECKPOINT OUT`; Lightning starts the second.

Each process leaves OUT/rank0.pt or OUT/rank1.pt; the tables of predictions are in OUT.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from lf_lightning.callbacks import WritePredictions
from lf_lightning.errors import ConfigurationError

TWO = {"devices": 2, "strategy": "ddp"}


def main(world: str, checkpoint: str, out: str) -> None:
    from parts import data_of, evaluated, model_of, trained, trainer_of  # a script finds its neighbours by their bare names

    warnings.filterwarnings("ignore")
    folder = Path(out)
    one_row = str(Path(world) / "one.csv")
    result: dict[str, Any] = {"test": evaluated(world, checkpoint, folder / "test", TWO)}
    result["one row"] = evaluated(world, checkpoint, folder / "one", TWO, test=one_row)
    rows = data_of(world, predict=one_row, on_missing="mask")
    module = model_of(world, rows)
    runner = trainer_of(folder / "predict", [WritePredictions()], **TWO)
    runner.predict(module, rows, ckpt_path=checkpoint, return_predictions=False, weights_only=True)
    for evidence in ("crossfit", "holdout", "joint"):
        # Half the batch on each of two devices; the last batches are uneven.
        options = {"evidence": evidence, "dropout": 0.0, "score_dropout": 0.0, "data": {"batch_size": 4}}
        result[evidence] = trained(world, folder / evidence, TWO, **options)
    try:
        trained(world, folder, {"devices": 2, "strategy": "ddp_find_unused_parameters_false"})
    except ConfigurationError as error:
        result["refused"] = str(error)
    torch.save(result, folder / f"rank{runner.global_rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
