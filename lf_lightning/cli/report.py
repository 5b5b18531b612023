"""`lf report`: the page of a run or of a comparison. Needs no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lf_lightning.results.measures import MEASURES


def main(argv: Sequence[str]) -> int:
    """`lf report RUN [RUN ...] [options]`.

    Args:
        argv: The words after `lf report`.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(prog="lf report", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--out")
    parser.add_argument("--by", choices=MEASURES, default=MEASURES[0])
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args(list(argv))
    from lf_lightning.report import write_report

    path = write_report(given.runs, given.out, given.by, given.rows)
    size = path.stat().st_size / 1e6
    print(f"{path} ({size:.1f} MB): open it in a browser.")
    return 0
