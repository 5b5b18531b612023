"""What `lf score` shows: a progress bar, a summary, and what a run would cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lf_lightning.errors import LFError
from lf_lightning.scoring.gateway.answers import Estimate
from lf_lightning.store import ScorerCard, Status

LOW_LABEL_MASS = 0.5
"""A row whose labels got less than this of the model's probability is counted in the summary."""
_SHOWN_REASONS = 5


@dataclass
class Summary:
    """What a run of `lf score` found and did.

    Attributes:
        card: The scorer's.
        rows: Rows of the source that were chosen, equal texts included.
        texts: Distinct texts among them.
        stored: Texts that were in the store before.
        by_status: How many of the others ended in each status; `ABSENT`: they gave no answer, and none was written.
        reasons: Why there is no score, and how often.
        cut: Texts that were longer than the scorer reads.
        low_mass: Scores whose label mass is below one half.
        changed: Rows of the store that are new or others now.
        seconds: Time for the others, loading the model included.
        halt: Why the scorer stopped before all texts were done.
        estimate: What the others would take; of a dry run with a scorer that costs something.
    """

    card: ScorerCard
    rows: int
    texts: int
    stored: int
    by_status: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    reasons: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    low_mass: int = 0
    changed: int = 0
    seconds: float = 0.0
    halt: LFError | None = None
    estimate: Estimate | None = None

    @property
    def tried(self) -> int:
        """Texts that were tried now."""
        return sum(self.by_status.values())

    @property
    def failed(self) -> int:
        """Texts that were tried now and have no score."""
        return self.tried - self.by_status[Status.SCORED]


def progress_bar() -> Progress:
    """Returns the bar, on the error stream; its task has a field `said` for what the scorer tells of itself."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    return Progress(*columns, TextColumn("{task.fields[said]}"), console=Console(stderr=True))


def show_summary(summary: Summary, store: str) -> None:
    """Prints what a run did."""
    left = summary.texts - summary.stored - summary.tried + summary.by_status[Status.ABSENT]
    counts = {
        "already in the store": summary.stored,
        "scored": summary.by_status[Status.SCORED],
        "refused": summary.by_status[Status.REFUSED],
        "unparsed": summary.by_status[Status.UNPARSED],
        "no answer": summary.by_status[Status.ABSENT],
        "left for another run": left,
        "cut to the longest that is read": summary.cut,
    }
    if summary.low_mass:
        counts[f"label mass below {LOW_LABEL_MASS}"] = summary.low_mass
    table = _table(summary, store)
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    for reason, count in summary.reasons.most_common(_SHOWN_REASONS):
        table.add_row("  because", f"{count:,} × {reason}")
    table.add_row("seconds", f"{summary.seconds:.1f}")
    if summary.tried:
        table.add_row("texts per second", f"{summary.tried / max(summary.seconds, 1e-9):.1f}")
    table.add_row("fingerprint", summary.card.fingerprint[:12])
    Console().print(table)


def show_estimate(summary: Summary, store: str, max_cost: float | None) -> None:
    """Prints what a run would take."""
    table = _table(summary, f"{store} (dry run: nothing was asked)")
    table.add_row("already in the store", f"{summary.stored:,}")
    table.add_row("to score", f"{summary.texts - summary.stored:,}")
    estimate = summary.estimate
    if estimate is None:
        table.add_row("cost", "none: this scorer asks nobody")
    else:
        provider = summary.card.spec.get("provider", {})
        table.add_row("provider", f"{provider.get('provider', provider.get('name', ''))} {provider.get('model', '')}".strip())
        table.add_row("mode", str(summary.card.spec.get("mode", "")))
        table.add_row("replies that are there", f"{estimate.cached:,}")
        table.add_row("requests", f"{estimate.to_ask:,}")
        table.add_row("input tokens, about", f"{estimate.input_tokens:,}")
        table.add_row("output tokens, at most", f"{estimate.output_tokens:,}")
        table.add_row("cost, about", _dollars(estimate.cost_usd))
        table.add_row("cost, at most", _dollars(estimate.upper_bound_usd))
        if max_cost is not None:
            table.add_row("max_cost", _dollars(max_cost))
    Console().print(table)


def _table(summary: Summary, title: str) -> Table:
    table = Table(title=f"{summary.card.name} → {title}", show_header=False)
    table.add_row("rows", f"{summary.rows:,}")
    table.add_row("distinct texts", f"{summary.texts:,}")
    return table


def _dollars(amount: float | None) -> str:
    return "no price known (gateway: price)" if amount is None else f"${amount:.4f}"
