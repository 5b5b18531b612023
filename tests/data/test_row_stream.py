"""Parts of tables hold the rows that `read_table` reads, whatever the format, the size of the parts and the place."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_lightning.data.csv_stream import SeparatedRows
from lf_lightning.data.csv_table import parse_separated
from lf_lightning.data.locations import is_url, write_whole
from lf_lightning.data.row_stream import parts_of, read_part, shards_of
from lf_lightning.data.tables import read_table
from lf_lightning.errors import ConfigurationError, DataError, MissingDependencyError

NUL = "\0" if sys.version_info >= (3, 11) else "-"  # the csv module of 3.10 writes none and reads none
HARD = [
    "a\rb",
    "line\nbreak",
    'say "no"',
    "a, b",
    f"nul{NUL}byte",
    "NA",
    "\ue000r\ue000",
    "ends in \r",
    "\x85\u2028",
    "😀",
    "\r\n\r\n",
    "-",
]


def table(rows: int = 25) -> pd.DataFrame:
    texts = [f"{HARD[row % len(HARD)]} {row}" for row in range(rows)]
    return pd.DataFrame({"text": texts, "label": [str(row) for row in range(rows)]}, dtype=object)


def written(folder: Path, suffix: str, frame: pd.DataFrame) -> str:
    path = folder / f"t{suffix}"
    kind = suffix.removesuffix(".gz")
    if kind == ".parquet":
        frame.to_parquet(path, row_group_size=max(4, len(frame) // 8))
        return str(path)
    if kind in (".jsonl", ".ndjson"):
        content = "\n\n".join(json.dumps(row) for row in frame.to_dict("records"))
    else:
        content = frame.to_csv(index=False, sep="\t" if kind == ".tsv" else ",", lineterminator="\r\n", quoting=1)
    raw = b"\xef\xbb\xbf" + content.encode()
    path.write_bytes(gzip.compress(raw) if suffix.endswith(".gz") else raw)
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".jsonl", ".ndjson.gz", ".parquet"])
@pytest.mark.parametrize("rows", [3, 10, 25])
def test_parts_together_are_the_table(tmp_path: Path, suffix: str, rows: int) -> None:
    source = written(tmp_path, suffix, table())
    (shard,) = shards_of(source)
    parts = list(parts_of(shard, rows))
    assert [part.first for part in parts] == list(range(0, 25, rows))
    whole = read_table(source)[["text"]].astype(object)
    assert whole["text"].tolist() == table()["text"].tolist()
    for part in reversed(parts):  # each by itself, in any order
        read = read_part(part, ["text"])
        assert read["text"].tolist() == whole["text"].tolist()[part.first : part.first + rows]
    assert shard.name == "t"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.text(alphabet=f'a,"\r\n{NUL}\ue000 é', max_size=6), min_size=2, max_size=2), max_size=6),
    st.integers(1, 3),
)
def test_rows_as_the_whole_file_has_them(cells: list[list[str]], step: int) -> None:
    content = pd.DataFrame([["x", "y"], *cells]).to_csv(index=False, header=False, lineterminator="\n", quoting=1) + "\n"
    rows = SeparatedRows(io.BytesIO(content.encode()), ",", "t")
    places, found = [], []
    while True:
        places.append((rows.offset, rows.row))
        if not (taken := rows.take(step)):
            break
        found += taken
    expected = parse_separated(content, ",", "t")
    assert found == expected.to_numpy().tolist() == cells
    for offset, row in places:
        rows.jump(offset, row)
        assert rows.take(100) == cells[row:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"text,text\na,b\n", "two columns named 'text'"),
        (b"text,label\na\n", "row 0 has 1 cells where the header has 2"),
        (b'text\n"a\n', "not valid with separator"),
        (b"text\na\n\xff\n", r"not UTF-8 \(byte 7\)"),
        (b"text\ra\rb", "carriage returns"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(parts_of(shards_of(str(tmp_path / "t.csv"))[0], 10))


def test_a_file_that_changed_is_seen(tmp_path: Path) -> None:
    source = written(tmp_path, ".csv", table())
    *_, last = parts_of(shards_of(source)[0], 10)
    written(tmp_path, ".csv", table(22))
    with pytest.raises(DataError, match="has changed"):
        read_part(last, ["text"])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_memory_is_bounded_by_the_part(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"text": [f"{row} {'word ' * 200}" for row in range(6_000)], "other": "x" * 50})
    source = written(tmp_path, suffix, frame)  # 6 MB of texts
    (shard,) = shards_of(source)
    read_part(next(parts_of(shard, 10)), ["text"])  # imports
    tracemalloc.start()
    for number, part in enumerate(parts_of(shard, 200)):
        if number % 10 == 0:
            assert len(read_part(part, ["text"])) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


class TestFolders:
    def test_files_at_any_depth_hidden_ones_and_strangers_left_out(self, tmp_path: Path) -> None:
        for name in ("b/2.csv", "b/10.csv", "a.jsonl", "_plan.csv", ".x/1.csv", "notes.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("text\na\n")
        assert [shard.name for shard in shards_of(str(tmp_path))] == ["a", "b/10", "b/2"]
        assert [shard.name for shard in shards_of(f"{tmp_path}/b/*.csv")] == ["10", "2"]
        assert [shard.file for shard in shards_of(f"file://{tmp_path}/b/2.csv")] == [str(tmp_path / "b/2.csv")]

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="no such file or folder"):
            shards_of(str(tmp_path / "x.csv"))
        with pytest.raises(ConfigurationError, match="holds no table"):
            shards_of(str(tmp_path))
        (tmp_path / "a.csv").touch()
        (tmp_path / "a.parquet").touch()
        with pytest.raises(ConfigurationError, match="two formats"):
            shards_of(str(tmp_path))


class TestUrls:
    def test_tables_behind_urls(self, tmp_path: Path) -> None:
        memory = fsspec.filesystem("memory")
        for suffix in (".csv.gz", ".parquet"):
            source = written(tmp_path, suffix, table())
            memory.pipe_file(f"/row_stream/t{suffix}", Path(source).read_bytes())
            url = f"memory://row_stream/t{suffix}"
            pd.testing.assert_frame_equal(read_table(url), read_table(source))
            pd.testing.assert_frame_equal(read_table(f"file://{source}"), read_table(source))
            (shard,) = shards_of(url)
            assert [read_part(part, ["text"])["text"].tolist() for part in parts_of(shard, 20)] == [
                table()["text"].tolist()[:20],
                table()["text"].tolist()[20:],
            ]

    def test_a_missing_file_and_folder(self) -> None:
        with pytest.raises(ConfigurationError, match=r"train='memory://nowhere/t\.csv': there is no such file"):
            read_table("memory://nowhere/t.csv", "train")
        with pytest.raises(ConfigurationError, match="no such file or folder"):
            shards_of("memory://nowhere/")

    def test_the_package_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(MissingDependencyError, match=r"s3:// needs the package 's3fs'. Way out: pip install s3fs"):
            read_table("s3://bucket/t.csv", "train")

    def test_unknown_urls_and_passwords(self) -> None:
        with pytest.raises(ConfigurationError, match="Protocol not known"):
            read_table("nothing://bucket/t.csv")
        with pytest.raises(ConfigurationError, match="holds a password") as caught:
            read_table("ftp://me:secret@host/t.csv")
        assert "secret" not in str(caught.value)

    def test_what_is_no_url(self) -> None:
        assert not any(is_url(name) for name in ("a.csv", "/a/b.csv", "hf:name:test", "package:a/b.csv", "C:/a.csv"))
        assert is_url("hf://datasets/a/b.csv")

    def test_a_file_is_whole_or_not_there(self, tmp_path: Path) -> None:
        def fails(path: Path) -> None:
            path.write_text("half")
            raise OSError("disk full")

        for folder in (f"{tmp_path}/out", "memory://row_stream_out"):
            write_whole(folder, "a/b.csv", lambda path: _write(path, "x"))
            fs, root = fsspec.core.url_to_fs(folder)
            assert fs.cat_file(f"{root}/a/b.csv") == b"x"
        with pytest.raises(DataError, match=r"c\.csv cannot be written: disk full"):
            write_whole("memory://row_stream_out", "c.csv", fails)
        assert not fsspec.filesystem("memory").exists("/row_stream_out/c.csv")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
