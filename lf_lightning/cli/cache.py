"""`lf cache`: what was paid for, counted, checked, repaired, exported or pruned. Makes no connection and needs no torch."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

from jsonargparse import ArgumentParser
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.errors import ConfigurationError
from lf_lightning.responses import Ledger, Response, ResponseCache, Spending, SQLiteResponses
from lf_lightning.responses.accounts import Batch
from lf_lightning.responses.ledger_layout import FILE as LEDGER_FILE
from lf_lightning.responses.sqlite import FILE as RESPONSES_FILE

DAMAGED = 1

_NANO = 1e-9
_AT_ONCE = 1000
_SECONDS_A_DAY = 86400


def stats(responses: str = "responses", backend: Callable[[str], ResponseCache] = SQLiteResponses) -> int:
    """Prints replies, tokens and money by provider, model and day.

    Args:
        responses: Folder of the cache.
        backend: Whose cache it is.
    """
    with _opened(responses, backend) as (cache, ledger):
        ledger.recover(cache)
        replies: Counter[tuple[str, ...]] = Counter()
        tokens: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for response in cache.scan():
            day = datetime.fromtimestamp(response.created, timezone.utc).strftime("%Y-%m-%d")
            group: tuple[str, ...] = (response.provider, response.model, day)
            replies[group] += 1
            tokens[group].update(response.usage)
        spent = ledger.spent("provider", "model", "day")
        table = Table("provider/model, day", title=responses, box=SIMPLE)
        for column in ("replies", "tokens in", "out", "USD", "unknown", "USD of it"):
            table.add_column(column, justify="right", no_wrap=True)
        for group in sorted(replies.keys() | spent.keys()):
            provider, model, day = group
            table.add_row(f"{provider}/{model} {day}", *_numbers(replies[group], tokens[group], spent.get(group, Spending())))
        table.add_section()
        total = ledger.total()
        table.add_row("all", *_numbers(sum(replies.values()), sum(tokens.values(), Counter[str]()), total))
        Console().print(table)
        if total.unknown_attempts:
            print(f"{total.unknown_attempts:,} attempts may have been billed without a reply; they count at their upper bound.")
        if total.reserved:
            print(f"{total.reserved * _NANO:,.6f} USD are reserved for what is being asked now.")
        for batch in ledger.batches():
            print(f"The batch {_named(batch)} is out; lf score collects it.")
        print(
            f"{sum(file.stat().st_size for file in Path(responses).iterdir() if file.is_file()) / 1e6:,.1f} MB in {responses}"
        )
        return 0


def verify(responses: str = "responses", backend: Callable[[str], ResponseCache] = SQLiteResponses) -> int:
    """Looks for damage, and changes nothing.

    Args:
        responses: Folder of the cache.
        backend: Whose cache it is.
    """
    with _opened(responses, backend) as (cache, ledger):
        damage = [*cache.verify(), *ledger.verify()]
        for found in damage:
            print(f"{found.where}: {found.problem}", file=sys.stderr)
        if damage:
            print(f"lf cache: {len(damage)} found damaged. Way out: lf cache repair --responses {responses}", file=sys.stderr)
            return DAMAGED
        print(f"{responses}: every reply and the ledger are sound.")
        return 0


def repair(responses: str = "responses", backend: Callable[[str], ResponseCache] = SQLiteResponses) -> int:
    """Makes a damaged cache sound again, keeping every sound row.

    Args:
        responses: Folder of the cache.
        backend: Whose cache it is.
    """
    with _opened(responses, backend) as (cache, ledger):
        print(f"{responses}: {cache.repair()} replies were lost; the next lf score asks for them again.")
        if ledger.verify():
            print(
                f"The ledger was damaged and built anew; at least {ledger.repair()} attempts were lost from it: max_cost no "
                "longer counts what they cost.",
                file=sys.stderr,
            )
        return 0


def export(to: str, responses: str = "responses", backend: Callable[[str], ResponseCache] = SQLiteResponses) -> int:
    """Writes all replies to a file.

    Args:
        to: The file, .jsonl or .parquet; in the latter request, reply and usage are JSON texts.
        responses: Folder of the cache.
        backend: Whose cache it is.
    """
    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if (ending := Path(to).suffix) not in writers:
        raise ConfigurationError(f"to={to!r}: expected a file that ends in {' or '.join(writers)}.")
    if Path(to).exists():
        raise ConfigurationError(f"to={to!r} is there already. Remove it, or name another file.")
    with _opened(responses, backend) as (cache, _):
        print(f"{writers[ending](Path(to), cache.scan()):,} replies written to {to}.")
        return 0


def prune(
    responses: str = "responses",
    provider: str | None = None,
    model: str | None = None,
    older_than_days: float | None = None,
    dry_run: bool = False,
    backend: Callable[[str], ResponseCache] = SQLiteResponses,
) -> int:
    """Removes the replies that all of the given conditions choose. What they cost stays in the ledger.

    Args:
        responses: Folder of the cache.
        provider: Only this provider's.
        model: Only this model's.
        older_than_days: Only those that are older.
        dry_run: Only say how many there are.
        backend: Whose cache it is.
    """
    if provider is None and model is None and older_than_days is None:
        raise ConfigurationError("lf cache prune needs --provider, --model or --older_than_days: it removes what was paid for.")
    with _opened(responses, backend) as (cache, _):
        before = time.time() - _SECONDS_A_DAY * (older_than_days or 0)

        def chosen(response: Response) -> bool:
            return (
                provider in (None, response.provider)
                and model in (None, response.model)
                and (older_than_days is None or response.created < before)
            )

        total, keys = 0, []
        for response in cache.scan():
            total += 1
            if chosen(response):
                keys.append(response.key)
        if dry_run:
            print(f"{len(keys):,} of {total:,} replies would be removed from {responses}.")
        else:
            print(f"{cache.delete(keys) if keys else 0:,} of {total:,} replies removed from {responses}.")
        return 0


def close_batch(batch: str, responses: str = "responses") -> int:
    """Gives up a batch whose results the provider has no longer. What it asked counts as billed at the upper bound.

    Args:
        batch: The provider's id of it, as `lf cache stats` has it.
        responses: Folder of the cache.
    """
    with _opened(responses, SQLiteResponses) as (cache, ledger):
        ledger.recover(cache)
        known = {found.id: found for found in ledger.batches()}
        if batch not in known:
            out = ", ".join(_named(found) for found in known.values()) or "none"
            raise ConfigurationError(f"batch={batch!r}: there is no such batch out. Those that are: {out}.")
        before = ledger.total().unknown
        ledger.close_batch(batch)
        count, dollars = len(known[batch].attempts), (ledger.total().unknown - before) * _NANO
        print(f"{batch} is given up: {count:,} requests count as billed at their upper bound, {dollars:,.6f} USD.")
        print("The next lf score that needs them asks, and pays, again.")
        return 0


def _named(batch: Batch) -> str:
    day = datetime.fromtimestamp(batch.opened, timezone.utc).strftime("%Y-%m-%d")
    return f"{batch.id} ({batch.provider}, {len(batch.attempts):,} requests, since {day})"


_COMMANDS: dict[str, Callable[..., int]] = {
    "stats": stats,
    "verify": verify,
    "repair": repair,
    "export": export,
    "prune": prune,
    "close-batch": close_batch,
}


def main(argv: Sequence[str]) -> int:
    """`lf cache stats|verify|repair|export|prune|close-batch [options]`.

    Args:
        argv: The words after `lf cache`.

    Returns:
        0; 1 where `verify` finds damage.
    """
    command, *words = argv or [""]
    if command not in _COMMANDS:
        raise ConfigurationError(f"lf cache {command!r}: expected one of {', '.join(_COMMANDS)}. Help: lf cache --help")
    limit_imports()
    parser = ArgumentParser(prog=f"lf cache {command}", allow_abbrev=False)
    parser.add_function_arguments(_COMMANDS[command], fail_untyped=True, sub_configs=False)
    spelled = {"--help-all": "--help", "--dry_run": "--dry_run=true", "--dry-run": "--dry_run=true"}
    words = [spelled.get(word, word) for word in words]
    return _COMMANDS[command](**parser.instantiate(parser.parse_args(words)).as_dict())


@contextmanager
def _opened(folder: str, backend: Callable[[str], ResponseCache]) -> Iterator[tuple[ResponseCache, Ledger]]:
    # Every run has a ledger, whosever cache it is; without this check, a folder mistyped would be filled with empty files.
    if not any((Path(folder) / file).is_file() for file in (LEDGER_FILE, RESPONSES_FILE)):
        raise ConfigurationError(f"responses={folder!r}: there are no replies. Name the folder of the scoring config.")
    with closing(backend(folder)) as cache, closing(Ledger(folder)) as ledger:
        yield cache, ledger


def _numbers(replies: int, tokens: Counter[str], spending: Spending) -> list[str]:
    counts = (replies, tokens["input"], tokens["output"])
    dollars = (f"{spending.spent * _NANO:,.4f}", f"{spending.unknown_attempts:,}", f"{spending.unknown * _NANO:,.4f}")
    return [*(f"{count:,}" for count in counts), *dollars]


def _write_jsonl(path: Path, replies: Iterator[Response]) -> int:
    count = 0
    with path.open("w", encoding="ascii") as file:
        for count, response in enumerate(replies, start=1):  # noqa: B007
            file.write(json.dumps(asdict(response)) + "\n")
    return count


def _write_parquet(path: Path, replies: Iterator[Response]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("key", "provider", "model", "request", "reply", "usage")
    schema = pa.schema([*((name, pa.string()) for name in texts), ("created", pa.float64())])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while part := list(islice(replies, _AT_ONCE)):
            plain = [asdict(response) for response in part]
            rows = [row | {name: json.dumps(row[name]) for name in ("request", "reply", "usage")} for row in plain]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(part)
    return count
