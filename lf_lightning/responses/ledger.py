"""The ledger: who is asking what, and what it has cost or may have cost, over all runs and processes of one folder.

A claim and its reservation are one row, written in one `BEGIN IMMEDIATE`, so that neither is a key asked twice nor is the cap
passed between a check and a call. Claims wait for the disk (they are on it before a cent is spent) and are therefore made
in bulk. Settlements and heartbeats do not wait: what a loss of power takes of them leaves an open attempt, which counts at
its upper bound, so the sum errs upwards only. A killed process loses neither.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from sqlite3 import Connection
from typing import Literal
from uuid import uuid4

from lf_lightning.errors import ConfigurationError
from lf_lightning.responses import ballast
from lf_lightning.responses.accounts import Attempt, Batch, Claim, Column, Granted, Held, OverBudget, Spending, State
from lf_lightning.responses.base import Damage, ResponseCache
from lf_lightning.responses.database import DamagedError, Database
from lf_lightning.responses.ledger_layout import FILE, LAYOUT
from lf_lightning.responses.rebuild import rebuild

DIED = "its process ended before it was settled"
RECOVERED = "its process ended after the reply was stored"
UNANSWERED = "its batch was closed without it"

_ATTEMPT = ", ".join(field.name for field in fields(Attempt))
_PAGE = 1000
# Each half has its own index; one condition with OR would read every attempt there ever was.
_PERHAPS_ANSWERED = (
    "SELECT id, key, started, reserved FROM attempts WHERE state = 'unknown' AND ended IS NULL "
    "UNION ALL SELECT id, key, started, reserved FROM attempts WHERE state = 'open' AND batch > ''"
)


class Ledger:
    """Claims, reservations and spending of one folder. Safe over threads, processes and forks; opens on first use.

    Args:
        folder: Folder of the responses.
        lease: Seconds after which a claim that was not renewed counts as that of a dead process.
    """

    def __init__(self, folder: str | Path, lease: float = 120.0) -> None:
        if lease <= 0:
            raise ConfigurationError(f"lease={lease}: expected a positive number of seconds.")
        self.folder = Path(folder)
        self.lease = lease
        self._database = Database(self.folder / FILE, LAYOUT)
        self._token = uuid4().hex[:8]

    @property
    def holder(self) -> str:
        """The name under which this process claims."""
        return f"{os.getpid()}-{self._token}"

    def claim(
        self, wanted: Sequence[tuple[str, int]], *, provider: str, model: str, run: str, cap: int | None
    ) -> dict[str, Claim]:
        """Claims keys and reserves what asking them may cost, in one transaction that is on the disk when this returns.

        Attempts of dead processes become `unknown` first; see `recover` for those whose reply had been stored.

        Args:
            wanted: Keys and upper bounds of their cost in nano-dollars. In bulk: a call waits for the disk once.
            provider: The provider's name.
            model: The model to be asked.
            run: The run's name.
            cap: Most that this folder may ever have spent and reserved, in nano-dollars; None: no cap.

        Returns:
            For each key whether it is ours to ask. Keys that fit the cap are granted even behind one that does not.

        Raises:
            ResponseCacheError: The ledger cannot be written, or there would be no room for the replies.
        """
        bounds: dict[str, int] = {}
        for key, bound in wanted:
            if bound < 0:
                raise ConfigurationError(f"The upper bound of a cost is {bound} nano-dollars; expected 0 or more.")
            bounds.setdefault(key, bound)
        with self._database.lock:
            with self._database.named_errors():
                self.folder.mkdir(parents=True, exist_ok=True)
            ballast.ensure(self.folder)
        with self._database.transaction(durable=True) as connection:
            now = time.time()
            _expire(connection, now)
            claims = _decide(bounds, _held(connection, bounds), *_sums(connection), cap)
            (first,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM attempts").fetchone()
            granted = [key for key, claim in claims.items() if isinstance(claim, Granted)]
            same = (self.holder, run, provider, model, _day(now))
            connection.executemany(
                f"INSERT INTO attempts({_ATTEMPT}, lease) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 'open', '', ?, NULL, ?)",
                [(first + place, key, *same, bounds[key], now, now + self.lease) for place, key in enumerate(granted)],
            )
        return claims | {key: Granted(first + place) for place, key in enumerate(granted)}

    def renew(self, attempt_ids: Iterable[int]) -> None:
        """Says that the process that claimed these is alive: their leases begin anew."""
        self._write(
            "UPDATE attempts SET lease = ? WHERE state = 'open' AND lease NOT NULL AND id IN (SELECT value FROM json_each(?))",
            (time.time() + self.lease, json.dumps(list(attempt_ids))),
        )

    def settle(self, attempt_id: int, cost: int, state: Literal["billed", "free", "unknown"], reason: str = "") -> bool:
        """Ends an attempt; its claim and its reservation are free at once.

        An attempt that was taken for dead can still be settled. One that is billed or free already stays as it is.

        Args:
            attempt_id: Of `Granted`.
            cost: What was billed in nano-dollars. It is not looked at for `free`, which counts 0, and for `unknown`, which
                counts the reservation.
            state: How it ended.
            reason: Why, for people.

        Returns:
            Whether it was still to be settled.
        """
        return bool(
            self._write(
                "UPDATE attempts SET state = :state, reason = :reason, ended = :now, lease = NULL, "
                "cost = CASE :state WHEN 'free' THEN 0 WHEN 'unknown' THEN reserved ELSE :cost END "
                "WHERE id = :id AND state IN ('open', 'unknown')",
                {"id": attempt_id, "cost": cost, "state": state, "reason": reason, "now": time.time()},
            )
        )

    def recover(self, cache: ResponseCache) -> int:
        """Settles what dead processes had been answered: killed after the reply was stored, before the attempt was settled.

        To be called before asking, and again when a claim's second look into the cache finds a reply. A dead attempt, or one of
        a batch, is billed at its response's own cost if it is the last of its key and began before the response; all others
        stay as they are.

        Args:
            cache: Where the replies are.

        Returns:
            How many were settled.
        """
        with self._database.transaction(durable=False) as connection:
            _expire(connection, time.time())
            dead = connection.execute(
                f"SELECT id, key, started, reserved FROM ({_PERHAPS_ANSWERED}) AS dead "
                "WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE key = dead.key AND id > dead.id AND state != 'free')"
            ).fetchall()
        found = cache.get([key for _, key, _, _ in dead]) if dead else {}
        settled = 0
        for attempt_id, key, started, reserved in dead:
            response = found.get(key)
            # A part of another request's reply was not brought by this attempt.
            if response is not None and response.created >= started and "part_of" not in response.reply:
                cost = int(response.usage.get("cost_nanodollars", reserved))
                settled += self.settle(attempt_id, cost, "billed", RECOVERED)
        return settled

    def total(self) -> Spending:
        """Returns the sums over all attempts."""
        return self.spent().get((), Spending())

    def spent(self, *by: Column) -> dict[tuple[str, ...], Spending]:
        """Returns the sums for each combination of values of the columns, in their order; `spent("model", "day")`."""
        columns = "".join(f"{column}, " for column in by)
        grouping = f"GROUP BY {columns[:-2]} ORDER BY {columns[:-2]}" if by else ""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {columns} coalesce(sum(cost), 0), coalesce(sum((state = 'open') * reserved), 0), "
                "coalesce(sum((state = 'unknown') * cost), 0), count(*), coalesce(sum(state = 'unknown'), 0) "
                f"FROM attempts {grouping}"
            ).fetchall()
        return {tuple(row[: len(by)]): Spending(*row[len(by) :]) for row in rows}

    def attempts(self, state: State | None = None) -> Iterator[Attempt]:
        """Yields attempts in the order of their claims.

        Args:
            state: Only those in this state; None: all.
        """
        last = 0
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    f"SELECT {_ATTEMPT} FROM attempts WHERE id > ? AND (? IS NULL OR state = ?) ORDER BY id LIMIT {_PAGE}",
                    (last, state, state),
                ).fetchall()
            for row in rows:
                yield Attempt(*row)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def open_batch(self, batch_id: str, provider: str, attempt_ids: Iterable[int], *, submitted: bool = True) -> None:
        """Notes that a provider is working on these attempts: their claims hold until they are settled, for days if need be.

        Args:
            batch_id: The provider's, or one of ours until it is known. One that is noted already is open again.
            provider: The provider's name.
            attempt_ids: Of `Granted`; those that are not open are left as they are.
            submitted: False: not yet. Its attempts keep their leases, so that others can tell whether its process is alive.
        """
        lease = "NULL" if submitted else "lease"
        ids = json.dumps(list(attempt_ids))

        def write() -> None:
            with self._database.transaction(durable=True) as connection:
                connection.execute(
                    "INSERT INTO batches VALUES (?, ?, ?, NULL) ON CONFLICT(id) DO UPDATE SET closed = NULL",
                    (batch_id, provider, time.time()),
                )
                connection.execute(
                    f"UPDATE attempts SET batch = ?, lease = {lease} "
                    "WHERE state = 'open' AND id IN (SELECT value FROM json_each(?))",
                    (batch_id, ids),
                )

        ballast.write_paid(self.folder, write)

    def batches(self, provider: str | None = None) -> list[Batch]:
        """Returns the open batches with their unsettled attempts, oldest first.

        Args:
            provider: Whose; None: everyone's.
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT id, provider, opened FROM batches WHERE provider = coalesce(?, provider) AND closed IS NULL "
                "ORDER BY opened, id",
                (provider,),
            ).fetchall()
            query = "SELECT key, id, lease FROM attempts WHERE state = 'open' AND batch = ? ORDER BY id"
            found = [(*row, connection.execute(query, row[:1]).fetchall()) for row in rows]
        return [
            Batch(
                batch,
                whose,
                opened,
                {key: attempt for key, attempt, _ in mine},
                max((lease or 0.0 for *_, lease in mine), default=0.0),
            )
            for batch, whose, opened, mine in found
        ]

    def close_batch(self, batch_id: str) -> None:
        """Ends a batch. Attempts of it that are not settled by now become `unknown`."""
        now = time.time()

        def write() -> None:
            with self._database.transaction(durable=False) as connection:
                connection.execute("UPDATE batches SET closed = ? WHERE id = ?", (now, batch_id))
                connection.execute(
                    "UPDATE attempts SET state = 'unknown', cost = reserved, reason = ?, ended = ? "
                    "WHERE state = 'open' AND batch = ?",
                    (UNANSWERED, now, batch_id),
                )

        ballast.write_paid(self.folder, write)

    def verify(self) -> list[Damage]:
        """Returns what is damaged; empty: all is sound."""
        where = str(self._database.path)
        try:
            if damage := [Damage(where, problem) for problem in self._database.structure()]:
                return damage
            with self._database.reading() as connection:
                # In one statement: between two, another process may settle what it asked.
                row = connection.execute(
                    "SELECT (SELECT coalesce(sum(cost), 0) FROM attempts), "
                    "(SELECT coalesce(sum((state = 'open') * reserved), 0) FROM attempts), spent, reserved FROM sums"
                ).fetchone()
        except DamagedError as error:
            return [Damage(where, str(error))]
        if (added := row[:2]) != (kept := row[2:]):
            return [Damage(where, f"attempts add up to {added}, noted are {kept} nano-dollars")]
        return []

    def repair(self) -> int:
        """Makes a damaged ledger sound again, keeping every readable attempt, and returns how many were lost at least.

        What was lost is no longer counted against `max_cost`. The damaged file is kept beside the new one.
        """
        return rebuild(self._database, ("attempts", "batches"), "attempts_key") if self.verify() else 0

    def close(self) -> None:
        """Releases the file; the next use opens it again."""
        self._database.close()

    def _write(self, statement: str, values: tuple[object, ...] | Mapping[str, object]) -> int:
        def write() -> int:
            with self._database.transaction(durable=False) as connection:
                return connection.execute(statement, values).rowcount

        return ballast.write_paid(self.folder, write)


