"""Checkpoints, run configs, saved models and ensembles that are damaged: refused by name, never another answer, nothing run."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lf_lightning import Predictor, cli
from lf_lightning.errors import DataError, LFError
from lf_lightning.heads import AverageFusion
from lf_lightning.predictor import Ensemble, load_system
from tests.robustness.mutation import damaged, mutated, told

TEXTS = ["goal match coach", "the election", "\ud800"]


@pytest.fixture(scope="module")
def run(odd_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lf predict` needs of the run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    for name in ("checkpoints/best.ckpt", "config.yaml", "results.json"):
        shutil.copy(odd_run / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def saved(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    predictor = Predictor.of_run(run, device="cpu")
    predictor.save(folder / "saved")
    Ensemble([predictor, predictor], AverageFusion).save(folder / "ensemble")
    return folder


def answers(folder: Path) -> Any:
    return load_system(folder, device="cpu").predict_proba(TEXTS)


def survives(good: Path, names: list[str], seeds: range, damage: Callable[[Path, int], None], copy: Path) -> int:
    """How often a damaged copy was refused; it fails if it ever gave another answer or another kind of error."""
    want, failures, refused = answers(good), [], 0
    for seed in seeds:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(good, copy)
        damage(copy / random.Random(seed).choice(names), seed)
        try:
            found = answers(copy)
        except LFError:
            refused += 1
        except Exception as error:  # whatever is not ours is what this test looks for
            failures.append((seed, error))
        else:
            assert np.array_equal(found, want), f"another answer, seed {seed}"
    assert not failures, told(failures)
    return refused


def bytes_or_values(file: Path, seed: int) -> None:
    if file.suffix == ".json" and seed % 3:
        file.write_text(json.dumps(mutated(json.loads(file.read_text(encoding="utf-8")), seed)), encoding="utf-8")
    else:
        file.write_bytes(damaged(file.read_bytes(), seed))


def test_a_damaged_run(run: Path, tmp_path: Path) -> None:
    kept = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    plain = {name: value for name, value in kept.items() if name in ("hyper_parameters", "callbacks", "epoch")}

    def damage(file: Path, seed: int) -> None:
        if file.suffix == ".ckpt" and seed % 2:
            torch.save({**kept, **mutated(plain, seed)}, file)
        else:
            file.write_bytes(damaged(file.read_bytes(), seed))

    names = ["checkpoints/best.ckpt", "checkpoints/best.ckpt", "config.yaml", "results.json"]
    assert survives(run, names, range(36), damage, tmp_path / "run") > 10


def test_a_damaged_saved_model(saved: Path, tmp_path: Path) -> None:
    names = ["lf.json", "lf.json", "model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"]
    assert survives(saved / "saved", names, range(36), bytes_or_values, tmp_path / "saved") > 20


def test_a_damaged_ensemble(saved: Path, tmp_path: Path) -> None:
    names = ["ensemble.json", "ensemble.json", "ensemble.safetensors", "members/0/lf.json", "members/0/model.safetensors"]
    assert survives(saved / "ensemble", names, range(24), bytes_or_values, tmp_path / "ensemble") > 10


@pytest.mark.parametrize("command", ["test", "fit"])
def test_a_changed_bit_in_a_checkpoint_is_never_other_weights(command: str, odd_world: Path, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    shutil.copy(run / "config.yaml", tmp_path)
    content = bytearray((run / "checkpoints/best.ckpt").read_bytes())
    tensor = next(iter(torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"].values()))
    content[content.index(tensor.numpy().tobytes()[:64]) + 3] ^= 1  # a sign or an exponent: torch itself sees nothing wrong
    file.write_bytes(content)
    torch.load(file, weights_only=True)
    with pytest.raises(DataError, match="is not as it was written"):
        Predictor.of_run(tmp_path, device="cpu")
    words = [command, "--config", str(odd_world / "odd.yaml"), "--ckpt_path", str(file), "--runs-dir", str(tmp_path / "runs")]
    assert cli.main(words) == 3


def test_a_card_without_a_field_is_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "saved", tmp_path / "saved")
    card = json.loads((tmp_path / "saved/lf.json").read_text(encoding="utf-8"))
    for name in ("max_words", "max_length", "labels", "files"):
        (tmp_path / "saved/lf.json").write_text(json.dumps({k: v for k, v in card.items() if k != name}), encoding="utf-8")
        with pytest.raises(DataError, match=name):
            Predictor.of_run(tmp_path / "saved")
