"""What was paid for: raw replies of providers, and the ledger of every attempt. The score store is rebuilt from it.

On disk it is a folder:

    responses.sqlite    one row a reply, with its checksum
    ledger.sqlite       every attempt, what it cost or may have cost, and who is asking now
    *.lock              held while a file is in use
    ballast             room for the replies in flight when the disk is full
"""

from __future__ import annotations

from lf_lightning.responses.accounts import Attempt, Batch, Claim, Granted, Held, OverBudget, Spending
from lf_lightning.responses.base import Damage, Response, ResponseCache
from lf_lightning.responses.ledger import Ledger
from lf_lightning.responses.sqlite import SQLiteResponses
from lf_lightning.responses.sqlitedict import SqliteDictResponses

__all__ = [
    "Attempt",
    "Batch",
    "Claim",
    "Damage",
    "Granted",
    "Held",
    "Ledger",
    "OverBudget",
    "Response",
    "ResponseCache",
    "SQLiteResponses",
    "Spending",
    "SqliteDictResponses",
]
