"""The quick start over five seeds: configs/quickstart.yaml as it is, with other labelled rows and other initial weights.

    python -m benchmarks.quickstart

The test rows are the same for every seed (`split_seed` stays); the 8 labels per class are not.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks import record
from benchmarks.fits import Fit, fit, seeded, table
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.packaged import configs_folder
from lf_lightning.systems import FusionLightningModule


def quickstart(seed: int) -> tuple[ScoredTextDataModule, FusionLightningModule]:
    """Returns the data and the model that `lf fit --config quickstart.yaml` makes, with another seed."""
    config: dict[str, Any] = yaml.safe_load((configs_folder() / "quickstart.yaml").read_text(encoding="utf-8"))
    data_arguments, model_arguments = config["data"]["init_args"], config["model"]["init_args"]
    data = ScoredTextDataModule(**{**data_arguments, "seed": seed, "tokenizer": model_arguments["encoder"]})
    model = FusionLightningModule(data.labels, data.task, data.scorer_names, **{**model_arguments, "seed": seed})
    return data, model


def main() -> None:
    """Runs all seeds, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quickstart.json"))
    options = parser.parse_args()
    fits: list[Fit] = []
    labelled: dict[str, int] = {}
    seconds = []
    for seed in options.seeds:
        seeded(seed)
        start = time.perf_counter()
        data, model = quickstart(seed)
        fits.append(fit(data, model))
        labelled = {split: data.summary[split]["labelled"] for split in ("train", "validation")}
        seconds.append(time.perf_counter() - start)
        shown = {row: f"{(p.argmax(1) == fits[-1].labels).mean():.3f}" for row, p in fits[-1].test.items()}
        print(f"seed {seed}: {shown} in {seconds[-1]:.0f} s", flush=True)
    sets = {"bbc_news": {**table(fits), "labelled_rows": labelled}}
    record.write(
        options.out,
        f"What the quick start reaches on BBC News with {labelled['train']} labelled train and {labelled['validation']} "
        "labelled validation rows.",
        {"sets": sets, "seconds_per_seed": sorted(seconds)[len(seconds) // 2]},
        "python -m benchmarks.quickstart",
        options.seeds,
    )


if __name__ == "__main__":
    main()
