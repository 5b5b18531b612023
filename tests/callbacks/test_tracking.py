from __future__ import annotations

import json
import sys
import warnings

import pytest
from lightning.pytorch.loggers import CSVLogger

from lf_lightning.callbacks import default_callbacks
from lf_lightning.callbacks.calibrate import FitCalibrators
from lf_lightning.callbacks.collect import CollectOutputs
from lf_lightning.callbacks.metrics import LogMetrics
from lf_lightning.callbacks.tracking import LogTables

LABELS = ["a", "b", "$c$"]
CANARY = "canary-5e1f0c"


def rows_of(table):
    return {split: table(40, 3, "multiclass", ("encoder", "llm"), len(split)) for split in ("train", "validation", "test")}


def test_without_wandb_nothing_happens(system, data, table, trainer, tmp_path):
    already = "wandb" in sys.modules
    module, given = system(LABELS, members=("encoder", "llm")), data(rows_of(table))
    callbacks = [CollectOutputs(), FitCalibrators(), LogMetrics(), LogTables()]
    run = trainer(callbacks, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    run.fit(module, given)
    run.test(module, given, verbose=False)
    assert ("wandb" in sys.modules) == already


@pytest.mark.slow
def test_wandb_offline_gets_figures_and_tables_and_no_secret(system, data, table, trainer, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger

    keys = {"OPENAI_API_KEY": CANARY, "WANDB_API_KEY": CANARY * 4}
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", **keys}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "experiment" / "run"
    folder.mkdir(parents=True)
    module, given = system(LABELS, members=("encoder", "llm")), data(rows_of(table))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="wandb")
        logger = WandbLogger(save_dir=folder, offline=True, project="tests")
        callbacks = [CollectOutputs(), FitCalibrators(), LogMetrics(), LogTables(rows=7, texts=False)]
        run = trainer(callbacks, logger=logger, log_every_n_steps=1)
        run.fit(module, given)
        run.test(module, given, verbose=False)
        logger.experiment.finish()
    media = {path.relative_to(folder).as_posix(): path for path in folder.rglob("files/media/**/*") if path.is_file()}
    short = {name.partition("/media/")[2]: path for name, path in media.items()}
    images = sorted(name.split("/")[2].rsplit("_", 2)[0] for name in short if name.startswith("images/test/"))
    assert images == ["confusion_matrix", "per_label_f1", "reliability"]
    tables = {n.split("/")[2].split("_")[0]: json.loads(p.read_text()) for n, p in short.items() if n.startswith("table/test/")}
    assert tables["labels"]["columns"] == ["label", "f1", "precision", "recall", "support"]
    assert [line[0] for line in tables["labels"]["data"]] == LABELS
    assert len(tables["predictions"]["data"]) == 7
    assert "text" not in tables["predictions"]["columns"]
    for path in folder.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_the_default_callbacks_come_in_the_order_that_they_need():
    names = [type(callback).__name__ for callback in default_callbacks()]
    assert names[:4] == ["CollectOutputs", "FitCalibrators", "FitDeferral", "LogMetrics"]
    assert names[-2:] == ["BestCheckpoint", "LastCheckpoint"]
    assert names.index("PhaseProgress") < names.index("RecordResults")
