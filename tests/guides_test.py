"""The guides of a newcomer run as written: a model, a sweep of it, questions."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests import _pages

pytestmark = pytest.mark.optimized

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def test_your_model_trains_in_every_framework():
    names = _pages.run_page(DOCS / "your_model.md")
    # The way back: the trained model says what `predict` says.
    outputs = names["predict_fn"](names["state"].params, names["unseen"])
    one = names["trained"](names["unseen"]["x"][0])
    np.testing.assert_allclose(one["size"], outputs["size"][0], rtol=1e-5)


def test_your_model_is_swept():
    names = _pages.run_page(DOCS / "sweep_your_model.md")
    plt.close("all")
    assert {"near", "far"} <= set(names["best"]["metrics"])
    # Each is better where it weighs more.
    rows = [r for r in names["records"] if r["settings"]["lr"] == 0.03]
    for name in ("near", "far"):
        by_weight = {
            weight: np.mean(
                [r["metrics"][name] for r in rows if r["weights"][name] == weight]
            )
            for weight in (0.25, 0.75)
        }
        assert by_weight[0.75] < by_weight[0.25], by_weight


def test_questions_have_the_answers_that_they_show():
    names = _pages.run_page(DOCS / "faq.md")
    # Ten, and each ends with more to read or with something that ran.
    page = (DOCS / "faq.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == 10
    assert names["same"] == {"trunk": False, "C": True, "D": True}
