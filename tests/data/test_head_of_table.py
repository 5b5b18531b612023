"""The head of a table has its first rows as `read_table` has them, wherever the cut falls."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_lightning.data import head_of_table
from lf_lightning.data.head_of_table import read_head
from lf_lightning.data.inspection import duplicates, token_quantile
from lf_lightning.data.tables import read_table
from lf_lightning.errors import DataError


def write(table: pd.DataFrame, file: Path) -> None:
    if ".jsonl" in file.name:
        table.to_json(file, orient="records", lines=True)
    else:
        table.to_csv(file, index=False, sep="\t" if ".tsv" in file.name else ",", lineterminator="\n")


NUL = "\0" if sys.version_info >= (3, 11) else "-"  # the csv module of 3.10 writes none and reads none


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(alphabet=f'a,"\n\r\té😀{NUL} ', max_size=12), min_size=1, max_size=12),
    cut=st.integers(1, 400),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".csv.gz"]),
)
def test_a_cut_leaves_whole_rows(texts: list[str], cut: int, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"t{suffix}"
    write(pd.DataFrame({"text": texts, "label": "x"}), file)
    raw = gzip.decompress(file.read_bytes()) if suffix == ".csv.gz" else file.read_bytes()
    whole = read_table(str(file))
    try:
        head = read_head(str(file), most=cut)
    except DataError:
        assert cut < len(raw)
        return
    assert head.whole == (cut >= len(raw))
    assert head.table["text"].tolist() == whole["text"].tolist()[: len(head.table)]
    if head.whole:
        assert len(head.table) == len(whole)


def test_a_long_parquet_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_of_table, "ROWS", 10)
    table = pd.DataFrame({"text": [f"text {row}" for row in range(200_000)]})
    table.to_parquet(tmp_path / "t.parquet", row_group_size=1000)
    head = read_head(str(tmp_path / "t.parquet"))
    assert not head.whole
    assert 10 <= len(head.table) < 200_000
    assert head.table["text"].tolist() == table["text"].tolist()[: len(head.table)]


def test_broken_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet"):
        read_head(str(tmp_path / "t.parquet"))


def test_tokens_are_near_those_of_a_tokenizer() -> None:
    sentence = "The minister announced on Tuesday that the parliament will vote on the new election law before summer."
    assert 18 <= token_quantile([sentence] * 20) <= 30  # BERT's word pieces: 20, RoBERTa's: 20
    assert token_quantile(["議会は来週法案を採決する"]) == 14
    assert token_quantile([]) == 2


def test_duplicates_and_their_conflicts() -> None:
    texts, cells = ["a b", "a  b", "a b", "c", "c", "d"], [["x"], ["x"], ["y"], None, ["x"], ["y"]]
    assert duplicates(texts, cells) == (3, 1)