def _decide(
    bounds: Mapping[str, int], held: Mapping[str, float], spent: int, reserved: int, cap: int | None
) -> dict[str, Claim]:
    """Returns for each key whether it may be asked; a granted one raises what is reserved for those behind it."""
    claims: dict[str, Claim] = {}
    for key, bound in bounds.items():
        if key in held:
            claims[key] = Held(held[key])
        elif cap is not None and spent + reserved + bound > cap:
            claims[key] = OverBudget(spent, reserved)
        else:
            claims[key] = Granted(0)
            reserved += bound
    return claims


def _held(connection: Connection, keys: Iterable[str]) -> dict[str, float]:
    held: dict[str, float] = {}
    remaining = iter(keys)
    while part := list(islice(remaining, _PAGE)):
        rows = connection.execute(
            "SELECT key, CASE WHEN batch IS NULL THEN lease END FROM attempts "
            "WHERE state = 'open' AND key IN (SELECT value FROM json_each(?))",
            (json.dumps(part),),
        )
        held |= {key: math.inf if lease is None else lease for key, lease in rows}
    return held


def _sums(connection: Connection) -> tuple[int, int]:
    spent, reserved = connection.execute("SELECT spent, reserved FROM sums").fetchone()
    return spent, reserved


def _expire(connection: Connection, now: float) -> None:
    connection.execute(
        "UPDATE attempts SET state = 'unknown', cost = reserved, reason = ? "
        "WHERE state = 'open' AND batch IS NULL AND lease < ?",
        (DIED, now),
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")
