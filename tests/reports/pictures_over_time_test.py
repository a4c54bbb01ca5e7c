"""Pictures of what happens on the way."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import headwise as hw
from tests.reports import _studies


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_curves_of_a_trial_and_of_a_run():
    folder = _studies.trained()
    record = hw.sweeps.read(folder)[0]
    curves = hw.sweeps.curves(folder, record)
    ax = hw.reports.curves_picture(curves)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(lines["b"], curves["values"]["b"])
    history = hw.training.read_metrics(f"{folder}/one")
    ax = hw.reports.curves_picture(history, "weights")
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    want = [[r["step"], r["weights"]["a"]] for r in history]
    np.testing.assert_allclose(lines["a"], want)
    with pytest.raises(ValueError, match=r"what: .*weight"):
        hw.reports.curves_picture(history, "weight")


def test_heads_by_modules():
    history = hw.training.read_metrics(f"{_studies.trained()}/one")
    ax = hw.reports.heads_picture(history, "a", "norm")
    got = ax.images[0].get_array()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    trunk = [r["contributions"]["trunk"]["a"]["norm"] for r in history]
    np.testing.assert_allclose(got[labels.index("trunk")], np.log10(trunk))
    assert np.isnan(np.ma.filled(got[labels.index("b")], np.nan)).all()  # b's alone
    with pytest.raises(ValueError, match=r"head: .*c"):
        hw.reports.heads_picture(history, "c")
    with pytest.raises(ValueError, match="contributions"):
        hw.reports.heads_picture([{"step": 1}], "a")
