from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lf_lightning import cli
from lf_lightning.responses import Ledger, Response, SQLiteResponses
from lf_lightning.responses.accounts import Granted

DAY = 86400
SAME = {"provider": "openai", "run": "r"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of 6 replies: 4 of `small`, of which 2 are 100 days old, 2 of `large`; one attempt is unknown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    folder = tmp_path / "responses"
    cache, ledger = SQLiteResponses(str(folder)), Ledger(folder)
    for number in range(6):
        model = "small" if number < 4 else "large"
        (claim,) = ledger.claim([(f"{number}", 2_000_000_000)], cap=None, model=model, **SAME).values()
        created = time.time() - (100 * DAY if number < 2 else 0)
        usage = {"input": 1000, "output": 1, "cost_nanodollars": 1_000_000_000}
        cache.put([Response(f"{number}", "openai", model, {"prompt": "é"}, {"text": f"{number}"}, usage, created)])
        ledger.settle(claim.attempt_id, 1_000_000_000, "billed")
    (claim,) = ledger.claim([("lost", 2_000_000_000)], cap=None, model="large", **SAME).values()
    ledger.settle(claim.attempt_id, 0, "unknown", "timeout")
    cache.close()
    ledger.close()
    return folder


@pytest.mark.usefixtures("folder")
def test_stats_count_replies_tokens_and_money(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "stats"]) == 0
    out = capsys.readouterr().out
    lines = {" ".join(line.split()[:2]): line.split()[-6:] for line in out.splitlines() if line.strip()}
    today = time.strftime("%Y-%m-%d", time.gmtime())
    old = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 100 * DAY))
    assert lines[f"openai/small {old}"] == ["2", "2,000", "2", "0.0000", "0", "0.0000"]
    assert lines[f"openai/small {today}"] == ["2", "2,000", "2", "4.0000", "0", "0.0000"]
    assert lines[f"openai/large {today}"] == ["2", "2,000", "2", "4.0000", "1", "2.0000"]
    assert lines["all 6"] == ["6", "6,000", "6", "8.0000", "1", "2.0000"]
    assert "1 attempts may have been billed" in out
    assert "MB in responses" in out


def test_stats_settle_what_a_dead_process_was_answered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = Ledger(folder, lease=1e-6)
    dead.claim([("late", 5)], cap=None, model="large", **SAME)
    dead.close()
    cache = SQLiteResponses(str(folder))
    cache.put([Response("late", "openai", "large", {}, {}, {"cost_nanodollars": 3}, time.time())])
    cache.close()
    time.sleep(0.01)
    assert cli.main(["cache", "stats", "--responses", str(folder)]) == 0
    assert [attempt.cost for attempt in Ledger(folder).attempts("billed")][-1] == 3


def test_verify_finds_damage_and_repair_mends_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "verify"]) == 0
    assert "sound" in capsys.readouterr().out
    file = folder / "responses.sqlite"
    file.write_bytes(file.read_bytes().replace(b'"text":"3"', b'"text":"9"'))
    assert cli.main(["cache", "verify"]) == 1
    assert "3: its checksum" in (err := capsys.readouterr().err)
    assert "lf cache repair --responses responses" in err
    assert cli.main(["cache", "repair"]) == 0
    assert "1 replies were lost" in capsys.readouterr().out
    assert cli.main(["cache", "verify"]) == 0


def test_repair_of_the_ledger_warns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(folder)
    ledger.claim([(f"key {n}", 1) for n in range(300)], cap=None, model="small", **SAME)
    ledger.close()
    file = folder / "ledger.sqlite"
    content = bytearray(file.read_bytes())
    at = content.index(b"key 150") // 4096 * 4096
    content[at : at + 4096] = bytes(4096)
    file.write_bytes(content)
    assert cli.main(["cache", "verify"]) == 1
    assert cli.main(["cache", "repair"]) == 0
    assert "max_cost no longer counts" in capsys.readouterr().err
    assert cli.main(["cache", "verify"]) == 0


@pytest.mark.usefixtures("folder")
def test_export_to_lines_and_to_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "export", "--to", "a.jsonl"]) == 0
    assert "6 replies" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == list("012345")
    assert lines[3]["reply"] == {"text": "3"}
    assert cli.main(["cache", "export", "--to", "a.parquet"]) == 0
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [json.loads(row["request"]) for row in table] == [{"prompt": "é"}] * 6
    assert table[3]["created"] == lines[3]["created"]
    assert cli.main(["cache", "export", "--to", "a.jsonl"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["cache", "export", "--to", "a.csv"]) == 2


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--model", "small"], "45"),
        (["--older_than_days", "99"], "2345"),
        (["--provider", "anthropic"], "012345"),
        (["--provider=openai", "--model=small", "--older_than_days=1"], "2345"),
        (["--provider", "openai"], ""),
    ],
)
def test_prune_says_what_it_would_do_and_does_it(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], left: str
) -> None:
    assert cli.main(["cache", "prune", *words, "--dry_run"]) == 0
    assert f"{6 - len(left)} of 6 replies would be removed" in capsys.readouterr().out
    cache = SQLiteResponses(str(folder))
    assert len(list(cache.scan())) == 6
    assert cli.main(["cache", "prune", *words]) == 0
    assert f"{6 - len(left)} of 6 replies removed" in capsys.readouterr().out
    assert "".join(row.key for row in cache.scan()) == left
    assert Ledger(folder).total().spent == 8_000_000_000
    cache.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prune"], "needs --provider"),
        (["stats", "--responses", "."], "there are no replies"),
        (["stats", "--responses", "typo"], "there are no replies"),
        (["close-batch", "--batch", "typo"], "no such batch out. Those that are: none"),
        (["stast"], "expected one of stats"),
        ([], "expected one of stats"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = sorted(path.name for path in folder.parent.iterdir())
    assert cli.main(["cache", *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in folder.parent.iterdir()) == before


def test_a_batch_is_given_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(Ledger(folder)) as ledger:
        claims = ledger.claim([("a", 3_000_000), ("b", 4_000_000)], cap=None, model="large", **SAME)
        ledger.open_batch("batch_1", "openai", [claim.attempt_id for claim in claims.values()])
    assert cli.main(["cache", "stats"]) == 0
    assert "The batch batch_1 (openai, 2 requests, since 20" in capsys.readouterr().out
    assert cli.main(["cache", "close-batch", "--batch", "batch_2"]) == 2
    assert "Those that are: batch_1 (openai, 2 requests" in capsys.readouterr().err
    assert cli.main(["cache", "close-batch", "--batch", "batch_1"]) == 0
    assert "2 requests count as billed at their upper bound, 0.007000 USD" in capsys.readouterr().out
    with closing(Ledger(folder)) as ledger:
        assert ledger.batches() == []
        assert (ledger.total().reserved, ledger.total().unknown) == (0, 2_007_000_000)
        assert all(isinstance(claim, Granted) for claim in ledger.claim([("a", 1)], cap=None, model="large", **SAME).values())


def test_another_backend_by_its_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "verify", "--backend", "lf_lightning.responses.SqliteDictResponses"]) == 0


def test_a_foreign_class_is_not_imported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "verify", "--backend", "antigravity.Cache"]) == 2
    assert "not allowed" in capsys.readouterr().err
    assert "antigravity" not in sys.modules


def test_it_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from lf_lightning.cli import main; assert main(['cache', 'stats']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder.parent, capture_output=True)
