"""A saved model says the same bit for bit in a new process that has nothing but the folder; and nothing in the folder runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from lf_lightning import Predictor
from lf_lightning.errors import ConfigurationError, DataError, LFError
from lf_lightning.predictor import FittedRun, FittedScorer
from lf_lightning.predictor.saved import CARD, TOKENIZER, WEIGHTS, SavedModel
from lf_lightning.store import Status
from tests.predictor.test_predictor import RUNS, Bomb
from tests.systems.parts import fit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def saved(fusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    Predictor.of_run(fusion, device="cpu").save(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edits `lf.json`; whoever made the folder made its checksums, too, so they are made anew."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    for name in card["files"]:
        content = (folder / name).read_bytes()
        card["files"][name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    edit(card)
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
def test_a_new_process_with_nothing_else_says_the_same(
    name: str, new_texts: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(name)
    predictor = Predictor.of_run(run, device="cpu")
    predictor.save(tmp_path / "saved")
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    rng = np.random.default_rng(0)
    members: Any = None
    if predictor.scorers:
        members = rng.dirichlet(np.ones(len(predictor.labels)), (len(new_texts), len(predictor.scorers)))
        members[rng.random(members.shape[:2]) < 0.3] = np.nan
        np.save(tmp_path / "scores.npy", members)
    (tmp_path / "texts.json").write_text(json.dumps(new_texts), encoding="utf-8")
    given = [tmp_path / "texts.json", tmp_path / "scores.npy" if predictor.scorers else "", tmp_path / "out.npz"]
    hidden = tmp_path / "empty"  # neither a run nor a cache of models is in sight
    hidden.mkdir()
    environment = {**os.environ, "HF_HOME": str(hidden), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, str(ROOT / "tests/predictor/loader.py"), str(moved), *map(str, given)]
    done = subprocess.run(command, cwd=hidden, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, expected = np.load(tmp_path / "out.npz"), predictor.opinion(new_texts, members)
    assert np.array_equal(found["probabilities"], expected.probabilities)
    assert np.array_equal(found["decisions"], expected.decisions)


def test_the_folder_says_what_it_is(saved: Path, fusion: Path, world: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [CARD, WEIGHTS, TOKENIZER]
    card = json.loads((saved / CARD).read_text(encoding="utf-8"))
    assert card["labels"] == ["politics", "science", "sport"]
    assert (card["task"], card["scorers"], card["max_length"], card["max_words"]) == ("multiclass", ["good", "weak"], 24, 40)
    assert card["hyperparameters"]["encoder"] == "encoder"  # and not where it lies
    assert str(world.parent) not in (saved / CARD).read_text(encoding="utf-8")
    assert card["fitted_on"]["dataset_fingerprint"] == FittedRun.find(fusion).fingerprints
    assert 0 <= card["figures"]["validation"]["system"]["accuracy"] <= 1
    assert saved.stat().st_mode & 0o777 == fusion.stat().st_mode & 0o777


def test_all_of_the_state_travels(saved: Path, fusion: Path) -> None:
    kept = torch.load(fusion / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    state = load_file(saved / WEIGHTS)
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert {"calibrator", "decision", "encoder"} <= {name.partition(".")[0] for name in state}


def test_saved_again_it_is_the_same_model(saved: Path, fusion: Path, tmp_path: Path) -> None:
    predictor = Predictor.of_run(saved, device="cpu")
    predictor.predict(["a goal"])
    predictor.save(tmp_path / "again")
    assert SavedModel.find(tmp_path / "again").fingerprint == SavedModel.find(saved).fingerprint


def test_a_module_straight_from_its_fit_is_saved_too(world: Path, tmp_path: Path, new_texts: list[str]) -> None:
    module = fit(world, tmp_path / "fit", evidence="joint")
    predictor = Predictor(module, str(world / "encoder"), max_length=64, device="cpu")
    predictor.save(tmp_path / "saved")
    expected = predictor.predict_proba(new_texts)
    shutil.copytree(world / "encoder", tmp_path / "encoder")  # the session's stays where it is
    assert np.array_equal(Predictor.of_run(tmp_path / "saved", device="cpu").predict_proba(new_texts), expected)


def test_label_names_of_every_kind_come_back(fusion: Path, tmp_path: Path) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    names = ['"a, b"\n', "عربي 😀", "half \ud800"]
    predictor.module.labels = predictor.module.hparams["labels"] = names
    predictor.save(tmp_path / "saved")
    assert Predictor.of_run(tmp_path / "saved", device="cpu").labels == names


def test_a_saved_model_scores_for_others(saved: Path) -> None:
    scorer = FittedScorer("a", str(saved), on_fitted="score", device="cpu")
    assert scorer.score(["a goal"]).status.tolist() == [Status.SCORED]
    assert scorer.card.spec["sha256"] == SavedModel.find(saved).fingerprint
    with pytest.raises(ConfigurationError, match=r"on_fitted='refuse'.*does not have the rows"):
        FittedScorer("a", str(saved), device="cpu").score(["a goal"])


# ---- whole or not at all


def test_a_folder_with_something_in_it_is_left_alone(fusion: Path, tmp_path: Path) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    (tmp_path / "mine").mkdir()
    predictor.save(tmp_path / "mine")
    for taken in (tmp_path / "mine", fusion, fusion / "config.yaml"):
        with pytest.raises(ConfigurationError, match="is not empty"):
            predictor.save(taken)


def test_a_killed_save_leaves_nothing_that_loads(fusion: Path, tmp_path: Path) -> None:
    script = f"""
