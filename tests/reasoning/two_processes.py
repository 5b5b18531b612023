"""Done in two processes: `python tests/reasoning/two_processes.py WORLD LM OUT`; Lightning starts the second."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch

TWO: dict[str, Any] = {"devices": 2, "strategy": "ddp"}


def main(world: str, lm: str, out: str) -> None:
    from parts import answered, fit  # a script finds its neighbours by their bare names

    warnings.filterwarnings("ignore")
    result: dict[str, Any] = {}
    for layout in ("label", "reason_label"):
        root = Path(out) / layout
        module = fit(world, lm, root, layout=layout, trainer=TWO, data={"batch_size": 4}, epochs=2, schedule="constant")
        result[layout] = answered(module, world, lm, root, TWO)
        rank = module.global_rank
    torch.save(result, Path(out) / f"rank{rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
