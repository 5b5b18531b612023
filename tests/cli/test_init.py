"""`lf init`: what it writes is read as it was meant, fits and tests; what it does not know it asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lf_lightning import cli
from lf_lightning.cli import runs
from lf_lightning.cli.starter_config import inline, printable
from lf_lightning.data.tables import read_table
from tests.conftest import TableFactory

QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
ODD = [
    "no",
    "null",
    "1",
    "0x1F",
    "12:30",
    "yes: maybe",
    'a "quoted" one',
    "😀 # emoji",
    "- dash",
    "{x}",
    "~",
    "ümläut",
    "a, b",
    "'",
    "\\n",
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)


def read(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    return found


def arguments(file: str = "texts.yaml") -> dict[str, Any]:
    found: dict[str, Any] = read(file)["data"]["init_args"]
    return found


def fits(config: str, encoder: str) -> dict[str, Any]:
    """What is on record of a fit and a test by the config as it is, but for a tiny encoder and one epoch."""
    fast = ["--model.encoder", encoder, "--model.encoder_epochs", "1", *QUIET]
    assert cli.main(["fit", "--config", config, *fast]) == 0
    assert cli.main(["test", "--run", f"runs/{Path(config).stem}/latest", *QUIET]) == 0
    (run,) = runs.listed(Path("runs"), Path(config).stem)
    record: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert record["metrics"]["test"]
    return record


def test_names_that_yaml_mangles_are_fitted(topic_table: TableFactory, tiny_encoder: str, capsys: Any) -> None:
    table = topic_table(140, k=6)
    odd = dict(zip(sorted(set(table["label"])), ["no", "null", "1", 'yes: "maybe"', "😀 # x", "a|b"], strict=True))
    table["label"] = table["label"].map(odd)
    table["text"] = [text.replace(" ", "\r\n" if row % 2 else "\r", 1) for row, text in enumerate(table["text"])]
    table.assign(id=range(140)).to_csv("texts.csv", index=False)
    assert cli.main(["init", "texts.csv"]) == 0
    said = capsys.readouterr().out
    assert "column 'text', assumed" in said
    assert "6, one a row (multiclass); 23 rows of" in said
    assert "not used: 'id'" in said
    assert arguments()["labels"] == sorted(odd.values())
    assert arguments()["max_length"] in (64, 128)
    assert cli.main(["fit", "--config", "texts.yaml", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["labels"] == sorted(odd.values())
    assert fits("texts.yaml", tiny_encoder)["labels"] == sorted(odd.values())


@pytest.mark.parametrize("llm", ["openai", "gemini", "anthropic", "deepseek", "local"])
def test_both_files_are_read_by_their_commands(llm: str, topic_table: TableFactory, capsys: Any) -> None:
    topic_table(60).rename(columns={"text": "review", "label": "topic"}).to_csv("my texts.csv", index=False)
    assert cli.main(["init", "my texts.csv", "--llm", llm]) == 0
    said = capsys.readouterr().out
    assert "lf score --config my_texts_score.yaml" in said
    assert "lf fit --config my_texts.yaml" in said
    fit, score = arguments("my_texts.yaml"), read("my_texts_score.yaml")
    assert fit["scores"] == score["store"]
    assert fit["scorers"] == [score["scorer"]["init_args"]["name"]]
    assert fit["text_columns"] == score["text_columns"] == ["review"]
    assert fit["labels"] == score["scorer"]["init_args"]["labels"]
    assert score["source"] == [fit["train"]]
    assert cli.main(["fit", "--config", "my_texts.yaml", "--print_config"]) == 0
    capsys.readouterr()
    if llm != "local":  # whose model is not here
        code = cli.main(["score", "--config", "my_texts_score.yaml", "--dry-run"])
        assert code == 0, capsys.readouterr().err
        assert "60" in capsys.readouterr().out


def test_columns_of_flags_several_labels(multilabel_table: TableFactory, tiny_encoder: str, capsys: Any) -> None:
    table = multilabel_table(90)
    flags = table["label"].str.get_dummies("|").assign(never=0)
    pd.concat([table[["text"]], flags], axis=1).to_parquet("texts.parquet")
    assert cli.main(["init", "texts.parquet"]) == 0
    assert "left out: column 'never', 1 in 0 of 90 rows" in capsys.readouterr().out
    assert arguments()["label_columns"] == sorted(flags.columns.drop("never"))
    assert arguments()["task"] == "multilabel"
    assert fits("texts.yaml", tiny_encoder)["labels"] == sorted(flags.columns.drop("never"))


def test_flags_of_which_one_is_set_are_one_label(topic_table: TableFactory) -> None:
    table = topic_table(60)
    pd.concat([table[["text"]], pd.get_dummies(table["label"])], axis=1).to_csv("texts.csv", index=False)
    assert cli.main(["init", "texts.csv"]) == 0
    assert "task" not in arguments()
    assert arguments()["label_columns"] == ["politics", "science", "sport"]


@pytest.mark.parametrize("separator", ["|", ", ", ";"])
def test_several_labels_in_a_cell(separator: str, multilabel_table: TableFactory, capsys: Any) -> None:
    table = multilabel_table(80)
    table["label"] = table["label"].str.replace("|", separator)
    table.to_json("texts.jsonl", orient="records", lines=True)
    assert cli.main(["init", "texts.jsonl"]) == 0
    assert arguments()["task"] == "multilabel"
    assert arguments().get("label_separator", "|") == separator
    table.loc[3, "label"] = ""
    table.to_json("texts.jsonl", orient="records", lines=True)
    capsys.readouterr()
    assert cli.main(["init", "texts.jsonl", "--force"]) == 2
    assert "1 cells of 'label' are empty" in capsys.readouterr().err
    assert cli.main(["init", "texts.jsonl", "--force", "--empty", "none"]) == 0
    assert arguments()["empty_label"] == "none"
    assert len(arguments()["labels"]) == 4


def test_lists_in_cells(multilabel_table: TableFactory) -> None:
    table = multilabel_table(40)
    table.assign(label=table["label"].str.split("|")).to_parquet("texts.parquet")
    assert cli.main(["init", "texts.parquet"]) == 0
    assert (arguments()["task"], len(arguments()["labels"])) == ("multilabel", 4)


def test_a_column_of_splits_becomes_files(topic_table: TableFactory, tiny_encoder: str, capsys: Any) -> None:
    table = topic_table(90)
    table["text"] = table["text"] + ["\r \u2028\n\"'" if row % 3 else "" for row in range(90)]
    table["split"] = ["train", "Dev", "test"] * 30
    table.to_csv("texts.csv", index=False)
    assert cli.main(["init", "texts.csv"]) == 0
    assert "train: 30 rows of column 'split', written to texts_train.jsonl" in capsys.readouterr().out
    found = arguments()
    parts = {split: read_table(found[split]) for split in ("train", "validation", "test")}
    for split, said in {"train": "train", "validation": "Dev", "test": "test"}.items():
        assert parts[split]["text"].tolist() == table["text"][table["split"] == said].tolist()
    assert "validation_share" not in found
    fits("texts.yaml", tiny_encoder)


def test_files_beside_it(topic_table: TableFactory, capsys: Any) -> None:
    Path("news").mkdir()
    for name in ("train", "dev", "test", "other_test"):
        topic_table(30).to_csv(f"news/{name}.csv", index=False)
    for source in ("news", "news/train.csv"):
        assert cli.main(["init", source, "--out", "made/a.yaml", "--force"]) == 0
        found = arguments("made/a.yaml")
        assert [found[name] for name in ("train", "validation", "test")] == [f"news/{n}.csv" for n in ("train", "dev", "test")]
    pd.DataFrame({"text": ["a goal"]}).to_csv("news/test.csv", index=False)
    capsys.readouterr()
    assert cli.main(["init", "news", "--force"]) == 0
    assert "news/test.csv has no column 'label', so it is not used" in capsys.readouterr().out
    topic_table(30).to_csv("news/valid.csv", index=False)
    assert cli.main(["init", "news", "--force"]) == 2
    assert "could both be the validation rows" in capsys.readouterr().err


def test_a_folder_of_texts() -> None:
    for row in range(40):
        folder = Path("mail") / ("spam" if row % 2 else "ham")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.txt").write_text(f"letter number {row} " * (row + 1), encoding="utf-8")
    assert cli.main(["init", "mail"]) == 0
    assert arguments("mail.yaml")["labels"] == ["ham", "spam"]


def test_what_was_found_is_said(topic_table: TableFactory, capsys: Any) -> None:
    table = topic_table(60)
    other = table.head(2).assign(label="music")
    table = pd.concat([table, table.head(5), other, pd.DataFrame({"text": ["no label here", "  "], "label": ["", "sport"]})])
    table.to_csv("texts.csv", index=False)
    assert cli.main(["init", "texts.csv"]) == 0
    said = capsys.readouterr().out
    for part in (
        "all 69 rows",
        "no label: 1 rows",
        "empty: 1 texts",
        "repeated: 7 texts, 2 of them with other labels",
        "fewer than 5 rows of 'music'",
    ):
        assert part in said
        assert part in Path("texts.yaml").read_text(encoding="utf-8")
    assert arguments()["drop_duplicates"] is True


def test_many_labels_are_fine_tuned(topic_table: TableFactory) -> None:
    pd.concat([topic_table(900), topic_table(900, seed=1)]).to_csv("texts.csv", index=False)
    assert cli.main(["init", "texts.csv", "--llm", "local"]) == 0
    model = read("texts.yaml")["model"]["init_args"]
    assert (model["encoder"], model["encoder_epochs"], model["encoder_lr"]) == ("roberta-base", 3, 2e-5)
    assert "frozen_layers" not in model


@pytest.mark.parametrize(
    ("columns", "words", "complaint"),
    [
        (["title", "body"], [], r"Way out: --text title; or several, to be joined by a newline: --text title body"),
        (["body"], ["--text", "nothing"], "--text 'nothing': there is no such column. Columns: 'body', 'label'"),
        (["body"], ["--labels", "nothing"], "--labels 'nothing': there is no such column"),
        ([], [], "No column looks like a text: 'label'"),
    ],
)
def test_what_is_not_clear_is_asked(columns: list[str], words: list[str], complaint: str, capsys: Any) -> None:
    text = [f"the {row} vote of the house" for row in range(30)]
    pd.DataFrame({**dict.fromkeys(columns, text), "label": ["a", "b"] * 15}).to_csv("texts.csv", index=False)
    assert cli.main(["init", "texts.csv", *words]) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("texts.yaml").exists()


def test_two_columns_of_labels_are_named(topic_table: TableFactory, capsys: Any) -> None:
    table = topic_table(30).rename(columns={"label": "who"}).assign(where=["here", "there"] * 15)
    table.to_csv("texts.csv", index=False)
    assert cli.main(["init", "texts.csv"]) == 2
    assert "--labels who ('who' (3 different, 1.0 words)); or --labels where" in capsys.readouterr().err
    assert cli.main(["init", "texts.csv", "--labels", "where"]) == 0
    assert arguments()["label_column"] == "where"


def test_nothing_is_replaced_without_force(topic_table: TableFactory, capsys: Any) -> None:
    topic_table(30).to_csv("texts.csv", index=False)
    Path("texts_score.yaml").write_text("mine", encoding="utf-8")
    assert cli.main(["init", "texts.csv", "--llm", "local"]) == 2
    assert "texts_score.yaml exists and was not touched" in capsys.readouterr().err
    assert not Path("texts.yaml").exists()
    assert cli.main(["init", "texts.csv", "--llm", "local", "--force"]) == 0
    assert Path("texts_score.yaml").read_text(encoding="utf-8") != "mine"


def test_it_imports_no_torch(topic_table: TableFactory) -> None:
    topic_table(30).to_csv("texts.csv", index=False)
    code = "import sys; from lf_lightning import cli; sys.exit(cli.main(['init', 'texts.csv']) or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1))
@example("no")
@example("1_000")
@example("12:30:45")
@example("=")
@example("\ud800\ufeff\x85\u2028")
def test_every_name_is_read_as_itself(name: str) -> None:
    line = f"labels:\n  - {inline(name)} # {printable(name)}\n"
    assert yaml.safe_load(line) == {"labels": [name]}
    line.encode("utf-8")


@pytest.mark.parametrize("name", ODD)
def test_the_parser_of_lf_fit_reads_it_too(name: str) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--labels", type=list[str])
    Path("a.yaml").write_text(f"labels:\n- {inline(name)}\n- other\n", encoding="utf-8")
    assert parser.parse_args(["--config", "a.yaml"]).labels == [name, "other"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.text(alphabet='text,label\n\r\t"|01ab é\0', max_size=300).map(lambda text: text.encode()),
        st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["a", "b", "", "a|b"])), max_size=30).map(
            lambda rows: ("\n".join(json.dumps({"text": t, "label": label}) for t, label in rows)).encode()
        ),
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".txt"]),
)
def test_garbage_is_named(content: bytes, suffix: str, capsys: Any) -> None:
    for file in Path().glob("garbage*"):
        file.unlink()
    Path(f"garbage{suffix}").write_bytes(content)
    code = cli.main(["init", f"garbage{suffix}", "--force"])  # an error that is not the package's own would come through
    said = capsys.readouterr()
    assert code in (0, 2, 3)
    if code:
        assert said.err.startswith("lf: ")
        assert not Path("garbage.yaml").exists()
    else:
        assert len(arguments("garbage.yaml")["labels"]) >= 2


def test_random_tables_give_configs_that_are_read() -> None:
    rng = np.random.default_rng(0)
    for number in range(15):
        labels = rng.choice(ODD, size=rng.integers(2, 5), replace=False).tolist()
        rows = {"text": [f"some {row} words of {number}" for row in range(40)], "label": rng.choice(labels, 40).tolist()}
        rows["label"][: len(labels)] = labels
        pd.DataFrame(rows).to_csv("t.csv", index=False)
        assert cli.main(["init", "t.csv", "--force", "--llm", "openai", "--labels", "label"]) == 0
        if arguments("t.yaml").get("task") is None:
            assert arguments("t.yaml")["labels"] == sorted(labels)
            assert read("t_score.yaml")["scorer"]["init_args"]["labels"] == sorted(labels)
