"""README.md and docs/ as a stranger follows them: files are written, commands and Python are run, with a tiny encoder."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml

from lf_lightning import cli, imports
from lf_lightning.cli import help_texts
from tests.conftest import TableFactory

ROOT = Path(__file__).resolve().parent.parent
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
EVERYTHING = "\n".join(PAGES.values())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", EVERYTHING, re.DOTALL | re.MULTILINE)
FILES = {found[1]: text for _, text in BLOCKS if (found := re.match(r"# ([\w.]+\.(?:yaml|py))\n", text))}
LINES = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
OWN = ",".join(name.removesuffix(".py") for name in FILES if name.endswith(".py"))
SMALL = ["--model.evidence=holdout", "--model.encoder_epochs=1", "--model.head_epochs=1", "--trainer.accelerator=cpu"]


@pytest.fixture
def reader(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    topic_table: TableFactory,
    multilabel_table: TableFactory,
    tiny_encoder: str,
) -> Iterator[Path]:
    """A folder with the files that README.md and docs/ show, and tables as they describe them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(imports, "_allowed", imports._allowed.copy())
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in FILES.items():
        Path(name).write_text(text.replace("roberta-base", tiny_encoder), encoding="utf-8")
    table = topic_table(120)
    table["gpt_label"] = [label if row % 4 else "science" for row, label in enumerate(table["label"])]
    table["gpt_confidence"] = 0.8
    table.to_csv("train.csv", index=False)
    topic_table(6, seed=9)[["text"]].to_csv("new.csv", index=False)
    topic_table(40, seed=5).to_csv("more.csv", index=False)
    Path("goemotions").mkdir()
    for seed, split in enumerate(("train", "dev", "test")):
        multilabel_table(40, seed=seed).to_csv(f"goemotions/{split}.csv", index=False)
    yield tmp_path
    importlib.invalidate_caches()


def words_of(line: str) -> list[str]:
    command, *words = shlex.split(line, comments=True)
    assert command == "lf"
    return words


def block_with(text: str) -> list[str]:
    """Returns the lines of the one bash block that contains a text."""
    (found,) = [block for language, block in BLOCKS if language == "bash" and text in block]
    return [line for line in found.splitlines() if line]


@pytest.mark.usefixtures("reader")
def test_own_data_from_table_to_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    lines = block_with("lf score --config score.yaml")
    assert [line.split()[1] for line in lines] == ["doctor", "score", "fit", "test", "predict"]
    Path("scores").mkdir()  # doctor asks for what the config names, and the next line makes it
    Path("runs").mkdir()
    for line in lines:
        words = words_of(line)
        assert cli.main([*words, *(SMALL if words[0] == "fit" else [])]) == 0, line
    assert "LLM: gpt" in capsys.readouterr().out
    assert Path("runs/mine/latest/predictions.csv").read_text(encoding="utf-8").count("\n") == 7


@pytest.mark.usefixtures("reader")
def test_a_starter_config_is_written_and_parses() -> None:
    (line,) = block_with("lf init")
    assert cli.main(words_of(line)) == 0
    assert cli.main(["fit", "--config", "train.yaml", "--print_config"]) == 0
    assert cli.main(["score", "--config", "train_score.yaml", "--print_config"]) == 0


@pytest.mark.usefixtures("reader")
def test_deferral_promises_comparison_and_report() -> None:
    assert cli.main(words_of("lf score --config score.yaml")) == 0
    assert cli.main([*words_of("lf fit --config mine.yaml"), *SMALL]) == 0
    assert cli.main(words_of("lf test --run runs/mine/latest")) == 0
    share, accuracy, live = block_with("--llm-budget 0.2")
    assert cli.main([*words_of(share), "--data.on_missing", "mask"]) == 0
    assert cli.main(words_of(accuracy)) in (0, 2)  # 2: the message says what is within reach
    assert "--scorer llm.yaml" in live  # asks a provider; tests/cli has it with a server
    (line,) = block_with("--coverage")
    assert cli.main(words_of(line)) == 0
    assert "prediction_set" in Path("runs/mine/latest/predictions.csv").read_text(encoding="utf-8").splitlines()[0]
    for line in block_with("lf compare"):
        assert cli.main(words_of(line)) == 0, line
    assert Path("comparison.html").is_file()


