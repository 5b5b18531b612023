"""The tables about asking LLMs: figures of a record in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cells import markdown

Figures = Mapping[str, Any]


def gateway(figures: Figures) -> str:
    """What a server that bills saw of the gateway."""
    faults, kills, rate, cached = (figures[part] for part in ("faults", "kills", "throughput", "cached"))
    bills = [f"{cap['server_bill_usd'] / cap['cap_usd']:.0%}" for cap in figures["budget"].values()]
    used = [f"{rate[kind]['share_of_limit']:.0%}" for kind in ("with_headers", "without_headers")]
    rows = {
        f"{faults['requests']:,} requests, a tenth with faults": f"{faults['answered']:,} answered, {faults['failed']} failed",
        "… billed again though the reply had arrived": faults["billed_twice_though_the_reply_arrived"],
        "… billed, but the reply was lost or garbled on its way": f"{faults['billed_and_lost']}, counted in the ledger",
        "bill in shares of the cap: one process; three": "; ".join(bills),
        f"`kill -9` {kills['kills']} times over {kills['texts']:,} texts": (
            f"{kills['stored_replies_lost']} stored replies lost, {kills['stored_replies_asked_again']} asked again"
        ),
        **{
            f"{number} processes on the same {ran['texts']:,} texts": f"{ran['billed']:,} billed, {ran['damaged_rows']} damaged"
            for number, ran in figures["processes"].items()
        },
        f"share used of a limit of {rate['limit_per_second']:.0f} a second; if the server tells no limits": "; ".join(used),
        "requests a second without a limit, client and server on the same cores": f"{rate['ceiling']['per_second']:.0f}",
        f"second run over {cached['texts']:,} cached replies": f"{cached['asked']} requests, {cached['seconds']:.0f} s",
    }
    lines = [[title, str(measured)] for title, measured in rows.items()]
    return markdown(["against a server that injects faults and keeps its own bill", "measured"], lines)


def real_server(figures: Figures) -> str:
    """A real client, server and model over loopback."""
    return (
        f"SmolLM2-135M behind llama.cpp's server, asked through the openai SDK: {figures['scored']} of {figures['texts']} BBC "
        f"News texts scored, accuracy {figures['accuracy']:.1%} (chance {figures['chance']:.0%}). The server's probabilities "
        f"differ from the likelihood scorer's on the same weights by {figures['largest_difference']:.3f} at most; the label is "
        f"the same on {figures['same_label']} of {figures['texts_compared']} texts."
    )


def injection(figures: Figures) -> str:
    """How often an order in a text gets its way."""
    lines = [
        [
            title,
            f"{ran['attack_rate']:.0%}",
            f"{ran['succeeded']} of {ran['not_answered_so_before']}",
            str(ran["without_a_score"]),
        ]
        for title, ran in (("between marks", figures["framed"]), ("without marks", figures["unframed"]))
    ]
    return markdown([f"{figures['attacks']} orders appended to texts, SmolLM2-135M", "obeyed", "texts", "no score"], lines)
