from __future__ import annotations

import importlib
import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import lf_lightning
from lf_lightning import cli

ALLOW = ["--allow-imports", "small_system"]
CONFIG = ["--config", "small.yaml", *ALLOW]


@pytest.fixture(autouse=True)
def _small_defaults(workspace: Path) -> None:
    """All tests of this page run in the workspace."""


def run_folders(experiment: str = "small") -> list[Path]:
    from lf_lightning.cli import runs

    return runs.listed(Path("runs"), experiment)


def hyperparameters(run: Path, checkpoint: str = "best") -> dict[str, object]:
    return torch.load(run / f"checkpoints/{checkpoint}.ckpt", weights_only=True)["hyper_parameters"]


# ---- run folders


def test_fit_then_test_meet_in_one_folder() -> None:
    assert cli.main(["fit", *CONFIG]) == 0
    (run,) = run_folders()
    saved = (run / "config.yaml").read_text(encoding="utf-8")
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}

    assert cli.main(["test", *CONFIG, "--ckpt_path", "best"]) == 0
    assert run_folders() == [run]
    assert (run / "logs/test/metrics.csv").is_file()
    assert (run / "config.yaml").read_text(encoding="utf-8") == saved
    assert saved.startswith(f"# lf_lightning=={lf_lightning.__version__}\n")
    assert "LF_RUN_DIR" not in os.environ

    assert cli.main(["test", "--run", str(run), *ALLOW]) == 0  # the saved config reloads, and best is the default
    assert (run / "logs/test-2/metrics.csv").is_file()


def test_a_second_fit_has_its_own_folder_and_the_experiment_a_name() -> None:
    for _ in range(2):
        assert cli.main(["fit", *CONFIG, "--experiment", "twice", "--runs-dir=elsewhere", "--trainer.max_epochs=1"]) == 0
    made = [path for path in Path("elsewhere/twice").iterdir() if not path.is_symlink()]
    assert len(made) == 2
    assert not Path("runs").exists()


def test_resume_goes_on_in_place() -> None:
    assert cli.main(["fit", *CONFIG, "--trainer.max_epochs=1"]) == 0
    assert cli.main(["fit", *CONFIG, "--trainer.max_epochs=3", "--ckpt_path=last"]) == 0
    (run,) = run_folders()
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 2
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert (saved["trainer"]["max_epochs"], saved["ckpt_path"]) == (3, None)  # so that a test of the run takes the best
    assert (run / "logs/fit-2").is_dir()


def test_a_checkpoint_file_decides_the_folder_and_never_the_config() -> None:
    assert cli.main(["fit", *CONFIG, "--trainer.max_epochs=1"]) == 0
    (run,) = run_folders()
    file = str(run / "checkpoints/best.ckpt")
    assert cli.main(["test", *CONFIG, "--ckpt_path", file, "--experiment", "other"]) == 0
    assert (run / "logs/test").is_dir()
    assert not Path("runs/other").exists()


def test_predict_takes_best_unasked() -> None:
    assert cli.main(["fit", *CONFIG, "--trainer.max_epochs=1"]) == 0
    assert cli.main(["predict", *CONFIG]) == 0


