"""The figures of co-training show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lf_lightning.figures import net_agreement, weights_by_truth


def test_each_histogram_sums_to_the_rows_of_its_kind_and_the_title_has_the_area() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(80) < 0.7
    scores = {"a": rng.random(80) + right, "b": np.full(80, 0.5)}
    figure = weights_by_truth(scores, right)
    figure.canvas.draw()
    assert len(figure.axes) == 2
    for axes in figure.axes:
        heights = np.array([bar.get_height() for bar in axes.patches])
        assert heights.sum() == pytest.approx(200)  # 100 % of the right ones, 100 % of the wrong ones
    assert figure.axes[0].get_title(loc="left").endswith(f"AUC {roc_auc_score(right, scores['a']):.2f}")
    assert figure.axes[1].get_title(loc="left").endswith("AUC 0.50")


def test_one_kind_alone_has_no_area() -> None:
    figure = weights_by_truth({"a": np.linspace(0, 1, 9)}, np.ones(9, dtype=np.bool_))
    figure.canvas.draw()
    assert figure.axes[0].get_title(loc="left") == "a"


@pytest.mark.parametrize("epochs", [1, 12])
def test_agreement_is_drawn_where_it_is_known(epochs: int) -> None:
    history = [
        {"epoch": e, "phase": "weights" if e < 5 else "co-train", "validation": 0.5 + 0.04 * e, "train": None if e < 5 else 0.6}
        for e in range(epochs)
    ]
    figure = net_agreement(history)
    figure.canvas.draw()
    lines = figure.axes[0].get_lines()
    assert len(lines) == (1 if epochs == 1 else 2)
    np.testing.assert_allclose(lines[0].get_xdata(), np.arange(1, epochs + 1))
    np.testing.assert_allclose(lines[0].get_ydata(), 50 + 4 * np.arange(epochs))
    if epochs > 5:
        np.testing.assert_allclose(lines[1].get_xdata(), np.arange(6, epochs + 1))
        assert [text.get_text() for text in figure.axes[0].texts] == ["weights", "co-train"]
