"""Asking an LLM only where it pays: the whole cost-accuracy curve of each deferral on real LLMs' labels.

    python -m benchmarks.deferral --data FOLDER

The fusions are those of `benchmarks.fusion_llm_labels`, whose encoders are taken from its temporary folder where they are;
what they say is kept, so that a second run takes seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.fits import _weighted
from benchmarks.fusion_llm_labels import parser_of
from benchmarks.opinions import DEFERRALS, Said, said_by
from lf_lightning.deferral import cost_curve, order_of_asking

SHARE = 0.3
RESAMPLES = 1000
ORACLE = "oracle"
DEFAULT = "expected gain (log)"
Array = np.ndarray[Any, Any]


def values_of(said: Said, method: str) -> Array:
    """Returns the values (n, 1) of a deferral; the oracle's are what a call really changes."""
    if method == ORACLE:
        right = (said.decisions == said.labels).astype(float)
        return (right[1] - right[0])[:, None]
    return said.values[method][:, None]


def made_at(said: Said, method: str, share: float) -> Array:
    """Returns the decisions (n,) with a share of the texts asked about."""
    rows, _, _ = order_of_asking(values_of(said, method), np.ones(1))
    made = said.decisions[0].copy()
    asked = rows[: int(share * len(rows) + 1e-9)]
    made[asked] = said.decisions[1][asked]
    return made


def one_set(seeds: list[Said]) -> dict[str, Any]:
    """Returns the figures of a set over its seeds, with intervals over test rows."""
    labels, k = seeds[0].labels, int(max(s.labels.max() for s in seeds)) + 1
    n = len(labels)
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float)
    weights = np.vstack([np.ones(n), weights])

    def mean(metric: str, decisions: list[Array]) -> Array:
        return np.asarray(np.mean([_weighted(metric, made, labels, k, weights) for made in decisions], 0))

    def interval(values: Array) -> dict[str, float]:
        low, high = np.percentile(values[1:], [2.5, 97.5])
        return {"value": float(values[0]), "low": float(low), "high": float(high)}

    methods = [*DEFERRALS, ORACLE]
    shares = np.linspace(0, 1, 21)
    out: dict[str, Any] = {"test_rows": n, "methods": {}}
    base: dict[str, Array] = {}
    areas: dict[str, dict[str, Array]] = {}
    for metric in ("accuracy", "macro_f1"):
        base[metric] = mean(metric, [s.encoder for s in seeds])
        none, every = (mean(metric, [s.decisions[stage] for s in seeds]) for stage in (0, 1))
        out[metric] = {"encoder": interval(base[metric]), "no_call": interval(none), "all_calls": interval(every)}
        out[metric]["gain_of_all"] = interval(every - base[metric])
    for method in methods:
        curves = [cost_curve(values_of(s, method), s.decisions, labels, k) for s in seeds]
        figures: dict[str, Any] = {"cost": curves[0].cost[::2].round(2).tolist()}
        for metric in ("accuracy", "macro_f1"):
            y = np.mean([getattr(c, metric) for c in curves], 0)
            boot = np.stack([mean(metric, [made_at(s, method, share) for s in seeds]) for share in shares])
            area = (boot - boot[0]).mean(0) - (boot[-1] - boot[0]) / (2 * len(shares))  # trapezoid
            areas.setdefault(metric, {})[method] = area
            at = mean(metric, [made_at(s, method, SHARE) for s in seeds])
            every = boot[-1]
            gain = float(every[0] - base[metric][0])
            reached = np.flatnonzero(y - base[metric][0] >= 0.95 * gain - 1e-12)
            figures[metric] = {
                "curve": y[::2].round(4).tolist(),
                "area": interval(area),
                "average_gain_recovered": float((y - y[0]).mean() / (y[-1] - y[0])) if y[-1] > y[0] else None,
                "gain": interval(at - base[metric]),
                "share_of_gain": float((at[0] - base[metric][0]) / gain) if gain > 0 else None,
                "minus_all_calls": interval(at - every),
                "calls_for_95_percent": float(curves[0].cost[reached[0]]) if gain > 0 and len(reached) else None,
            }
        out["methods"][method] = figures
    out["area_of_default_minus"] = {
        metric: {m: interval(areas[metric][DEFAULT] - areas[metric][m]) for m in methods if m != DEFAULT}
        for metric in ("accuracy", "macro_f1")
    }
    right = np.stack([(s.decisions == labels).mean(1) for s in seeds]).mean(0)
    changed = np.mean([((s.decisions[0] != labels) & (s.decisions[1] == labels)).mean() for s in seeds])
    spoilt = np.mean([((s.decisions[0] == labels) & (s.decisions[1] != labels)).mean() for s in seeds])
    out["calls_mend"], out["calls_spoil"], out["right_without_and_with"] = float(changed), float(spoilt), right.tolist()
    return out


def claim_of(sets: dict[str, Any]) -> str:
    """Returns in a sentence what the figures say."""
    kept = [f["methods"][DEFAULT]["accuracy"]["share_of_gain"] for f in sets.values()]
    enough = [name for name, share in zip(sets, kept, strict=True) if share is None or share >= 0.95]
    rivals = [f["area_of_default_minus"]["accuracy"][m] for f in sets.values() for m in ("margin", "entropy")]
    return (
        f"With {SHARE:.0%} of the calls the expected gain keeps 95 % of what all calls gain in accuracy over the encoder "
        f"on {len(enough)} of {len(sets)} sets ({', '.join(enough) or 'none'}). Against margin and entropy its area is "
        f"significantly greater in {sum(r['low'] > 0 for r in rivals)} and smaller in {sum(r['high'] < 0 for r in rivals)} of "
        f"{len(rivals)}."
    )


def main() -> None:
    """Runs all sets and seeds, and writes the record."""
    options = parser_of(__doc__, "deferral").parse_args()
    sets = {name: one_set([said_by(name, seed, options.data) for seed in options.seeds]) for name in options.sets}
    for name, figures in sets.items():
        gain = figures["accuracy"]["gain_of_all"]["value"]
        print(f"{name}: all calls {100 * gain:+.1f}")
        for method, values in figures["methods"].items():
            a, f = values["accuracy"], values["macro_f1"]
            print(
                f"  {method:26s} at {SHARE:.0%}: {100 * a['gain']['value']:+.2f} accuracy ({a['share_of_gain']}), "
                f"{100 * f['gain']['value']:+.2f} macro-F1; area {100 * a['area']['value']:.2f}, {100 * f['area']['value']:.2f}"
            )
    command = "python -m benchmarks.deferral --data FOLDER"
    record.write(options.out, claim_of(sets), {"share": SHARE, "sets": sets}, command, options.seeds)


if __name__ == "__main__":
    main()
