"""What is sent and answered: the bodies of POST /predict, checked against the limits and the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lf_lightning.serving.limits import Limits, Problem
from lf_lightning.serving.service import Answer, Question, Service

SUM_TOLERANCE = 0.01
"""Of the probabilities that a sender gives for a text of a multi-class model."""


class PredictRequest(BaseModel):
    """One text or several."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"texts": ["The match ended 2:1."]}]}
    )

    texts: str | list[str] = Field(description="A text, or a list of them.")
    scores: list[dict[str, dict[str, float] | None] | None] | None = Field(
        default=None,
        description="What you know of the scorers' opinions: for each text null, or by scorer a probability for every label, "
        'as in `[{"gpt-4.1-mini": {"sport": 0.9, "politics": 0.1}}]`. No scorer is asked about a text with scores.',
    )
    reasons: bool = Field(
        default=False,
        description="Whether each answer is to have the reason that the model writes for it, which takes longer. A model that "
        "writes none (`explains` of GET /info is false) answers with 422.",
    )


class Prediction(BaseModel):
    """What is said of one text."""

    labels: list[str] = Field(description="The labels decided for: one, or of a multi-label model any number.")
    probabilities: dict[str, float] = Field(description="Calibrated probability of every label.")
    asked: list[str] = Field(description="Scorers that were asked about this text just now.")
    answered: list[str] = Field(description="Those of them that had an opinion.")
    reason: str | None = Field(description="What the model writes as its reason; null unless `reasons` asked for it.")


class PredictResponse(BaseModel):
    """The predictions, in the order of the texts."""

    predictions: list[Prediction]
    fingerprint: str | None = Field(description="SHA-256 of the model.")


class ProblemBody(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


def questions_of(request: PredictRequest, limits: Limits, service: Service) -> list[Question]:
    """Returns the questions of a request.

    Raises:
        Problem: 422, which says which text or score, which limit, and the way out, or that the model writes no reasons; 413 for
            too many or too long texts.
    """
    texts = [request.texts] if isinstance(request.texts, str) else request.texts
    if not texts:
        raise Problem(422, "No texts", "texts is empty. Way out: one text at least.")
    if len(texts) > limits.max_texts:
        detail = f"A request may have {limits.max_texts} texts, this one has {len(texts):,}. Way out: several requests."
        raise Problem(413, "Too many texts", detail)
    long = [row for row, text in enumerate(texts) if len(text) > limits.max_characters]
    if long:
        most, read = limits.max_characters, service.max_length
        raise Problem(
            413,
            "Text too long",
            f"A text may have {most:,} characters. Way out: cut it{f'; the model reads {read} tokens' if read else ''}.",
            errors=[{"at": f"texts[{row}]", "problem": f"{len(texts[row]):,} characters"} for row in long[:10]],
        )
    blank = [row for row, text in enumerate(texts) if not text.strip()]
    if blank:
        errors = [{"at": f"texts[{row}]", "problem": "no character but white space"} for row in blank[:10]]
        raise Problem(422, "Empty text", "There is nothing to read. Way out: leave such texts out.", errors=errors)
    if request.reasons and not service.explains:
        detail = "This model writes no reasons (`explains` of GET /info). Way out: leave reasons out."
        raise Problem(422, "No reasons", detail)
    scores = [None] * len(texts) if request.scores is None else request.scores
    if len(scores) != len(texts):
        detail = f"There are {len(texts)} texts and {len(scores)} scores. Way out: null for a text without."
        raise Problem(422, "Scores do not match the texts", detail)
    return [
        Question(text, None if known is None else _members(known, row, service), request.reasons)
        for row, (text, known) in enumerate(zip(texts, scores, strict=True))
    ]


def answered(answers: list[Answer], service: Service) -> PredictResponse:
    """Returns the response."""
    names = service.predictor.labels
    predictions = [
        Prediction.model_construct(
            labels=[names[k] for k in answer.decided],
            probabilities=dict(zip(names, answer.probabilities.tolist(), strict=True)),
            asked=list(answer.asked),
            answered=list(answer.answered),
            reason=answer.reason,
        )
        for answer in answers
    ]
    return PredictResponse.model_construct(predictions=predictions, fingerprint=service.fingerprint)


def _members(known: Mapping[str, Mapping[str, float] | None], row: int, service: Service) -> NDArray[np.float32]:
    """(M, K), rows of NaN for scorers that are not named."""
    names, labels = service.predictor.scorers, service.predictor.labels
    members = np.full((len(names), len(labels)), np.nan, dtype=np.float32)
    for name, said in known.items():
        at = f"scores[{row}].{name[:80]}"
        if name not in names:
            raise _wrong(at, f"the model has no such scorer; its scorers: {', '.join(names) or 'none'}")
        if said is None:
            continue
        if said.keys() != set(labels):
            raise _wrong(at, f"a probability for each of {', '.join(labels)}, and for no other label")
        values = np.array([said[label] for label in labels])
        if not (np.isfinite(values) & (values >= 0) & (values <= 1)).all():
            raise _wrong(at, "probabilities are numbers within 0 and 1")
        if service.predictor.task == "multiclass" and abs(values.sum() - 1) > SUM_TOLERANCE:
            raise _wrong(at, f"probabilities of a multi-class model sum to 1, these to {values.sum():.3f}")
        members[names.index(name)] = values / values.sum() if service.predictor.task == "multiclass" else values
    return members


def _wrong(at: str, problem: str) -> Problem:
    detail = "The scores cannot be used. Way out: see errors; or leave scores out."
    return Problem(422, "Wrong scores", detail, errors=[{"at": at, "problem": problem}])


def explained(errors: list[Any]) -> Problem:
    """Returns the problem of a body that is no `PredictRequest`, from pydantic's errors; it repeats nothing of the body."""
    if any(error["type"] == "json_invalid" for error in errors):
        return Problem(400, "Broken JSON", 'The body is no JSON. Way out: {"texts": ["..."]}.')
    deepest = max(len(error["loc"]) for error in errors)  # of a text or a list of texts, the one that it nearly was
    listed = []
    for error in [error for error in errors if error["loc"][1:2] != ("texts",) or len(error["loc"]) == deepest][:10]:
        path = [part for part in error["loc"] if part not in ("body", "str", "list[str]")]
        at = "".join(f"[{part}]" if isinstance(part, int) else f".{str(part)[:80]}" for part in path).lstrip(".") or "body"
        listed.append({"at": at, "problem": str(error["msg"])[:200]})
    known = '{"texts": a text or a list of texts, "scores": null or a list, "reasons": false or true}'
    detail = f"The body is not {known}. Way out: see errors."
    return Problem(422, "Wrong body", detail, errors=listed)
