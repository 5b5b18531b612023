"""What the tests do in a process of its own: `python tests/systems/new_process.py JOBS OUT`.

JOBS is a JSON file with a list of jobs: `{"resume": CHECKPOINT, "model": {...}}` ends an interrupted fit, and
`{"load": CHECKPOINT}` reads a checkpoint without its encoder's folder. OUT gets what each left, by number.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from lf_lightning.systems.fusion import FusionLightningModule


def main(jobs_file: str, out: str) -> None:
    from parts import final_state, fit, test_logits  # a script finds its neighbours by their bare names

    torch.manual_seed(99)  # where the random state stood plays no part
    results = []
    for number, job in enumerate(json.loads(Path(jobs_file).read_text(encoding="utf-8"))):
        root = Path(out).with_suffix(f".{number}")
        if "resume" in job:
            module = fit(job["world"], root, ckpt_path=job["resume"], last=0, **job["model"])
            results.append(final_state(job["world"], root, module))
        else:
            loaded = FusionLightningModule.load_from_checkpoint(job["load"])
            results.append({"test_logits": test_logits(job["world"], root, loaded)})
    torch.save(results, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
