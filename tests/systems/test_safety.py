"""A checkpoint is tensors and plain values: what was planted in one is refused before it runs or is imported."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lf_lightning import cli, imports
from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.errors import ConfigurationError
from lf_lightning.systems.fusion import FusionLightningModule
from tests.systems.parts import fit

Plant = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def checkpoint(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("safety")
    fit(world, folder, last=0, evidence="joint")
    return folder / "checkpoints/last.ckpt"


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a mark when it is imported; returns the mark's path."""
    mark = tmp_path / "ran"
    (tmp_path / "planted_module.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
        "from lf_lightning.heads import AverageFusion\nclass Head(AverageFusion): pass\n"
        "def call(*a, **k): return None\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "_allowed", list(imports.allowed()))
    monkeypatch.delitem(sys.modules, "planted_module", raising=False)
    return mark


def planted(checkpoint: Path, folder: Path, plant: Plant) -> Path:
    kept = torch.load(checkpoint, weights_only=True)
    plant(kept)
    torch.save(kept, folder / "planted.ckpt")
    return folder / "planted.ckpt"


def set_hyper(name: str, value: Any) -> Plant:
    return lambda kept: kept["hyper_parameters"].__setitem__(name, value)


PLANTS: dict[str, Plant] = {
    "a class": set_hyper("head", {"class_path": "planted_module.Head"}),
    "a class as text": set_hyper("head", "planted_module.Head"),
    "a function as text": set_hyper("calibrator", "planted_module.call"),
    "a class within": set_hyper(
        "head", {"class_path": "lf_lightning.heads.FusionMLP", "init_args": {"hidden": [{"class_path": "planted_module.Head"}]}}
    ),
    "a class as text within": set_hyper(
        "loss", {"class_path": "lf_lightning.losses.Focal", "init_args": {"gamma": "planted_module.call"}}
    ),
    "a class in plain values": set_hyper("encoder_config", {"model_type": "bert", "x": {"class_path": "planted_module.Head"}}),
    "an allowed class in plain values": set_hyper("encoder_config", {"class_path": "torch.nn.Linear"}),
    "the module's class": set_hyper("_class_path", "planted_module.Head"),
    "the instantiator": set_hyper("_instantiator", "planted_module.call"),
    "a config file": set_hyper("head", "head.yaml"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_class_is_never_imported(name: str, checkpoint: Path, canary: Path, tmp_path: Path) -> None:
    (tmp_path / "head.yaml").write_text("class_path: planted_module.Head\n", encoding="utf-8")
    file = planted(checkpoint, tmp_path, PLANTS[name])
    with pytest.raises((ConfigurationError, ValueError)):
        FusionLightningModule.load_from_checkpoint(file)
    assert not canary.exists()
    assert "planted_module" not in sys.modules


def test_what_the_user_allows_is_loaded(checkpoint: Path, canary: Path, tmp_path: Path) -> None:
    file = planted(checkpoint, tmp_path, PLANTS["a class"])
    kept = torch.load(file, weights_only=True)
    kept["state_dict"] = {name: value for name, value in kept["state_dict"].items() if not name.startswith("head.")}
    torch.save(kept, file)
    with pytest.raises(ConfigurationError, match="lf --allow-imports planted_module"):
        FusionLightningModule.load_from_checkpoint(file)
    imports.allow(["planted_module"])
    limit_imports()  # as `lf` does
    loaded = FusionLightningModule.load_from_checkpoint(file)
    assert canary.exists()
    assert type(loaded.head).__name__ == "Head"


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("where", ["hyper_parameters", "evidence", "callbacks", "whole file"])
def test_a_planted_pickle_never_runs(where: str, checkpoint: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    if where == "whole file":
        file = tmp_path / "planted.ckpt"
        file.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        file = planted(checkpoint, tmp_path, lambda kept: kept[where].__setitem__("x", Bomb(mark)))
    refused = (pickle.UnpicklingError, RuntimeError)  # the second: no file of torch.save
    with pytest.raises(refused):
        FusionLightningModule.load_from_checkpoint(file)
    with pytest.raises(refused):
        FusionLightningModule.load_from_checkpoint(file, weights_only=False)  # there is no way to ask for it
    assert not mark.exists()


def test_no_code_of_the_encoders_configuration_runs(checkpoint: Path, canary: Path, tmp_path: Path) -> None:
    def plant(kept: dict[str, Any]) -> None:
        config = kept["hyper_parameters"]["encoder_config"]
        config.update(auto_map={"AutoModel": "planted_module.Head"}, trust_remote_code=True)

    loaded = FusionLightningModule.load_from_checkpoint(planted(checkpoint, tmp_path, plant))
    assert type(loaded.encoder.model).__module__.startswith("transformers.")
    assert not canary.exists()


# ---- a head of the user's own

CONFIG = """\
seed_everything: 1
trainer: {{accelerator: cpu, devices: 1, enable_progress_bar: false, enable_model_summary: false}}
data: {{train: {world}/train.csv, validation: {world}/validation.csv, test: {world}/test.csv, scores: {world}/scores}}
model:
  encoder: {world}/encoder
  folds: 2
  encoder_epochs: 1
  head_epochs: 2
  head_lr: 0.05
  head: {{class_path: own_heads.Bilinear, init_args: {{rank: 3}}}}
"""
HEAD = """\
from pathlib import Path
import torch
from lf_lightning.heads import FusionHead

Path("imported").touch()

class Bilinear(FusionHead):
    def __init__(self, num_labels, num_members, dim, task, rank: int = 2):
        super().__init__(num_labels, num_members, dim, task)
        self.mix = torch.nn.Linear(num_members * num_labels, rank)
        self.out = torch.nn.Linear(rank, num_labels)
        self.rows = 0

    def forward(self, members, present, representation):
        kept = torch.where(present.unsqueeze(-1), members, 0.0)
        return kept.mean(1) + self.out(torch.tanh(self.mix(kept.flatten(1))))

    def start(self, evidence):
        Path("started").write_text(str(len(evidence.labels)))
"""


def test_a_users_own_head_trains_from_a_yaml(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(imports, "_allowed", list(imports.allowed()))
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    Path("own_heads.py").write_text(HEAD, encoding="utf-8")
    Path("own.yaml").write_text(CONFIG.format(world=world), encoding="utf-8")
    assert cli.main(["fit", "--config", "own.yaml"]) == 2
    assert "own_heads" in capfd.readouterr().err
    assert not Path("imported").exists()

    assert cli.main(["fit", "--config", "own.yaml", "--allow-imports", "own_heads"]) == 0
    assert (
        Path("started").read_text(encoding="utf-8") == "61"
    )  # out-of-fold train rows: it tells nothing held out, so validation rows are left to calibrate it
    assert cli.main(["test", "--config", "own.yaml", "--allow-imports", "own_heads"]) == 0
    (file,) = Path("runs").glob("own/2*/checkpoints/best.ckpt")
    kept = torch.load(file, weights_only=True)
    head = kept["hyper_parameters"]["head"]
    assert head["class_path"] == "own_heads.Bilinear"
    assert head["init_args"]["rank"] == 3
    loaded = FusionLightningModule.load_from_checkpoint(file)
    assert type(loaded.head).__name__ == "Bilinear"
    assert loaded.head is not None
    assert loaded.head.mix.out_features == 3
    assert torch.equal(loaded.head.out.weight, kept["state_dict"]["head.out.weight"])
