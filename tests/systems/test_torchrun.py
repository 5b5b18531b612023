"""`torchrun -m lf_lightning` on two CPU processes (gloo), as docs/scale.md has it; its SLURM script, held against itself."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
CONFIG = """\
seed_everything: 1
trainer: {{accelerator: cpu, enable_progress_bar: false, enable_model_summary: false, logger: false}}
data:
  train: {world}/train.csv
  validation: {world}/validation.csv
  test: {world}/test.csv
  scores: {world}/scores
  batch_size: 4
  max_length: 24
model: {{encoder: {world}/encoder, folds: 2, encoder_epochs: 1, head_epochs: 1, encoder_lr: 0.001}}
"""


def run(words: list[str], folder: Path, variables: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "RANK")} | variables
    done = subprocess.run(
        words,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=540,  # a deadlock must not stop the tests for ever
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def measured(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The metrics of the test rows, and their predictions."""
    run_folder = folder / "runs" / "two"
    results = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))
    return results["metrics"]["test"], pd.read_csv(run_folder / "predictions_test.csv")


@pytest.mark.slow
def test_a_fit_and_a_test_by_torchrun(world: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG.format(world=world), encoding="utf-8")
    (block,) = [found for found in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if found.startswith("export LF_RUN_DIR")]
    export, fit, test, alone = (shlex.split(line) for line in block.splitlines())
    assert (fit[0], test[0], alone[0]) == ("torchrun", "torchrun", "lf")
    folder = dict([export[1].split("=")])
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    run([*torchrun, *fit[1:]], tmp_path, folder)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["two"]
    run([*torchrun, *test[1:]], tmp_path, folder)
    metrics, predictions = measured(tmp_path)
    run([sys.executable, "-m", "lf_lightning", *alone[1:]], tmp_path, folder)
    expected, of_one = measured(tmp_path)
    assert len(predictions) == 67
    assert metrics.keys() == expected.keys()
    for name, figures in expected.items():
        assert metrics[name] == pytest.approx(figures, abs=1e-6), name
    pd.testing.assert_frame_equal(predictions, of_one, atol=2e-4)


def test_the_slurm_script_agrees_with_itself(tmp_path: Path) -> None:
    (script,) = [found for found in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if found.startswith("#!")]
    (tmp_path / "fit.slurm").write_text(script, encoding="utf-8")
    subprocess.run(["bash", "-n", str(tmp_path / "fit.slurm")], check=True)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.MULTILINE))
    (line,) = [line for line in script.splitlines() if line.startswith("srun")]
    words = shlex.split(line)
    given = {words[place].removeprefix("--trainer."): words[place + 1] for place in range(3, len(words), 2)}
    assert asked["nodes"] == given["num_nodes"]
    assert asked["ntasks-per-node"] == asked["gpus-per-node"] == given["devices"]
    assert script.index("export LF_RUN_DIR") < script.index("srun")
    from lf_lightning import cli

    (tmp_path / "mine.yaml").write_text(CONFIG.format(world=tmp_path), encoding="utf-8")
    words[words.index("mine.yaml")] = str(tmp_path / "mine.yaml")
    assert cli.main([*words[2:], "--print_config"]) == 0
