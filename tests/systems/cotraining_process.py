"""What the tests of co-training do in another process.

`python tests/systems/cotraining_process.py resume JOBS OUT`: ends interrupted fits; JOBS is a JSON list of
`{"world", "checkpoint", "model"}`, OUT gets what each left. `... ddp WORLD OUT`: fits in two processes, each of which leaves
OUT/rank0.pt or OUT/rank1.pt.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch


def resume(jobs: str, out: str) -> None:
    from cotraining_parts import fit_pair, state_of  # a script finds its neighbours by their bare names

    torch.manual_seed(99)  # where the random state stood plays no part
    results = []
    for number, job in enumerate(json.loads(Path(jobs).read_text(encoding="utf-8"))):
        root = Path(out).with_suffix(f".{number}")
        results.append(state_of(fit_pair(job["world"], root, ckpt_path=job["checkpoint"], last=0, **job["model"])))
    torch.save(results, out)


def ddp(world: str, out: str) -> None:
    from cotraining_parts import fit_pair, state_of

    warnings.filterwarnings("ignore")
    options: dict[str, Any] = {"dropout": 0.0, "trainer": {"devices": 2, "strategy": "ddp"}, "data": {"batch_size": 4}}
    result: dict[str, Any] = {}
    for record in ("training", "pass"):
        module = fit_pair(world, Path(out) / record, last=0, record=record, **options)
        result[record] = state_of(module)
    try:
        strategy = {"devices": 2, "strategy": "ddp_find_unused_parameters_false"}
        fit_pair(world, Path(out) / "refused", **{**options, "trainer": strategy})
    except ValueError as error:
        result["refused"] = str(error)
    torch.save(result, Path(out) / f"rank{module.global_rank}.pt")


if __name__ == "__main__":
    {"resume": resume, "ddp": ddp}[sys.argv[1]](*sys.argv[2:])
