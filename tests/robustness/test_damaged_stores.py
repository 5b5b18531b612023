"""Score stores, response caches and ledgers with damaged files: named errors, never another score or reply, and a way back."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lf_lightning import cli
from lf_lightning.errors import LFError, ResponseCacheError
from lf_lightning.responses import SQLiteResponses
from lf_lightning.responses.accounts import Granted
from lf_lightning.responses.base import Response
from lf_lightning.responses.ledger import Ledger
from lf_lightning.store import ScorerCard, ScoreStore
from tests.robustness.mutation import damaged, mutated, told

CARD = ScorerCard("gpt", ("a", 'b\n"x"', "ü"), "multiclass", {"model": 1, "more": {"parts": [1, 2.5, None]}})
TEXTS = [f"text {row}" for row in range(6)]
VALUES = np.random.default_rng(0).dirichlet([1, 1, 1], 6).astype(np.float32)
REPLIES = {
    f"{row:064x}": Response(
        f"{row:064x}", "p", "m", {"q": row}, {"text": f"text {row} " * 30}, {"input": 1, "cost_nanodollars": 5}, 1.0
    )
    for row in range(60)
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = ScoreStore(tmp_path_factory.mktemp("good") / "store", create=True)
    store.append(CARD, TEXTS[:3], VALUES[:3], rationales=["r\ud800", None, "x"], usage=[{"cost": 1.5}, None, {}])
    store.append(CARD, TEXTS[3:], VALUES[3:], status=[1, 2, 3])
    return store.path


def uses(store: ScoreStore) -> list[Callable[[], Any]]:
    return [
        lambda: store.missing(CARD, TEXTS),
        lambda: store.rationales("gpt", TEXTS),
        lambda: store.usage("gpt", TEXTS),
        lambda: store.counts("gpt"),
        store.verify,
        lambda: store.append(CARD, ["new"], VALUES[:1]),
        store.repair,
    ]


def test_a_damaged_score_store_says_so_and_never_another_score(store: Path, tmp_path: Path) -> None:
    want = ScoreStore(store).join(TEXTS, ["gpt"], CARD.labels)
    files = sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file() and path.name != ".lock")
    copy = tmp_path / "store"
    failures, refused, joined = [], 0, 0
    for seed in range(40):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store, copy)
        file = copy / random.Random(seed).choice(files)
        if file.name == "manifest.json" and seed % 3:
            file.write_text(json.dumps(mutated(json.loads(file.read_text()), seed)), encoding="utf-8")
        else:
            file.write_bytes(damaged(file.read_bytes(), seed))
        for number in range(len(uses(ScoreStore(store))) + 2):
            try:
                opened = ScoreStore(copy)
                if 0 < number < 8:
                    uses(opened)[number - 1]()
                    continue
                found = opened.join(TEXTS, ["gpt"], CARD.labels)  # before and after the repair
                scored = found.scored[:, 0]
                assert (found.scores[scored] == want.scores[scored]).all(), f"another score, seed {seed}"
                assert (want.scored[:, 0] | ~scored).all()
                joined += 1
            except LFError:
                refused += 1
            except Exception as error:  # whatever is not ours is what this test looks for
                failures.append((seed, error))
    assert not failures, told(failures)
    assert refused > 40
    assert joined > 10


@pytest.fixture(scope="module")
def responses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "responses"
    cache, ledger = SQLiteResponses(str(folder)), Ledger(folder)
    cache.put(list(REPLIES.values()))
    claims = ledger.claim([(key, 100) for key in REPLIES], provider="p", model="m", run="r", cap=None)
    granted = [claim.attempt_id for claim in claims.values() if isinstance(claim, Granted)]
    for attempt in granted[::2]:
        ledger.settle(attempt, 50, "billed")
    ledger.open_batch("b1", "p", granted[1:5:2])
    cache.close(), ledger.close()
    return folder


def page_damaged(content: bytes, seed: int) -> bytes:
    """Changes a few bytes, often in the first page, where SQLite keeps what the tables are."""
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.choice((1, 5, 30))):
        changed[chance.randrange(chance.choice((100, 4096, len(changed))))] = chance.randrange(256)
    return bytes(changed)


def test_a_damaged_cache_and_ledger_say_so_and_are_repaired(responses: Path, tmp_path: Path) -> None:
    failures, refused, repaired = [], 0, 0
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for name in ("responses.sqlite", "ledger.sqlite"):
            content = (responses / name).read_bytes()
            (folder / name).write_bytes(page_damaged(content, seed) if seed % 3 else damaged(content, seed))
        cache, ledger = SQLiteResponses(str(folder)), Ledger(folder)

        def sound(found: dict[str, Response]) -> None:
            assert all(REPLIES[key] == reply for key, reply in found.items())

        def clean() -> None:
            assert not cache.verify()  # noqa: B023  called before the next seed
            assert not ledger.verify()  # noqa: B023

        steps: list[Callable[[], Any]] = [
            lambda: sound(cache.get(list(REPLIES))),  # noqa: B023
            lambda: sound({reply.key: reply for reply in cache.scan()}),  # noqa: B023
            cache.verify,
            lambda: cache.put([REPLIES[f"{3:064x}"]]),  # noqa: B023
            lambda: cache.delete([f"{4:064x}"]),  # noqa: B023
            lambda: list(ledger.attempts()),  # noqa: B023
            lambda: ledger.spent("model", "day"),  # noqa: B023
            lambda: ledger.batches("p"),  # noqa: B023
            lambda: ledger.recover(cache),  # noqa: B023
            lambda: ledger.claim([("f" * 64, 5)], provider="p", model="m", run="r", cap=10**9),  # noqa: B023
            lambda: ledger.settle(1, 3, "billed"),  # noqa: B023
            lambda: ledger.close_batch("b1"),  # noqa: B023
            ledger.verify,
        ]
        for step in steps:
            try:
                step()
            except LFError:
                refused += 1
            except Exception as error:  # whatever is not ours is what this test looks for
                failures.append((seed, error))
        try:
            cache.repair(), ledger.repair()
            clean()
            sound(cache.get(list(REPLIES)))
            repaired += 1
        except ResponseCacheError as error:
            # Its mark or its version was hit: it looks like somebody else's file, or a newer one, and is left alone.
            if "another SQLite file" not in str(error) and "schema version" not in str(error):
                failures.append((seed, error))
        except Exception as error:
            failures.append((seed, error))
        cache.close(), ledger.close()
    assert not failures, told(failures)
    assert refused > 40
    assert repaired > 8


@pytest.mark.parametrize("content", [b"", b"no database", b"\0" * 8192])
def test_a_ledger_that_is_gone_is_repaired_and_the_loss_is_told(
    content: bytes, responses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "responses"
    shutil.copytree(responses, folder)
    (folder / "ledger.sqlite").write_bytes(content)
    assert cli.main(["cache", "verify", "--responses", str(folder)]) == 1
    assert "lf cache repair" in capsys.readouterr().err
    assert cli.main(["cache", "repair", "--responses", str(folder)]) == 0
    told_to = capsys.readouterr()
    assert "0 replies were lost" in told_to.out
    assert "max_cost no longer counts" in told_to.err
    assert cli.main(["cache", "verify", "--responses", str(folder)]) == 0


def test_a_schema_that_is_no_text_is_damage(responses: Path, tmp_path: Path) -> None:
    folder = tmp_path / "responses"
    folder.mkdir()
    content = (responses / "responses.sqlite").read_bytes()
    at = content.index(b"CREATE TABLE responses")  # SQLite quotes it in its message
    (folder / "responses.sqlite").write_bytes(content[:at] + b"CRE\xffTE\x80" + content[at + 7 :])
    cache = SQLiteResponses(str(folder))
    with pytest.raises(ResponseCacheError, match="is damaged"):
        cache.get(list(REPLIES))
    assert cache.verify()
    assert cache.repair() == 0
    assert cache.get(list(REPLIES)) == REPLIES
    cache.close()