def test_no_run_and_no_checkpoint_are_clear(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", *CONFIG]) == 2
    assert "there is no run of the experiment 'small'" in capfd.readouterr().err
    Path("runs/small/20200101-000000").mkdir(parents=True)
    assert cli.main(["test", *CONFIG, "--ckpt_path", "last"]) == 2
    assert "last.ckpt does not exist" in capfd.readouterr().err
    assert cli.main(["test", *CONFIG, "--ckpt_path", "nowhere.ckpt"]) == 2
    assert "'nowhere.ckpt'" in capfd.readouterr().err


def test_a_failed_parse_leaves_nothing_behind() -> None:
    assert cli.main(["fit", *CONFIG, "--trainer.max_epoch=1"]) == 2
    assert not Path("runs").exists()


FAILURES = {
    "of the model": (["--model.lr=-1"], 2, "lr=-1.0 is negative"),
    "of the data": (["--data.rows=0"], 3, "rows=0"),
    "of the trainer": (["--trainer.accelerator=abacus"], 2, "accelerator='abacus'"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_while_making_the_parts_is_told_in_one_line(failure: str, capfd: pytest.CaptureFixture[str]) -> None:
    words, code, message = FAILURES[failure]
    assert cli.main(["fit", *CONFIG, *words]) == code
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert "Union" not in err
    assert run_folders() == []


def test_runs_dir_that_is_a_file() -> None:
    Path("taken").touch()
    assert cli.main(["fit", *CONFIG, "--runs-dir", "taken"]) == 2


def test_other_ranks_use_the_folder_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from lf_lightning.cli import train

    options = train.RunOptions("small", Path("runs").resolve(), None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(train.ConfigurationError, match="LF_RUN_DIR"):
        train._run_folder("fit", options, None)
    monkeypatch.setenv("LF_RUN_DIR", "chosen-by-rank-0")
    assert train._run_folder("fit", options, None) == Path("chosen-by-rank-0")


def test_loggers_without_a_folder_write_into_the_run() -> None:
    pytest.importorskip("wandb")
    config = yaml.safe_load(Path("small.yaml").read_text(encoding="utf-8"))
    config["trainer"]["logger"] = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"offline": True}}
    Path("wandb.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    code = f"from lf_lightning.cli import main; raise SystemExit(main({['fit', '--config', 'wandb.yaml', *ALLOW]!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    (run,) = run_folders("wandb")
    assert list((run / "wandb").glob("offline-run-*"))
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert saved["trainer"]["logger"]["init_args"]["save_dir"] == "."  # reloading it writes into the new run


# ---- links


def test_links_reach_the_model_and_the_data() -> None:
    assert cli.main(["fit", *CONFIG, "--trainer.max_epochs=1"]) == 0
    (run,) = run_folders()
    linked = hyperparameters(run)
    assert linked["labels"] == ["no", "yes"]
    assert linked["task"] == "multiclass"
    assert linked["scorers"] == ["a-scorer"]
    assert linked["class_weight"] == [0.5, 2.0]
    assert linked["encoder"] == "bert-of-the-config"


def test_the_encoder_names_the_tokenizer() -> None:
    Path("tokenizer.yaml").write_text("data: {init_args: {save_tokenizer_to: tokenizer.txt}}", encoding="utf-8")
    assert cli.main(["fit", *CONFIG, "--config", "tokenizer.yaml", "--trainer.max_epochs=1"]) == 0
    assert Path("tokenizer.txt").read_text(encoding="utf-8") == "bert-of-the-config"


def test_a_model_that_takes_no_link_still_runs() -> None:
    config = yaml.safe_load(Path("small.yaml").read_text(encoding="utf-8"))
    config["model"] = {"class_path": "small_system.UnlinkedModule"}
    Path("unlinked.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert cli.main(["fit", "--config", "unlinked.yaml", *ALLOW, "--trainer.max_epochs=1"]) == 0


def test_link_targets_and_sources_exist() -> None:
    # A link whose target a class lacks is ignored, so a renamed argument would pass unnoticed.
    from lf_lightning.cli import train

    def load(path: str) -> type:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)

    model, data = load(train.DEFAULT_MODEL), load(train.DEFAULT_DATA)
    assert {"labels", "task", "scorers", "class_weight", "encoder"} <= set(inspect.signature(model).parameters)
    assert "tokenizer" in inspect.signature(data).parameters
    for name in ("labels", "task", "scorer_names", "class_weight"):
        assert isinstance(inspect.getattr_static(data, name, None), property) or name in inspect.getsource(data)


def test_the_configs_own_callbacks_take_the_place_of_the_defaults() -> None:
    from lightning.pytorch.callbacks import EarlyStopping, ProgressBar

    from lf_lightning.callbacks import BestCheckpoint, default_callbacks
    from lf_lightning.cli.train import callbacks_of

    class Mine(BestCheckpoint):
        pass

    defaults = [type(callback) for callback in default_callbacks()]
    mine, stopping = Mine(), EarlyStopping("validation/nll")
    given = callbacks_of([stopping, mine], {})
    assert [type(callback) for callback in given] == [
        *(Mine if cls is BestCheckpoint else cls for cls in defaults),
        EarlyStopping,
    ]
    quiet = callbacks_of([], {"enable_checkpointing": False, "enable_progress_bar": False})
    assert not any(isinstance(callback, (BestCheckpoint, ProgressBar)) for callback in quiet)
    assert len(quiet) > len(defaults) - 4


# ---- configs


@pytest.mark.parametrize("how", ["--print_config", "--print_config=comments", "--print_config=skip_default"])
def test_a_printed_config_reloads(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", *CONFIG, how]) == 0
    printed = capsys.readouterr().out
    if "comments" in how:
        assert "# Learning rate of the layer." in printed
    assert not Path("runs").exists()
    Path("printed.yaml").write_text(printed, encoding="utf-8")
    assert cli.main(["fit", "--config", "printed.yaml", *ALLOW, "--print_config=skip_default"]) == 0
    assert cli.main(["fit", "--config", "small.yaml", *ALLOW, "--print_config=skip_default"]) == 0
    again, first = capsys.readouterr().out.split("# lf_lightning", 2)[1:]
    assert yaml.safe_load("#" + again) == yaml.safe_load("#" + first)


def test_print_config_needs_no_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["class_path"].endswith("FusionLightningModule")
    assert printed["trainer"]["max_epochs"] == -1
    assert printed["trainer"]["use_distributed_sampler"] is False


MISTAKES = {
    "option": (["--trainer.max_epoch=1"], "trainer.max_epochs"),
    "a prefix": (["--trainer.max_epo=1"], "trainer.max_epochs"),
    "option of the model": (["--model.encodr=x"], "encoder"),
    "option of the data": (["--data.row=3"], "rows"),
    "top-level option": (["--seed_everythin=1"], "--seed_everything"),
    "key of the trainer": ("trainer: {max_epoch: 1}", "trainer.max_epochs"),
    "group": ("trainr: {max_epochs: 1}", "trainer.max_epochs"),
    "key of the model": ("model: {init_args: {encodr: x}}", "encoder"),
    "key of a callback": (
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitr: x}}]}",
        "monitor",
    ),
    "class": ("trainer: {callbacks: [lightning.pytorch.callbacks.EarlyStoping]}", "EarlyStopping"),
    "class of this package": ("model: {class_path: FusionLightningModul}", "FusionLightningModule"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistyped_key_names_the_nearest(mistake: str, capfd: pytest.CaptureFixture[str]) -> None:
    given, meant = MISTAKES[mistake]
    words = given if isinstance(given, list) else ["--config", "mistake.yaml"]
    if isinstance(given, str):
        Path("mistake.yaml").write_text(given, encoding="utf-8")
    assert cli.main(["fit", *CONFIG, *words]) == 2
    err = capfd.readouterr().err
    assert "Did you mean" in err
    assert meant in err.split("Did you mean", 1)[1]
    assert "Traceback" not in err
    assert len(err.splitlines()) < 30


# ---- imports


def marker_module(name: str) -> Path:
    Path(f"{name}.py").write_text(
        f"from pathlib import Path\nPath('{name}.marker').touch()\n"
        "from small_system import SmallModule\nclass Marked(SmallModule):\n    pass\n",
        encoding="utf-8",
    )
    return Path(f"{name}.marker")


@pytest.mark.parametrize(
    "config",
    [
        "model: {{class_path: {0}.Marked}}",
        "trainer: {{callbacks: [{0}.Marked]}}",
        "model: {0}.Marked",
        "data: {{class_path: {0}.Marked}}",
    ],
)
def test_a_module_that_is_not_allowed_is_not_imported(config: str, capfd: pytest.CaptureFixture[str]) -> None:
    marker = marker_module("not_allowed")
    Path("evil.yaml").write_text(config.format("not_allowed"), encoding="utf-8")
    sys.path.insert(0, str(Path.cwd()))
    assert cli.main(["fit", *CONFIG, "--config", "evil.yaml"]) == 2
    assert "lf --allow-imports not_allowed" in capfd.readouterr().err
    assert not marker.exists()
    assert "not_allowed" not in sys.modules


@pytest.mark.parametrize("name", ["allowed_by_option", "allowed_by_variable"])
def test_a_module_that_is_allowed_is_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = marker_module(name)
    Path("mine.yaml").write_text(f"model: {{class_path: {name}.Marked}}", encoding="utf-8")
    words = ["fit", "--config", "small.yaml", "--config", "mine.yaml", "--trainer.max_epochs=1"]
    if name == "allowed_by_option":
        words += ["--allow-imports", f"small_system,{name}"]
    else:
        monkeypatch.setenv("LF_ALLOW_IMPORTS", f"small_system,{name}")
    assert cli.main(words) == 0
    assert marker.exists()


@pytest.mark.parametrize("path", ["os.system", "torch.hub.load", "torch.load", "subprocess.Popen", "builtins.eval"])
def test_what_runs_code_is_refused(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("evil.yaml").write_text(f"trainer: {{callbacks: [{{class_path: {path}}}]}}", encoding="utf-8")
    assert cli.main(["fit", *CONFIG, "--config", "evil.yaml"]) == 2
    assert f"Importing '{path}' is not allowed" in capfd.readouterr().err


# ---- secrets, signals, processes


def test_a_secret_in_a_nested_config_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    Path("data.yaml").write_text(
        "class_path: small_system.SmallData\ninit_args: {tokenizer: sk-CANARY0123456789}\n", encoding="utf-8"
    )
    Path("small.yaml").write_text(
        "data: data.yaml\nmodel: small_system.UnlinkedModule\ntrainer: {max_epochs: 1}\n", encoding="utf-8"
    )
    assert cli.main(["fit", *CONFIG]) == 2
    assert "CANARY" not in capfd.readouterr().err
    assert not Path("runs").exists()


def lf(*words: str) -> list[str]:
    return [sys.executable, "-m", "lf_lightning", *words]


def test_sigterm_saves_and_exits_with_143() -> None:
    words = ["fit", *CONFIG, "--model.seconds_per_step=0.1", "--trainer.max_epochs=1000"]
    process = subprocess.Popen(lf(*words), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while not Path("stepping").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM" in err
    assert "Traceback" not in err
    (run,) = run_folders()
    assert (run / "checkpoints/last.ckpt").is_file()


@pytest.mark.slow
def test_two_processes_share_one_folder() -> None:
    words = ["fit", *CONFIG, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1"]
    environment = {name: value for name, value in os.environ.items() if name not in ("LF_RUN_DIR", "LOCAL_RANK")}
    done = subprocess.run(lf(*words), capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = run_folders()
    assert (run / "checkpoints/last.ckpt").is_file()
