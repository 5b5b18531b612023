"""What a test does in a process of its own, whose hub is another: `python hub_client.py FOLDER OUT`."""

from __future__ import annotations

import sys

import numpy as np


def main(folder: str, out: str) -> None:
    from lf_lightning import AutoFusionClassifier

    texts = ["a goal", "the vote of a minister"]
    mine = AutoFusionClassifier.load(folder, device="cpu")
    address = mine.push_to_hub("me/model", license="mit", token="hf_of_a_test")
    theirs = AutoFusionClassifier.from_pretrained("me/model", device="cpu")
    np.savez(out, mine=mine.predict_proba(texts), theirs=theirs.predict_proba(texts), address=address)


if __name__ == "__main__":
    main(*sys.argv[1:])
