"""The cost-accuracy figure shows what it is given."""

from __future__ import annotations

import numpy as np

from lf_lightning.figures import cost_accuracy


def test_each_curve_is_drawn_in_percent_with_its_name_and_the_line_of_chance() -> None:
    curves = {"gain $1": ([0.0, 0.5, 1.0], [0.5, 0.7, 0.6]), "margin": ([0.0, 0.5, 1.0], [0.5, 0.6, 0.6])}
    figure = cost_accuracy(curves, "macro-F1", encoder=0.55)
    (axes,) = figure.axes
    drawn = {str(line.get_label()): np.array(line.get_xydata()) for line in axes.lines}
    assert drawn[r"gain \$1"].tolist() == [[0, 50], [50, 70], [100, 60]]
    assert np.allclose(drawn["by chance"], [[0, 50], [100, 60]])
    assert np.allclose(drawn["encoder alone"][:, 1], 55)
    assert axes.get_ylabel() == "macro-F1, %"
    figure.canvas.draw()
