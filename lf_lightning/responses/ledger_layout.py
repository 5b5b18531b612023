"""The tables of the ledger."""

from __future__ import annotations

from lf_lightning.responses.database import Layout

FILE = "ledger.sqlite"

# The triggers keep the sums, so that a claim need not add up a million attempts.
LAYOUT = Layout(
    what="ledger",
    application_id=0x6C664C64,
    version=1,
    schema="""
CREATE TABLE attempts(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, holder TEXT NOT NULL, run TEXT NOT NULL, provider TEXT NOT NULL,
    model TEXT NOT NULL, day TEXT NOT NULL, reserved INTEGER NOT NULL CHECK(typeof(reserved) = 'integer' AND reserved >= 0),
    cost INTEGER NOT NULL CHECK(typeof(cost) = 'integer' AND cost >= 0),
    state TEXT NOT NULL CHECK(state IN ('open', 'billed', 'free', 'unknown')),
    reason TEXT NOT NULL, started REAL NOT NULL, ended REAL, lease REAL, batch TEXT
);
CREATE UNIQUE INDEX attempts_claimed ON attempts(key) WHERE state = 'open';
CREATE INDEX attempts_leased ON attempts(lease) WHERE state = 'open';
CREATE INDEX attempts_died ON attempts(key) WHERE state = 'unknown' AND ended IS NULL;
CREATE INDEX attempts_batch ON attempts(batch) WHERE state = 'open';
CREATE INDEX attempts_key ON attempts(key);
CREATE TABLE batches(id TEXT PRIMARY KEY, provider TEXT NOT NULL, opened REAL NOT NULL, closed REAL);
CREATE TABLE sums(spent INTEGER NOT NULL, reserved INTEGER NOT NULL);
INSERT INTO sums VALUES (0, 0);
CREATE TRIGGER attempts_inserted AFTER INSERT ON attempts BEGIN
    UPDATE sums SET spent = spent + NEW.cost, reserved = reserved + (NEW.state = 'open') * NEW.reserved;
END;
CREATE TRIGGER attempts_updated AFTER UPDATE OF state, cost, reserved ON attempts BEGIN
    UPDATE sums SET spent = spent + NEW.cost - OLD.cost,
        reserved = reserved + (NEW.state = 'open') * NEW.reserved - (OLD.state = 'open') * OLD.reserved;
END;
""",
)
