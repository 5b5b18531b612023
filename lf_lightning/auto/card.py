"""The README.md of a model on the hub: what it decides, how well, who takes part, what is known to limit it, how to load it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

import lf_lightning
from lf_lightning.auto.folder import identity_of
from lf_lightning.auto.inputs import labelled, read_targets
from lf_lightning.metrics import bootstrap_interval, evaluate

if TYPE_CHECKING:
    from lf_lightning.auto.classifier import AutoFusionClassifier

_SHOWN_LABELS = 100


def model_card(classifier: AutoFusionClassifier, test: Any, license: str | None) -> str:
    """Returns the card, see `AutoFusionClassifier.model_card`; metadata first, as the hub reads it."""
    from huggingface_hub import EvalResult, ModelCardData

    tests = None if test is None else _figures_on(classifier, test)
    encoder = classifier.choices_.encoder
    on_the_hub = not encoder.startswith(("package:", "/", ".", "~"))
    results = [
        EvalResult("text-classification", "own", "test rows of the author", metric, round(values["value"], 4))
        for metric, values in (tests or {}).items()
        if metric in ("accuracy", "macro_f1")
    ]
    data = ModelCardData(
        license=license,
        library_name="lf-lightning",
        pipeline_tag="text-classification",
        base_model=encoder if on_the_hub else None,
        tags=["text-classification", "lf-lightning", "label-fusion", "calibrated", classifier.task_],
        model_name="AutoFusionClassifier",
        eval_results=results or None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        "# A text classifier of lf_lightning",
        _purpose(classifier),
        "## Figures\n\n" + (_validation_table(classifier) if tests is None else _test_table(tests)),
        "## Who takes part\n\n" + _members(classifier),
        "## Limits\n\n" + _limits(classifier, tests is not None, license),
        "## Use\n\n" + _use(classifier),
    ]
    return "\n\n".join(parts) + "\n"


def _figures_on(classifier: AutoFusionClassifier, test: Any) -> dict[str, dict[str, float]]:
    texts, y = test if isinstance(test, tuple) else (test, None)
    many = classifier.task_ == "multilabel"
    _, true = read_targets(texts, y, classifier.classes_.tolist(), classifier._said()._label_column, many)
    opinion, known = classifier._opinion(texts, None), labelled(true)
    made, truth, k = opinion.decisions[known], true[known].astype(np.int64), len(classifier.classes_)
    numbers = evaluate(opinion.probabilities[known], truth, classifier.task_, made)
    found: dict[str, dict[str, float]] = {
        "accuracy": bootstrap_interval("accuracy", made, truth, num_labels=k),
        "macro_f1": bootstrap_interval("macro_f1", made, truth, num_labels=k),
        "rows": {"value": float(known.sum())},
    }
    return {**found, **{name: {"value": numbers[name]} for name in ("nll", "ece")}}


def _purpose(classifier: AutoFusionClassifier) -> str:
    names = [_code(name) for name in classifier._targets.names]
    more = f" and {len(names) - _SHOWN_LABELS} more" if len(names) > _SHOWN_LABELS else ""
    kind = "any number of labels" if classifier.task_ == "multilabel" else "one label"
    said = classifier._said().description
    about = f" {_line(said)}" if said else ""
    return f"It gives a text {kind} of: {', '.join(names[:_SHOWN_LABELS])}{more}.{about} Its probabilities are calibrated."


def _test_table(tests: dict[str, dict[str, float]]) -> str:
    rows = int(tests["rows"]["value"])
    lines = [
        f"On {rows:,} test rows that the author gave; brackets: 95 % bootstrap interval.",
        "",
        "| | value |",
        "| --- | ---: |",
    ]
    for name, shown in (("accuracy", "accuracy %"), ("macro_f1", "macro-F1 %")):
        value = tests[name]
        lines.append(f"| {shown} | {100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}] |")
    lines += [f"| NLL | {tests['nll']['value']:.3f} |", f"| ECE | {tests['ece']['value']:.3f} |"]
    return "\n".join(lines)


def _validation_table(classifier: AutoFusionClassifier) -> str:
    lines = [
        "On validation rows, which also chose epoch and calibration: **no test.** Brackets: 95 % Wilson interval.",
        "",
        "| | rows | accuracy % | macro-F1 % |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, values in classifier.figures_.items():
        n = int(values["rows"])
        interval = binomtest(round(values["accuracy"] * n), n).proportion_ci(method="wilson")
        lines.append(
            f"| {_line('this model' if name == 'system' else name)} | {n:,} | {100 * values['accuracy']:.1f} "
            f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}] | {100 * values['macro_f1']:.1f} |"
        )
    return "\n".join(lines)


def _members(classifier: AutoFusionClassifier) -> str:
    choices = classifier.choices_
    layers = "used as it is" if choices.frozen_layers == -1 else "fine-tuned"
    lines = [f"* the encoder {_code(choices.encoder)}, {layers}"]
    asked = classifier._named if classifier._asked is None else [identity_of(scorer) for scorer in classifier._asked]
    for scorer in asked:
        rest = ", ".join(f"{key} {_code(str(value))}" for key, value in scorer.items() if key != "name" and value)
        lines.append(f"* the LLM {_code(str(scorer['name']))}{f' ({rest})' if rest else ''}")
    if not asked and classifier.predictor_.scorers:
        lines.append(f"* scores that the author had: {', '.join(_code(name) for name in classifier.predictor_.scorers)}")
    if asked:
        lines.append(
            f"\nAsking about the rows of the last fit cost ${classifier.cost_usd_:.4f}; replies known before cost nothing."
        )
    return "\n".join(lines)


def _limits(classifier: AutoFusionClassifier, tested: bool, license: str | None) -> str:
    train, validation = (int(classifier._facts["rows"][split]["labelled"]) for split in ("train", "validation"))
    lines = [
        f"* Fitted on {train:,} rows, calibrated on {validation:,}: texts of another kind, time or language were not tried.",
        f"* It reads the first {classifier.predictor_.max_length} tokens of a text.",
    ]
    if classifier.predictor_.scorers:
        lines.append("* Without the LLM's opinion the encoder decides alone: the figures above then do not hold.")
    if not tested:
        lines.append("* No test rows were given for this card.")
    if license is None:
        lines.append("* The author named no licence.")
    return "\n".join(lines)


def _use(classifier: AutoFusionClassifier) -> str:
    asked = bool(classifier._named if classifier._asked is None else classifier._asked)
    who = ', llm_provider="saved"' if asked else ""
    note = "\n\nThe LLM is asked only because `llm_provider` says so; the key is read from the environment." if asked else ""
    return (
        "```bash\npip install lf-lightning\n```\n\n```python\nfrom lf_lightning import AutoFusionClassifier\n\n"
        f'classifier = AutoFusionClassifier.from_pretrained("USER/NAME"{who})\nclassifier.predict(["a text"])\n```{note}\n\n'
        f"Saved by lf_lightning {lf_lightning.__version__}: safetensors and JSON; nothing in it is run."
    )


def _line(text: str) -> str:
    """A text on one line that is no markup."""
    plain = " ".join(text.split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("[", "\\[")


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "¦") + "`"
