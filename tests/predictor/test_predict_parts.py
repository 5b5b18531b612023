"""`lf predict --engine local`: the rows of `lf predict`, part by part, whatever holds them; a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest

from lf_lightning import cli
from lf_lightning.cli.predict_parts import predict_table
from lf_lightning.errors import ConfigurationError, DataError, ScoreMismatchError
from lf_lightning.predictor.parts import MANIFEST


@pytest.fixture(scope="session")
def plain(fusion: Path, world: Path) -> pd.DataFrame:
    """What `lf predict` says of the test rows."""
    source = str(world / "test.csv")
    assert cli.main(["predict", "--run", str(fusion), "--data.predict", source, "--trainer.enable_progress_bar", "false"]) == 0
    return pd.read_csv(fusion / "predictions.csv", keep_default_na=False)


def shards(world: Path, folder: Path, suffix: str, sizes: tuple[int, ...] = (20, 7, 40)) -> Path:
    """The test rows in a folder of files."""
    frame, start = pd.read_csv(world / "test.csv"), 0
    for number, size in enumerate(sizes):
        path = folder / f"day={number % 2}" / f"shard{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = frame[start : start + size]
        if suffix == ".parquet":
            part.to_parquet(path, row_group_size=5)
        elif suffix == ".jsonl":
            part.to_json(path, orient="records", lines=True)
        else:
            part.to_csv(path, index=False)
        start += size
    assert start == len(frame)
    return folder


def read(out: Path | str) -> pd.DataFrame:
    frame = pd.read_parquet(out)
    return frame.drop(columns=[name for name in frame if name.startswith("day")])


def same(found: pd.DataFrame, plain: pd.DataFrame) -> None:
    """Equal but for the numbers of rows, which count within a file, and for what another batch changes in the last digits."""
    assert sorted(found.columns) == sorted(plain.columns)
    found = found.set_index("text").loc[plain["text"]].reset_index()
    for name in plain:
        if name == "row":
            continue
        if name.startswith("p"):
            numbers = pd.to_numeric(plain[name], errors="coerce")
            if numbers.notna().any():
                np.testing.assert_allclose(found[name].astype(float), numbers, rtol=2e-4, atol=1e-5)
                continue
        assert found[name].tolist() == plain[name].tolist(), name


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_folder_of_shards_is_the_table(
    suffix: str, fusion: Path, world: Path, plain: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = shards(world, tmp_path / "in", suffix), tmp_path / "out"
    words = [
        "--engine",
        "local",
        "--run",
        str(fusion),
        "--data.predict",
        str(source),
        "--out",
        str(out),
        "--rows-per-part",
        "15",
    ]
    assert cli.main(["predict", *words]) == 0
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.parquet"))
    assert names == [
        *(f"day=0/shard0-{first:010d}.parquet" for first in (0, 15)),
        *(f"day=0/shard2-{first:010d}.parquet" for first in (0, 15, 30)),
        "day=1/shard1-0000000000.parquet",
    ]
    found = read(out)
    same(found, plain)
    assert found["row"].tolist() == [*range(20), *range(40), *range(7)]
    assert "67 rows predicted" in capsys.readouterr().out
    assert cli.main(["predict", *words]) == 0
    assert "0 rows predicted" in capsys.readouterr().out


def test_from_memory_to_memory_as_csv_without_texts(fusion: Path, world: Path, plain: pd.DataFrame) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/parts_in/test.csv", (world / "test.csv").read_bytes())
    done = predict_table(
        str(fusion), "memory://parts_in/", "memory://parts_out", format="csv", texts=False, rows_per_part=40, device="cpu"
    )
    assert (done.rows, done.files, done.there) == (67, 2, 0)
    parts = [pd.read_csv(memory.open(file)) for file in memory.glob("/parts_out/*.csv")]
    found = pd.concat(parts, ignore_index=True)
    assert "text" not in found
    assert found["row"].tolist() == list(range(67))
    assert found["predicted"].tolist() == plain["predicted"].tolist()


def test_a_stopped_run_goes_on_and_asks_for_the_rest_only(
    fusion: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"run": str(fusion), "source": str(world / "test.csv"), "rows_per_part": 10}
    predict_table(**given, out=str(tmp_path / "whole"))
    bad = pd.read_csv(world / "test.csv").astype(object)
    source, out = tmp_path / "test.jsonl", tmp_path / "out"
    bad.to_json(source, orient="records", lines=True)
    good = source.read_text()
    lines = good.splitlines(keepends=True)
    lines[35] = lines[35].replace('"text":"', '"texx":"')
    source.write_text("".join(lines))
    with pytest.raises(DataError, match="no text in 1 rows"):
        predict_table(**{**given, "source": str(source)}, out=str(out))
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert len(before) == 3
    source.write_text(good)  # mended, and of the same length
    done = predict_table(**{**given, "source": str(source)}, out=str(out))
    assert (done.rows, done.files, done.there) == (37, 4, 3)
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    pd.testing.assert_frame_equal(read(out), read(tmp_path / "whole"))


class TestWhatIsRefused:
    def test_a_folder_of_another_model_or_of_other_tables(
        self, fusion: Path, encoder_alone: Path, world: Path, tmp_path: Path
    ) -> None:
        source, out = tmp_path / "t.csv", str(tmp_path / "out")
        frame = pd.read_csv(world / "test.csv")[:12]
        frame.to_csv(source, index=False)
        predict_table(str(fusion), str(source), out)
        with pytest.raises(ConfigurationError, match="holds predictions made with model="):
            predict_table(str(encoder_alone), str(source), out)
        with pytest.raises(ConfigurationError, match="holds predictions made with rows_per_part=10000"):
            predict_table(str(fusion), str(source), out, rows_per_part=5)
        frame.iloc[:6].to_csv(source, index=False)
        with pytest.raises(ConfigurationError, match="of other contents of 't'"):
            predict_table(str(fusion), str(source), out)
        assert json.loads((tmp_path / "out" / MANIFEST).read_text())["rows_per_part"] == 10_000

    def test_numbers_options_and_empty_tables(self, fusion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(ConfigurationError, match="rows_per_part=0"):
            predict_table(str(fusion), "x.csv", rows_per_part=0)
        (tmp_path / "t.csv").write_text("text\n")
        with pytest.raises(DataError, match="has no rows"):
            predict_table(str(fusion), str(tmp_path / "t.csv"), str(tmp_path / "out"))
        assert cli.main(["predict", "--engine", "local", "--run", str(fusion), "--source", "t.csv", "--llm-budget", "0.2"]) == 2
        assert "llm_budget" in capsys.readouterr().err

    def test_a_column_that_is_not_there(self, fusion: Path, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("message\nhello\n")
        with pytest.raises(ConfigurationError, match="has no column 'text'"):
            predict_table(str(fusion), str(tmp_path / "t.csv"), str(tmp_path / "out"))


class TestMissingScores:
    @pytest.fixture
    def source(self, world: Path, tmp_path: Path) -> str:
        known = pd.read_csv(world / "test.csv")["text"].tolist()[:5]
        pd.DataFrame({"text": [known[0], "nobody knows", *known[1:]]}).to_csv(tmp_path / "new.csv", index=False)
        return str(tmp_path / "new.csv")

    def test_the_policy_of_the_fit_or_another(self, fusion: Path, source: str, tmp_path: Path) -> None:
        with pytest.raises(ScoreMismatchError, match="of the 6 rows of predict, not scored by"):
            predict_table(str(fusion), source, str(tmp_path / "error"))
        predict_table(str(fusion), source, str(tmp_path / "mask"), on_missing="mask")
        predict_table(str(fusion), source, str(tmp_path / "drop"), on_missing="drop")
        masked, dropped = read(tmp_path / "mask"), read(tmp_path / "drop")
        assert masked["row"].tolist() == list(range(6))
        assert masked["p:good:sport"].isna().tolist() == [False, True, False, False, False, False]
        assert dropped["row"].tolist() == [0, 2, 3, 4, 5]

    def test_no_scores_at_all(self, fusion: Path, source: str, tmp_path: Path) -> None:
        predict_table(str(fusion), source, str(tmp_path / "none"), scores="")
        assert read(tmp_path / "none")["p:good:sport"].isna().all()


def test_multilabel(multilabel_fusion: Path, multilabel_world: Path, tmp_path: Path) -> None:
    source = str(multilabel_world / "test.csv")
    words = ["--run", str(multilabel_fusion), "--data.predict", source]
    assert cli.main(["predict", *words, "--trainer.enable_progress_bar", "false"]) == 0
    predict_table(str(multilabel_fusion), source, str(tmp_path / "out"), rows_per_part=30)
    same(read(tmp_path / "out"), pd.read_csv(multilabel_fusion / "predictions.csv", keep_default_na=False))