@pytest.mark.usefixtures("reader")
def test_the_own_head_trains() -> None:
    assert cli.main(words_of("lf score --config score.yaml")) == 0
    (line,) = block_with("my_heads.SurestMember")
    assert cli.main([*words_of(line), *SMALL]) == 0
    from lf_lightning import FusionLightningModule

    kept = FusionLightningModule.load_from_checkpoint("runs/mine/latest/checkpoints/best.ckpt")
    assert type(kept.head).__name__ == "SurestMember"
    assert kept.head.sharpness == 8


@pytest.mark.usefixtures("reader")
def test_the_own_scorer_and_the_own_calibrator_do(capsys: pytest.CaptureFixture[str]) -> None:
    score, _ = block_with("keywords.yaml")
    assert cli.main(words_of(score)) == 0
    assert "keywords" in capsys.readouterr().out
    (fit,) = block_with("my_calibrators.MatchedFrequencies")
    assert cli.main([*words_of(fit), "--data.on_missing", "mask", *SMALL]) == 0
    from lf_lightning import FusionLightningModule

    kept = FusionLightningModule.load_from_checkpoint("runs/mine/latest/checkpoints/best.ckpt")
    assert type(kept.calibrator).__name__ == "MatchedFrequencies"
    assert kept.scorers == ["keywords"]
    assert kept.calibrator.bias.abs().sum() > 0


@pytest.mark.usefixtures("reader")
def test_the_own_system_trains_and_is_tested() -> None:
    assert cli.main(words_of("lf score --config score.yaml")) == 0
    fit, test = block_with("my_systems")
    assert cli.main([*words_of(fit), "--model.epochs=1", "--trainer.accelerator=cpu"]) == 0
    assert cli.main(words_of(test)) == 0
    assert Path("runs/soft/latest/predictions_test.csv").is_file()


@pytest.mark.parametrize("line", sorted({line for line in LINES if line.startswith("lf ")}))
def test_commands_have_the_options_that_they_are_given(line: str) -> None:
    command, *words = words_of(line)
    known = re.findall(r"--[\w-]+", help_texts.OVERVIEW + help_texts.of(command))
    for word in words:
        option = word.partition("=")[0].replace("_", "-")
        if option.startswith("--") and not option.startswith(("--model.", "--data.", "--trainer.")):
            assert option in {name.replace("_", "-") for name in known}, word


@pytest.mark.usefixtures("reader")
def test_python_blocks_run(tiny_encoder: str) -> None:
    assert cli.main(words_of("lf score --config score.yaml")) == 0
    assert cli.main([*words_of("lf fit --config mine.yaml"), *SMALL]) == 0
    assert cli.main([*words_of("lf fit --config mine.yaml --experiment other --model.seed 1"), *SMALL]) == 0
    assert cli.main(words_of("lf test --run runs/mine/latest")) == 0
    scripts = [text for language, text in BLOCKS if language == "python" and text not in FILES.values()]
    assert len(scripts) == 7
    for script in scripts:
        small = script.replace("roberta-base", tiny_encoder)
        small = small.replace("data.scorer_names,", "data.scorer_names, encoder_epochs=1,")
        small = small.replace('{"llm_provider"', f'{{"ml_model": "{tiny_encoder}", "num_epochs": 2, "llm_provider"')
        exec(compile(small, "docs", "exec"), {})
    assert Path("runs/python/results.json").is_file()


@pytest.mark.config
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("name", [name for name, text in FILES.items() if "\nmodel:" in text or "\ntrainer:" in text])
def test_yamls_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    configs = ["--config", "mine.yaml", "--config", name] if "\nmodel:" not in FILES[name] else ["--config", name]
    assert cli.main(["fit", *configs, "--allow-imports", OWN, "--print_config"]) == 0
    assert "class_path: lf_lightning" in capsys.readouterr().out


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("name", [name for name, text in FILES.items() if "\nscorer:" in text])
def test_scoring_yamls_parse(name: str) -> None:
    assert cli.main(["score", "--config", name, "--allow-imports", OWN, "--print_config"]) == 0


def test_the_yaml_of_own_data_is_short() -> None:
    assert len(FILES["mine.yaml"].splitlines()) <= 13  # twelve and its name


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("lf fit")])
def test_fit_lines_parse(line: str) -> None:
    words = [word for word in words_of(line) if word not in ("--ckpt_path", "last")]
    assert cli.main([*words, "--print_config"]) == 0


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("lf score")])
def test_score_lines_parse(line: str) -> None:
    assert cli.main([*words_of(line), "--print_config"]) == 0


