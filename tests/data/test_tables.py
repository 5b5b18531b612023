from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from lf_lightning.data.csv_table import parse_separated
from lf_lightning.data.tables import read_table
from lf_lightning.data.texts import texts_of
from lf_lightning.errors import ConfigurationError, DataError, MissingDependencyError

NUL = "\0" if sys.version_info >= (3, 11) else "-"  # the csv module of 3.10 writes none and reads none
HARD = [
    "a\rb",
    "line\nbreak",
    'say "no"',
    "comma, here",
    f"nul{NUL}byte",
    "NA",
    "",
    "\u202ertl \U0001f600",
    "ends in \r x",
    "\x85\u2028",
]
LABELS = ["yes", "no", "null", "1", "NA", "", "1.0", "True", "nan", "None"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_separated_files_give_back_every_cell(tmp_path: Path, suffix: str, newline: str) -> None:
    path = tmp_path / f"table{suffix}"
    table = pd.DataFrame({"text": HARD, "label": LABELS}, dtype=object)
    table.to_csv(path, index=False, sep="\t" if "tsv" in suffix else ",", lineterminator=newline)
    read = read_table(str(path))
    assert read["text"].tolist() == HARD
    assert read["label"].tolist() == LABELS


def test_bare_carriage_returns_make_no_rows(tmp_path: Path) -> None:
    texts = [f"first {row}\rsecond" if row % 3 else f'"quoted"\r{row}, x' for row in range(2000)]
    # As the csv module of Python 3.12 and before writes them: a lone return is no reason for quotes.
    cells = [text if text.startswith("first") else '"' + text.replace('"', '""') + '"' for text in texts]
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"{cell},a\n" for cell in cells), newline="")
    assert len(pd.read_csv(tmp_path / "t.csv")) > 2000  # the naive way
    assert read_table(str(tmp_path / "t.csv"))["text"].tolist() == texts


def test_long_text_byte_order_mark_blank_lines_and_old_mac_rows() -> None:
    assert parse_separated("text\n" + "x" * 1_000_000 + "\n\n", ",", "t")["text"].map(len).tolist() == [1_000_000]
    assert parse_separated("text,label\ra,b\rc,d", ",", "t").to_numpy().tolist() == [["a", "b"], ["c", "d"]]


def test_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("\ufefftext,label\nä,b\n".encode())
    assert list(read_table(str(tmp_path / "t.csv")).columns) == ["text", "label"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("text,label\na\n", "row 0 has 1 cells where the header has 2"),
        ("text,label\na,b\nx,y,z\n", "row 1 has 3 cells"),
        ('text,label\n"a,b\nc,d\n', "not valid"),
        ('text,label\n"a" b,c\n', "not valid"),
        ("text,text\na,b\n", "two columns named 'text'"),
    ],
)
def test_broken_separated_files_are_refused(content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_separated(content, ",", "t.csv")


def test_jsonl_keeps_types_and_unicode_line_separators(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b", "label": ["x", "y"]}, {"text": "c", "label": None}, {"text": "\ud800", "label": []}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    table = read_table(str(tmp_path / "t.jsonl"))
    assert table["text"].tolist() == ["a\u2028b", "c", "\ud800"]
    assert table["label"].tolist() == [["x", "y"], None, []]
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2"):
        read_table(str(tmp_path / "bad.jsonl"))
    (tmp_path / "list.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="not a JSON object but list"):
        read_table(str(tmp_path / "list.jsonl"))


def test_parquet_data_frame_and_folder_of_labels(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}, index=[5, 7])
    table.to_parquet(tmp_path / "t.parquet")
    assert read_table(str(tmp_path / "t.parquet"))["text"].tolist() == ["a", "b"]
    assert list(read_table(table).index) == [0, 1]
    for label, name, raw in (("tech", "2.txt", b"caf\xe9"), ("tech", "1.txt", "café".encode()), ("art", "1.txt", b"a\r\nb")):
        (tmp_path / "folder" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / label / name).write_bytes(raw)
    assert read_table(str(tmp_path / "folder")).to_dict("list") == {
        "text": ["a\r\nb", "café", "café"],
        "label": ["art", "tech", "tech"],
        "file": ["art/1.txt", "tech/1.txt", "tech/2.txt"],
    }


def test_saved_datasets_give_class_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "tags": datasets.List(datasets.ClassLabel(names=["p", "q"])),
        }
    )
    part = datasets.Dataset.from_dict(
        {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[0, 1], [], [1]]}, features=features
    )
    part.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": part}).save_to_disk(tmp_path / "several")
    for source in (str(tmp_path / "one"), f"hf:{tmp_path / 'several'}:train"):
        table = read_table(source)
        assert table["label"].tolist() == ["yes", "no", None]
        assert table["tags"].tolist() == [["p", "q"], [], ["q"]]
    with pytest.raises(ConfigurationError, match="Name one: hf:"):
        read_table(str(tmp_path / "several"))
    with pytest.raises(ConfigurationError, match=r"no split 'test'. Its splits: train"):
        read_table(f"hf:{tmp_path / 'several'}:test")


def test_hub_name_without_a_network_fails_at_once() -> None:
    pytest.importorskip("datasets")
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ConfigurationError, match=r"train='hf:nobody/nothing:train' could not be loaded.*save_to_disk"):
        read_table("hf:nobody/nothing:train", "train")
    with pytest.raises(ConfigurationError, match="write hf:NAME:SPLIT"):
        read_table("hf:nobody")


def test_sources_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"train='nowhere\.csv': there is no such file"):
        read_table("nowhere.csv", "train")
    with pytest.raises(ConfigurationError, match=r"no known format. Known: \.csv"):
        read_table("table.xlsx")
    with pytest.raises(ConfigurationError, match=r"has no <label>/\*\.txt files"):
        read_table(str(tmp_path))
    with pytest.raises(MissingDependencyError, match="no_such_package"):
        read_table("package:no_such_package/data")
    (tmp_path / "latin.csv").write_bytes(b"text\ncaf\xe9\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_table(str(tmp_path / "latin.csv"))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"text\na\n" * 99)[:20])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(str(tmp_path / "cut.csv.gz"))
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="Parquet"):
        read_table(str(tmp_path / "bad.parquet"))


def test_texts_are_exact_joined_and_cut_to_words() -> None:
    table = pd.DataFrame({"title": [" A ", "B"], "text": ["x  y\tz\n", ""]})
    assert texts_of(table, ["text"], None, "train") == ["x  y\tz\n", ""]
    assert texts_of(table, ["title", "text"], None, "train") == [" A \nx  y\tz\n", "B\n"]
    long = " a\n b  c d\u00a0e "
    assert texts_of(pd.DataFrame({"text": [long]}), ["text"], 3, "train") == [" ".join(long.split()[:3])]
    assert texts_of(pd.DataFrame({"text": [long]}), ["text"], 99, "train") == [" ".join(long.split())]


def test_missing_texts_are_named_with_their_rows() -> None:
    table = pd.DataFrame({"text": ["a", None, "b", float("nan")]})
    with pytest.raises(DataError, match=r"train: column 'text' has no text in 2 rows \(row numbers 1, 3;"):
        texts_of(table, ["text"], None, "train")
    with pytest.raises(ConfigurationError, match=r"train has no column 'body'. Its columns: text"):
        texts_of(table, ["body"], None, "train")
