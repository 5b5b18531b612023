"""Option letters: which tokens count, what the mass is, what is refused."""

from __future__ import annotations

from math import inf, log, nan

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.elicitation.logprob import NO_LOGPROBS, Logprob, code_masses
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status


def reply(**tokens: float) -> Reply:
    return of(list(tokens.items()))


def of(tokens: list[tuple[str, float]]) -> Reply:
    """A reply whose first token has these alternatives, given by probability."""
    return Reply("?", "stop", (tuple((token, log(p)) for token, p in tokens),))


def test_all_tokens_that_mean_a_letter_are_summed() -> None:
    found = code_masses(
        of([("A", 0.3), (" A", 0.1), ("a", 0.05), ("▁A", 0.02), ("Ａ", 0.01), ("B", 0.2), ("(B", 0.1), ("Apple", 0.1)]),
        ("A", "B"),
    )
    assert not isinstance(found, str)
    masses, mass = found
    np.testing.assert_allclose(masses, [0.48, 0.3])
    assert mass == pytest.approx(0.78)


def test_probabilities_are_the_normalised_masses_as_scipy_has_them() -> None:
    logits = np.random.default_rng(0).normal(size=6)
    logs = log_softmax(np.append(logits, 1.0))
    answer = Reply("A", "stop", (tuple(zip("ABCDEF", logs[:6].tolist(), strict=True)),))
    reading = Logprob().read(tuple("ABCDEF"), "multiclass", [answer])
    assert reading.status == Status.SCORED
    np.testing.assert_allclose(reading.probabilities, softmax(logits), rtol=1e-12)
    assert reading.label_mass == pytest.approx(1 - np.exp(logs[6]))


def test_keys_say_which_label_a_letter_stands_for() -> None:
    answer = reply(A=0.7, B=0.2, C=0.1)
    reading = Logprob().read(("C", "A", "B"), "multiclass", [answer])
    np.testing.assert_allclose(reading.probabilities, [0.1, 0.7, 0.2])


def test_a_letter_outside_the_alternatives_gets_the_largest_probability_that_is_possible() -> None:
    found = code_masses(of([("A", 0.9), ("x", 0.08)]), ("A", "B", "C"))
    assert not isinstance(found, str)
    np.testing.assert_allclose(found[0], [0.9, 0.01, 0.01])  # the rest of 0.02 for two
    assert found[1] == pytest.approx(0.9)
    found = code_masses(of([("A", 0.5), ("x", 0.1), ("y", 0.05)]), ("A", "B"))
    assert not isinstance(found, str)
    np.testing.assert_allclose(found[0], [0.5, 0.05])  # no more than the last alternative


@pytest.mark.parametrize(("least_mass", "status"), [(0.0, Status.SCORED), (0.05, Status.UNPARSED)])
def test_a_low_label_mass_is_kept_and_below_the_threshold_unparsed(least_mass: float, status: Status) -> None:
    reading = Logprob(least_mass=least_mass).read(("A", "B"), "multiclass", [of([("The", 0.96), ("A", 0.03), ("B", 0.01)])])
    assert reading.status == status
    assert reading.label_mass == pytest.approx(0.04)
    if status == Status.SCORED:
        np.testing.assert_allclose(reading.probabilities, [0.75, 0.25])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply("A", "stop"), NO_LOGPROBS),
        (Reply("A", "stop", ((),)), NO_LOGPROBS),
        (of([("The", 0.9), ("It", 0.1)]), "none of the alternatives"),
        (Reply("A", "stop", ((("A", nan),),)), "log-probability of nan"),
        (Reply("A", "stop", ((("A", 3.0),),)), "log-probability of 3.0"),
        (Reply("A", "stop", ((("A", -inf), ("B", -inf)),)), "none of the alternatives"),
    ],
)
def test_what_cannot_be_read_says_why(answer: Reply, reason: str) -> None:
    reading = Logprob(least_mass=0).read(("A", "B"), "multiclass", [answer])
    assert (reading.status, reading.probabilities) == (Status.UNPARSED, ())
    assert reason in reading.reason


def test_a_reply_cut_at_its_one_token_is_read_and_a_refusal_is_none() -> None:
    cut = Reply("A", "length", reply(A=0.8, B=0.2).alternatives)
    assert Logprob().read(("A", "B"), "multiclass", [cut]).probabilities == pytest.approx((0.8, 0.2))
    assert Logprob().read(("A", "B"), "multiclass", [Reply("", "refused")]).status == Status.REFUSED


def test_multilabel_asks_yes_or_no_about_each_label() -> None:
    mode = Logprob(least_mass=0)
    assert [question.about for question in mode.questions(3, "multilabel")] == [0, 1, 2]
    answers = [of([("Yes", 0.6), (" yes", 0.1), ("no", 0.3)]), of([("No", 0.4), ("Maybe", 0.2), ("Yes", 0.1)])]
    reading = mode.read(("1", "2"), "multilabel", answers)
    np.testing.assert_allclose(reading.probabilities, [0.7, 0.2])
    assert reading.label_mass == pytest.approx(0.5)  # the least
    assert mode.read(("1", "2"), "multilabel", [answers[0], Reply("", "stop")]).status == Status.UNPARSED


def test_the_prior_of_a_text_without_content_is_divided_out() -> None:
    reading = Logprob(content_free="N/A").read(("A", "B"), "multiclass", [reply(A=0.6, B=0.3)], [reply(A=0.8, B=0.1)])
    weights = np.array([0.6 / 0.8, 0.3 / 0.1])
    np.testing.assert_allclose(reading.probabilities, weights / weights.sum())


def test_letters_go_on_behind_z_and_then_their_case_counts() -> None:
    labels = [str(number) for number in range(30)]
    keys = Logprob(top=30).keys(labels, "multiclass")
    assert keys[25:28] == ("Z", "a", "b")
    found = code_masses(of([("a", 0.6), ("A", 0.4)]), keys)
    assert not isinstance(found, str)
    assert (found[0][0], found[0][26]) == (pytest.approx(0.4), pytest.approx(0.6))


@pytest.mark.parametrize(("k", "top", "message"), [(21, 20, "top=20"), (53, 60, "52 letters")])
def test_too_many_labels_name_the_way_out(k: int, top: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Logprob(top=top).keys([str(number) for number in range(k)], "multiclass")
    assert len(Logprob(top=top).keys([str(number) for number in range(k)], "multilabel")) == k


@pytest.mark.parametrize("arguments", [{"top": 1}, {"least_mass": -0.1}, {"least_mass": 1.5}])
def test_arguments_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="top"):
        Logprob(**arguments)  # type: ignore[arg-type]


def test_names_are_read_by_their_first_token() -> None:
    mode = Logprob(codes="names", least_mass=0)
    keys = mode.keys(["sports", "science", "Politics"], "multiclass")
    reading = mode.read(keys, "multiclass", [of([(" sports", 0.4), ("Pol", 0.2), ("s", 0.2), ("sci", 0.1), ("sporty", 0.05)])])
    assert reading.label_mass == pytest.approx(0.7)  # "s" may be the beginning of two
    np.testing.assert_allclose(reading.probabilities, np.array([0.4, 0.1, 0.2]) / 0.7)


@pytest.mark.parametrize("labels", [["sport", "sports car"], ["a, b", "c"]])
def test_names_that_cannot_be_told_apart_are_refused(labels: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="codes: letters"):
        Logprob(codes="names").keys(labels, "multiclass")
