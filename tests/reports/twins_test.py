"""The static twins of the report's charts: what is drawn, by hand."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

import headwise as hw


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def record(a, b, dice, mse, kind="x"):
    metrics = {"dice": dice, "inner": {"mse": mse}}
    return hw.sweeps.record(
        {"a": a, "b": b}, 0, metrics, settings={"kind": kind, "n": 1}
    )


RECORDS = [
    record(0.01, 1.0, 0.2, 3.0),
    record(0.1, 1.0, 0.6, 1.0, "$y$"),
    record(1.0, 2.0, 0.4, math.nan),
    record(1.0, 2.0, math.inf, 2.0),
]
HIGHER = {"dice": True, "inner/mse": False}


def test_parallel_coordinates(tmp_path):
    ax = hw.reports.parallel_picture(RECORDS, HIGHER)
    names = [label.get_text().split("\n")[0] for label in ax.get_xticklabels()]
    assert names == ["a", "b", "kind", "dice", "inner/mse"]  # n is the same in all
    lines = {
        tuple(np.round(line.get_ydata(), 6))
        for line in ax.lines
        if len(line.get_ydata()) == 5
    }
    none = -0.1
    assert lines == {
        (0.0, 0.0, 0.0, 0.0, 1.0),
        (0.5, 0.0, 1.0, 1.0, 0.0),  # a is logarithmic
        (1.0, 1.0, 0.0, 0.5, none),
        (1.0, 1.0, 0.0, none, 0.5),
    }
    grey = [line for line in ax.lines if line.get_color() == "0.75"]
    assert [line.get_ydata()[-1] for line in grey] == [none]
    for kind in ("png", "svg", "pdf"):
        ax.figure.savefig(tmp_path / f"picture.{kind}")


def test_responses():
    figure = hw.reports.responses_picture(RECORDS, "inner/mse")
    first, second = figure.axes
    (dots,) = first.lines  # three levels of four trials: no line through medians
    assert sorted(map(tuple, dots.get_xydata())) == [
        (0.01, 3.0),
        (0.1, 1.0),
        (1.0, 2.0),
    ]
    assert (first.get_xscale(), second.get_xscale()) == ("log", "linear")
    medians = second.lines[1].get_xydata()
    np.testing.assert_allclose(medians, [[1.0, 2.0], [2.0, 2.0]])


@pytest.mark.parametrize("many", [1, 9, 40])
def test_any_number_of_heads(many):
    rng = np.random.default_rng(many)
    records = [
        hw.sweeps.record(
            {f"head {h}": 10.0 ** rng.uniform(-2, 2) for h in range(many)},
            0,
            {"m": float(i)},
        )
        for i in range(3)
    ]
    ax = hw.reports.parallel_picture(records, {"m": False})
    assert len(ax.get_xticklabels()) == min(many + 1, 14)
    ax.figure.canvas.draw()
    figure = hw.reports.responses_picture(records, "m")
    assert sum(ax.get_visible() for ax in figure.axes) == min(many, 12)
    figure.canvas.draw()


def test_bad_input_is_told():
    with pytest.raises(ValueError, match=r"metric: .*mse"):
        hw.reports.responses_picture(RECORDS, "mse")
    with pytest.raises(ValueError, match="a weight that varies"):
        hw.reports.responses_picture(RECORDS[:1], "dice")
    with pytest.raises(ValueError, match="records: expected one or more"):
        hw.reports.parallel_picture([], HIGHER)
    broken = [record(w, 1.0, math.nan, math.nan) for w in (1.0, 2.0)]
    ax = hw.reports.parallel_picture(broken, HIGHER)
    assert "none" in [text.get_text() for text in ax.texts]
    hw.reports.responses_picture(broken, "dice").canvas.draw()