import os, signal
from lf_lightning.predictor import saving, Predictor
def last_breath(file):
    os.kill(os.getpid(), signal.SIGKILL)
saving.file_facts = last_breath
Predictor.of_run({str(fusion)!r}, device="cpu").save({str(tmp_path / "saved")!r})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -9
    assert not (tmp_path / "saved").exists()
    (left,) = tmp_path.iterdir()
    assert (left / WEIGHTS).is_file()
    with pytest.raises(ConfigurationError, match="there is no checkpoint"):
        Predictor.of_run(left)


def test_a_save_that_fails_leaves_nothing(fusion: Path, tmp_path: Path) -> None:
    predictor = Predictor.of_run(fusion, device="cpu")
    predictor.module.hparams["dropout"] = np.float32(0.5)
    with pytest.raises(ConfigurationError, match="JSON cannot hold"):
        predictor.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Predictor.of_run(fusion, device="cpu").save(tmp_path / "file" / "saved")


# ---- what a folder may hold


def test_a_planted_pickle_never_runs(copied: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in (WEIGHTS, "pytorch_model.bin"):
        (copied / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(DataError, match=r"is not the file that was saved"):
        Predictor.of_run(copied)
    change(copied, lambda card: None)
    with pytest.raises(DataError, match=r"its header claims"):
        Predictor.of_run(copied)
    torch.save(Bomb(mark), copied / WEIGHTS)
    change(copied, lambda card: None)
    with pytest.raises(DataError, match=r"its header claims"):
        Predictor.of_run(copied)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"\xff" * 8, "its header claims 18,446,744,073,709,551,615 bytes"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "its header claims"),
        ((200).to_bytes(8, "little") + b"{}", "its header claims 200 bytes"),
        (b"", "its header claims 0 bytes"),
        ((4).to_bytes(8, "little") + b"[[[[", "cannot be read"),
        ((2).to_bytes(8, "little") + b"{}", "cannot be read, and nothing in it was run: .* Missing key"),
        (
            (64).to_bytes(8, "little")
            + b'{"classifier.bias":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'[:64]
            + b"0" * 36,
            "cannot be read",
        ),
    ],
)
def test_a_header_that_lies_is_refused(header: bytes, complaint: str, copied: Path) -> None:
    (copied / WEIGHTS).write_bytes(header)
    change(copied, lambda card: None)
    with pytest.raises(DataError, match=complaint):
        Predictor.of_run(copied)


def test_offsets_beyond_the_file_and_other_shapes_are_refused(copied: Path) -> None:
    state = load_file(copied / WEIGHTS)
    content = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes(content[:-10])
    change(copied, lambda card: None)
    with pytest.raises(DataError, match="cannot be read"):
        Predictor.of_run(copied)
    for edited in ({**state, "more": torch.zeros(1)}, {**state, "classifier.bias": torch.zeros(9)}):
        save_file(edited, copied / WEIGHTS)
        change(copied, lambda card: None)
        with pytest.raises(DataError, match=r"cannot be read, .*(Unexpected key.*more|size mismatch for classifier\.bias)"):
            Predictor.of_run(copied)