@pytest.mark.usefixtures("reader")
def test_options_in_the_text_exist() -> None:
    options = re.findall(r"`((?:--(?:model|data|trainer)\.[^\s`]+ [^\s`]+ ?)+)`", EVERYTHING)
    assert len(options) >= 4
    for text in options:
        assert cli.main(["fit", "--config", "mine.yaml", *text.split(), "--print_config"]) == 0


@pytest.mark.usefixtures("reader")
def test_the_multilabel_yaml_trains() -> None:
    assert cli.main(["fit", "--config", "emotions.yaml", *SMALL]) == 0
    assert cli.main(["test", "--run", "runs/emotions/latest"]) == 0


@pytest.mark.usefixtures("reader")
def test_the_tracking_yaml_trains_offline() -> None:
    wandb = pytest.importorskip("wandb")
    assert cli.main(words_of("lf score --config score.yaml")) == 0
    (line,) = block_with("wandb.yaml")
    assert cli.main([*words_of(line), *SMALL]) == 0
    assert list(Path("runs/mine/latest/wandb").glob("offline-run-*"))
    wandb.finish()  # a command's process would end here; the next test must not find this run open


def test_make_targets_extras_and_modules_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = set(metadata("lf-lightning").get_all("Provides-Extra") or [])
    for target in re.findall(r"\bmake ([a-z]+)`|^make ([a-z]+)$", EVERYTHING, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
    for extra in re.findall(r"pip install -e \"\.\[([\w,-]+)\]\"", EVERYTHING):
        assert set(extra.split(",")) <= extras
    for module in re.findall(r"python -m benchmarks\.(\w+)", EVERYTHING):
        assert (ROOT / "benchmarks" / f"{module}.py").is_file() or f"python -m benchmarks.{module}` makes" in EVERYTHING


def test_links_and_the_tree_lead_somewhere() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (page.parent / target).exists(), (page.name, target)
    (tree,) = [text for _, text in BLOCKS if "encoders.py   any" in text]
    folder = ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        path = ROOT / (folder + name if line.startswith(" ") else name)
        assert path.exists(), path
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")}
    quiet = {
        "__init__.py",
        "__main__.py",
        "contract.py",
        "errors.py",
        "imports.py",
        "packaged.py",
        "pretrained.py",
        "likelihood.py",
        "lazy.py",
    }
    there = {path.name for path in (ROOT / "lf_lightning").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - quiet == named


def test_papers_names_what_exists_and_its_config_is_the_packaged_one() -> None:
    papers = (ROOT / "PAPERS.md").read_text(encoding="utf-8")
    names = re.findall(
        r"`((?:heads|calibration|losses|scoring|likelihood|encoders|deferral|guarantees|dynamics|results|generation)(?:\.\w+)+)",
        papers,
    )
    assert len(names) >= 10
    for name in names:
        assert pkgutil.resolve_name(f"lf_lightning.{name}"), name
    (block,) = re.findall(r"```yaml\n(.*?)```", papers, re.DOTALL)
    packaged = yaml.safe_load((ROOT / "configs" / "paper_fusion.yaml").read_text(encoding="utf-8"))["model"]["init_args"]
    shown = yaml.safe_load(block)["model"]["init_args"]
    assert {key: packaged[key] for key in shown} == shown


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./-]+\.(?:py|md|ipynb|toml|txt))`", text)
    paths = [path for path in named if "NAME" not in path and path != "utils.py"]
    assert len(paths) >= 20
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / "lf_lightning" / path).exists(), path


def test_no_path_of_a_machine_and_no_registry() -> None:
    documents = ("PAPERS.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "mkdocs.yml")
    for path in (*(ROOT / name for name in documents), *PAGES):
        assert not re.search(
            r"/work/|/home/|/tmp/|pypi\.|https?://(?!127\.0\.0\.1|localhost)", path.read_text(encoding="utf-8")
        ), path.name


def test_contributing_has_the_floors_that_are_checked() -> None:
    layers = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("layers = [")[2].partition("]")[0]
    checked = [name for line in re.findall(r'"([^"]+)"', layers) for name in line.split(" | ")]
    floors = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("| floor | modules |")[2].partition("\n\n")[0]
    told = [name for row in floors.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.partition(": they meet")[0])]
    assert told == checked
