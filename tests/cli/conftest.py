from __future__ import annotations

import shutil
import sys
from pathlib import Path

import lightning.pytorch  # noqa: F401  its log handler keeps the stderr of its import, which a test may have captured and closed
import pytest

from lf_lightning import imports

CONFIG = """\
seed_everything: 3
trainer:
  max_epochs: 2
  accelerator: cpu
  devices: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - small_system.SmallCheckpoint
model:
  class_path: small_system.SmallModule
  init_args:
    encoder: bert-of-the-config
data:
  class_path: small_system.SmallData
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a user's module and `small.yaml`; what `--allow-imports` changes is undone afterwards."""
    shutil.copy(Path(__file__).with_name("small_system.py"), tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(imports, "_allowed", list(imports.allowed()))
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return tmp_path
