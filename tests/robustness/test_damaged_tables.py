"""Tables with bytes cut off, changed or made up: read as a table, or refused by a `DataError`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from lf_lightning.data.head_of_table import read_head
from lf_lightning.data.row_stream import parts_of, read_part, shards_of
from lf_lightning.data.tables import read_table
from lf_lightning.errors import DataError, LFError
from tests.robustness.mutation import damaged, told

TABLE = pd.DataFrame(
    {"text": ['a "b", c\nx', "né 😀", "", "\r z"], "label": ["a", "b", "a", "b"], "more": [[1, 2], [], [3], None]}
)


def read_parts(source: str) -> None:
    (shard,) = shards_of(source)
    for part in parts_of(shard, 2):
        read_part(part, ["text"])


def written(folder: Path, kind: str) -> Path:
    path = folder / f"table.{kind}"
    plain = path.with_suffix("") if kind.endswith(".gz") else path
    if plain.suffix == ".jsonl":
        TABLE.to_json(plain, orient="records", lines=True)
    elif plain.suffix == ".parquet":
        TABLE.to_parquet(plain, row_group_size=3)
    else:
        TABLE[["text", "label"]].to_csv(plain, index=False, sep="\t" if plain.suffix == ".tsv" else ",")
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
def test_damage_is_named(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, kind)
    good = path.read_bytes()
    failures, refused = [], 0
    for seed in range(120):
        path.write_bytes(damaged(good, seed))
        for read in (read_table, read_head, read_parts):
            try:
                read(str(path))
            except LFError:
                refused += 1
            except Exception as error:  # whatever is not ours is what this test looks for
                failures.append((seed, error))
    assert not failures, told(failures)
    assert refused > 90


def test_damaged_parquet_read_part_by_part_is_never_another_error(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet")
    good = path.read_bytes()
    read_parts(str(path))
    for end in range(0, len(good), 173):
        path.write_bytes(good[:end])
        with pytest.raises(DataError, match=r"table\.parquet cannot be read as Parquet"):
            read_parts(str(path))
    failures = []
    notes = good.index(b'{"index_columns"')  # those of pandas, whose damage is no error of Arrow's
    for at in range(notes, good.index(b"\x00", notes), 11):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            read_parts(str(path))
        except DataError:
            pass
        except Exception as error:  # as above
            failures.append((at, error))
    assert not failures, told(failures)


def test_a_parquet_file_that_tells_of_more_rows_than_it_has_makes_no_parts_of_them(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet")
    good = path.read_bytes()
    count = b"\x16\x08\x19"  # the footer's rows, 4 in zigzag, before the list of row groups
    assert good.count(count) == 1
    path.write_bytes(good.replace(count, b"\x16\x7e\x19"))
    (shard,) = shards_of(str(path))
    with pytest.raises(DataError, match="tells of 63 rows, and its row groups of 4"):
        next(parts_of(shard, 1))


def test_a_changed_bit_in_a_compressed_table_is_never_another_text(tmp_path: Path) -> None:
    path = written(tmp_path, "csv.gz")
    good = path.read_bytes()
    want = read_table(str(path))["text"].tolist()
    for at in range(10, len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(DataError, match="cannot be read"):
            read_table(str(path))
    path.write_bytes(good)
    assert read_table(str(path))["text"].tolist() == want


def test_a_number_of_too_many_digits_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n{"text": ' + "9" * 5000 + "}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.jsonl, line 2 is not JSON"):
        read_table(str(path))


def test_damaged_notes_of_pandas_in_a_parquet_file_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(TABLE)
    notes = json.loads(table.schema.metadata[b"pandas"])
    for name in ("columns", "index_columns"):
        broken = json.dumps({key: value for key, value in notes.items() if key != name})
        pq.write_table(table.replace_schema_metadata({"pandas": broken}), tmp_path / "t.parquet")
        for read in (read_table, read_head, read_parts):
            with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet"):
                read(str(tmp_path / "t.parquet"))
