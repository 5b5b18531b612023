"""A saved classifier says the same bit for bit in a new process; nothing in its folder runs, and nobody it names is asked."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lf_lightning import AutoFusionClassifier
from lf_lightning.auto.folder import FILE
from lf_lightning.errors import ConfigurationError, DataError, LFError
from lf_lightning.scoring.providers import OpenAICompatible
from tests.auto.conftest import Make
from tests.conftest import TableFactory
from tests.predictor.test_predictor import Bomb
from tests.scoring.gateway.asks import KEY_NAME
from tests.scoring.gateway.fault_server import KEY, FaultServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def saved(fused: AutoFusionClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    fused.save(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def change(folder: Path, edit: Callable[[dict[str, Any]], object], file: str = FILE) -> None:
    facts = json.loads((folder / file).read_text(encoding="utf-8"))
    edit(facts)
    (folder / file).write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.parametrize("name", ["fused", "alone"])
def test_a_new_process_with_nothing_else_says_the_same(
    name: str, store: Path, new_texts: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    classifier: AutoFusionClassifier = request.getfixturevalue(name)
    classifier.save(tmp_path / "saved")
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    hidden = tmp_path / "empty"
    hidden.mkdir()
    (tmp_path / "texts.json").write_text(json.dumps(new_texts), encoding="utf-8")
    given = [moved, tmp_path / "texts.json", tmp_path / "out.npz", store if name == "fused" else ""]
    environment = {**os.environ, "HF_HOME": str(hidden), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, str(ROOT / "tests/auto/loader.py"), *map(str, given)]
    done = subprocess.run(command, cwd=hidden, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npz")
    assert np.array_equal(found["p"], classifier.predict_proba(new_texts))
    assert found["said"].tolist() == classifier.predict(new_texts).tolist()
    assert sorted(path.suffix for path in moved.rglob("*") if path.is_file()) == [".json"] * 4 + [".safetensors"]


@pytest.mark.parametrize("form", ["numbers", "indicator", "lists", "booleans"])
def test_labels_come_back_as_they_were(form: str, small: Make, multilabel_table: TableFactory, tmp_path: Path) -> None:
    table = multilabel_table(40, seed=5)
    lists = [cell.split("|") for cell in table["label"]]
    indicator = np.array([["sport" in cell, "science" in cell] for cell in lists]).astype(int)
    y: Any = {"numbers": indicator[:, 0] * 7, "indicator": indicator, "lists": lists, "booleans": indicator[:, 0] > 0}[form]
    classifier = small(num_epochs=2).fit(table["text"], y)
    classifier.save(tmp_path / "saved")
    loaded = AutoFusionClassifier.load(tmp_path / "saved", device="cpu")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    expected, found = classifier.predict(table["text"]), loaded.predict(table["text"])
    assert type(found) is type(expected)
    assert np.array_equal(found, expected) if isinstance(found, np.ndarray) else found == expected
    assert loaded.get_params() == {**classifier.get_params(), "verbose": 1, "device": "cpu"}


def test_output_dir_saves_after_the_fit(small: Make, table: pd.DataFrame, new_texts: list[str], tmp_path: Path) -> None:
    fitted = small({"output_dir": str(tmp_path / "fusion_output")}).fit(table)
    loaded = AutoFusionClassifier.from_pretrained(tmp_path / "fusion_output", device="cpu")
    assert np.array_equal(loaded.predict_proba(new_texts), fitted.predict_proba(new_texts))
    assert loaded.output_dir is None
    with pytest.raises(ConfigurationError, match="not empty"):
        fitted.save(tmp_path / "fusion_output")
    with pytest.raises(ConfigurationError, match=r"output_dir=.* is not empty"):
        fitted.fit(table)


def test_nobody_that_only_the_folder_names_is_asked(
    small: Make, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(KEY_NAME, KEY)
    with FaultServer() as server:
        given = {"llm_provider": server.url, "llm_model": "m", "api_key_env": KEY_NAME, "mode": "logprob"}
        fitted = small(given).fit(table)
        expected = fitted.predict_proba(["a new text"])
        asked = len(server.record()["lines"])
        fitted.save("saved")
        for path in Path("saved").rglob("*"):
            assert not path.is_file() or KEY.encode() not in path.read_bytes()
        loaded = AutoFusionClassifier.load("saved", device="cpu")
        with pytest.raises(ConfigurationError, match="fitted with m, and nobody is named"):
            loaded.predict(["a newer text"])
        loaded.set_params(on_missing="mask").predict(["a newer text"])
        assert loaded.llm_provider is loaded.api_key_env is None
        loaded.save("again")
        assert len(server.record()["lines"]) == asked
        same = AutoFusionClassifier.load("saved", llm_provider="saved", device="cpu")
        assert np.array_equal(same.predict_proba(["a new text"]), expected)
        assert len(server.record()["lines"]) == asked  # the reply was paid for
        provider = OpenAICompatible("m", server.url, api_key_env=KEY_NAME)
        other = AutoFusionClassifier.load("again", llm_provider=provider, device="cpu")
        assert np.array_equal(other.predict_proba(["a new text"]), expected)
    with pytest.raises(ConfigurationError, match="names 2 LLMs"):
        AutoFusionClassifier.load("saved", llm_provider=["openai", "gemini"], device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", FILE, "lf.json"])
def test_a_planted_pickle_never_runs(name: str, copied: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (copied / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(DataError):
        AutoFusionClassifier.load(copied)
    assert not mark.exists()


def test_a_pickle_beside_the_files_is_not_read(copied: Path, tmp_path: Path, store: Path, new_texts: list[str]) -> None:
    mark = tmp_path / "ran"
    for name in ("classifier_state.pkl", "pytorch_model.bin", "model.ckpt"):
        (copied / name).write_bytes(pickle.dumps(Bomb(mark)))
    AutoFusionClassifier.load(copied).predict(new_texts, scores=store)
    assert not mark.exists()


def test_a_planted_class_is_never_imported(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "planted_module.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    change(copied, lambda card: card.update(class_path="planted_module.System"), "lf.json")
    with pytest.raises(LFError, match="not of an allowed package"):
        AutoFusionClassifier.load(copied)
    assert not mark.exists()
    assert "planted_module" not in sys.modules


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda facts: facts.update(format=99), "not of format 1"),
        (lambda facts: facts.pop("task"), r"\['task'\] are not what save writes"),
        (lambda facts: facts.update(form="eval"), "not what save writes"),
        (lambda facts: facts["params"].update(planted=1), r"unknown arguments \['planted'\]"),
        (lambda facts: facts["classes"].update(dtype="V1000000000"), "classes cannot be read"),
        (lambda facts: facts["classes"].update(values=["a", "b", "c"]), "not those of lf.json"),
        (lambda facts: facts["choices"].pop("encoder"), "'choices'"),
    ],
)
def test_a_changed_file_is_refused(edit: Callable[[dict[str, Any]], object], complaint: str, copied: Path) -> None:
    change(copied, edit)
    with pytest.raises(DataError, match=complaint):
        AutoFusionClassifier.load(copied)


def test_what_is_no_folder_of_ours_is_named(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=rf"has no {FILE}"):
        AutoFusionClassifier.load(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="is no folder here, and the hub gave none"):
        AutoFusionClassifier.from_pretrained("nobody/nothing")
    (copied / FILE).write_text("{" * 100_000, encoding="ascii")
    with pytest.raises(DataError, match="cannot be read"):
        AutoFusionClassifier.load(copied)


def test_labels_that_json_cannot_hold_are_named_before_anything_is_written(
    small: Make, table: pd.DataFrame, tmp_path: Path
) -> None:
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(np.arange(90) % 2, "D")
    fitted = small(num_epochs=1).fit(table["text"], days.to_numpy().astype("datetime64[D]").astype(str))
    fitted.classes_ = days.to_numpy()[:2]
    with pytest.raises(ConfigurationError, match="cannot be saved as JSON"):
        fitted.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