def test_one_changed_byte_is_found(copied: Path) -> None:
    for name in (WEIGHTS, f"{TOKENIZER}/tokenizer.json"):
        content = bytearray((copied / name).read_bytes())
        content[-3] ^= 1
        (copied / name).write_bytes(content)
        with pytest.raises(DataError, match="its size or SHA-256 differs"):
            Predictor.of_run(copied)
        content[-3] ^= 1
        (copied / name).write_bytes(content)
    Predictor.of_run(copied)
    (copied / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"model\.safetensors' is missing"):
        Predictor.of_run(copied)


def test_a_larger_card_is_not_read(copied: Path) -> None:
    with (copied / CARD).open("r+b") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(DataError, match="has 17,825,792 bytes, so it was not read"):
        Predictor.of_run(copied)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"format": 2}', b'{"format": 1}', b'{"format": 1, "files": 3}']
)
def test_a_card_that_is_none_is_refused(content: bytes, copied: Path) -> None:
    (copied / CARD).write_bytes(content)
    with pytest.raises(DataError, match=r"Way out"):
        Predictor.of_run(copied)


@pytest.mark.parametrize(
    "name", ["../stolen", "/etc/passwd", "tokenizer/../../stolen", "tokenizer/a/b", "tokenizer\\..\\x", "tokenizer/.hidden", ""]
)
def test_no_file_outside_the_folder_is_read(name: str, copied: Path) -> None:
    change(copied, lambda card: card["files"].update({name: {"bytes": 0, "sha256": ""}}))
    with pytest.raises(DataError, match="do not load it"):
        Predictor.of_run(copied)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ({"class_path": "planted_module.System"}, "not of an allowed package"),
        ({"class_path": "torch.nn.Linear"}, "is no ClassifierModule"),
        ({"class_path": "os.system"}, "not of an allowed package"),
        ({"head": {"class_path": "planted_module.Head"}}, "not of an allowed package"),
        ({"head": "planted_module.Head"}, "not of an allowed package|does not write"),
        ({"loss": {"class_path": "os.system", "init_args": {"command": "touch"}}}, "not of an allowed package"),
        ({"pooling": {"class_path": "planted_module.Head"}}, "not of an allowed package"),
        ({"_class_path": "planted_module.System", "_instantiator": "planted_module.call"}, None),
        ({"encoder_config": None}, "an encoder would be looked for"),
        ({"encoder_config": {}}, "an encoder would be looked for"),
        ({"encoder_config": {"model_type": "planted"}}, "cannot be read"),
        ({"labels": ["a", "b"]}, "are not those of the system"),
        ({"unknown": 3}, "cannot be read"),
    ],
)
def test_a_planted_class_is_never_imported(
    edit: dict[str, Any], complaint: str | None, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "planted_module.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    change(copied, lambda card: (card if "class_path" in edit else card["hyperparameters"]).update(edit))
    if complaint is None:  # what only checkpoints have is not read
        Predictor.of_run(copied)
    else:
        with pytest.raises(LFError, match=complaint):
            Predictor.of_run(copied)
    assert not mark.exists()
    assert "planted_module" not in sys.modules


def test_code_beside_an_encoder_or_a_tokenizer_never_runs(copied: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    (copied / TOKENIZER / "planted.py").write_text(code, encoding="utf-8")
    with pytest.raises(DataError, match=r"files that were not saved with it: \['tokenizer/planted\.py'\]"):
        Predictor.of_run(copied)
    change(copied, lambda card: card["files"].update({"tokenizer/planted.py": {"bytes": len(code), "sha256": ""}}))
    config = json.loads((copied / TOKENIZER / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"auto_map": {"AutoTokenizer": [None, "planted.Tokenizer"]}, "tokenizer_class": "Planted"}
    (copied / TOKENIZER / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    auto_map = {"AutoModel": "planted.Model", "AutoConfig": "planted.Config"}
    change(copied, lambda card: card["hyperparameters"]["encoder_config"].update(auto_map=auto_map))
    with pytest.raises(DataError, match="cannot be read, and nothing in it was run"):
        Predictor.of_run(copied)
    assert not mark.exists()
    assert not any("planted" in name.split(".") for name in sys.modules)


def test_texts_are_the_runs_own(saved: Path, fusion: Path, world: Path) -> None:
    texts = pd.read_csv(world / "test.csv")["text"].tolist()
    expected = Predictor.of_run(fusion, device="cpu").predict_proba(texts, str(world / "scores"))
    assert np.array_equal(Predictor.of_run(saved, device="cpu").predict_proba(texts, str(world / "scores")), expected)
