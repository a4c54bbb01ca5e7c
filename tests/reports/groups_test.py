"""Rows by any setting: right means by hand, and nothing different put together."""

import matplotlib.pyplot as plt
import pytest

import headwise as hw

HIGHER = {"m": True}


def record(m, seed=0, weights=None, **settings):
    return {
        "weights": {"a": 1.0, "b": 1.0} if weights is None else weights,
        "seed": seed,
        "settings": settings,
        "finite": True,
        "metrics": {"m": m},
    }


def first_column(text):
    """Labels of the rows of a table, below the line."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if set(line) <= set("─ ")) + 1
    return [line.split("  ")[0] for line in lines[start:]]


@pytest.fixture
def crossed():
    """Two balancers x two rates x two seeds; m = 10 mgda + 100 lr + seed."""
    return [
        record(10 * (name == "mgda") + 100 * lr + s, s, balancer=name, lr=lr, steps=8)
        for name in ("equal", "mgda")
        for lr in (0.01, 0.02)
        for s in (0, 1)
    ]


def test_by_default_settings_that_vary_are_never_pooled(crossed):
    rows = hw.reports.summary(crossed)
    assert [(r["settings"]["balancer"], r["settings"]["lr"]) for r in rows] == [
        ("equal", 0.01),
        ("equal", 0.02),
        ("mgda", 0.01),
        ("mgda", 0.02),
    ]
    assert [row["mean"]["m"] for row in rows] == [1.5, 2.5, 11.5, 12.5]
    assert all(row["std"]["m"] == pytest.approx(0.5**0.5) for row in rows)
    assert all(row["settings"]["steps"] == 8 for row in rows)
    assert all(row["pooled"] == [] and row["count"] == 2 for row in rows)
    text = hw.reports.sweep_table(crossed, HIGHER, "title")
    assert text.splitlines()[0] == "title (a=1 b=1 throughout)"
    assert text.splitlines()[1].startswith("settings")
    assert first_column(text)[0] == "balancer=equal lr=0.01"
    assert "* 12.500 ± 0.707" in text.splitlines()[-1]


def test_rows_by_one_setting_say_what_they_pool(crossed):
    rows = hw.reports.summary(crossed, by=("balancer",))
    # equal: 1, 2, 2, 3; the same and 10 for mgda
    assert [row["mean"]["m"] for row in rows] == [2.0, 12.0]
    assert [row["std"]["m"] for row in rows] == pytest.approx([(2 / 3) ** 0.5] * 2)
    assert [row["pooled"] for row in rows] == [["lr"], ["lr"]]
    assert rows[0]["settings"] == {"balancer": "equal", "steps": 8}
    assert rows[0]["weights"] == {"a": 1.0, "b": 1.0}
    text = hw.reports.sweep_table(crossed, HIGHER, by=("balancer",))
    assert text.splitlines()[0] == "(pooled over lr)"
    assert text.splitlines()[1].startswith("balancer ")
    assert first_column(text) == ["balancer=equal", "balancer=mgda"]


def test_pooled_trials_are_compared_with_those_of_the_same_settings(crossed):
    """m differs by 10 for every rate and seed: four pairs of one sign, p = 2 / 2^4."""
    text = hw.reports.verdict(crossed, HIGHER, level=0.2, by=("balancer",))
    assert text == (
        "m: the balancer matters (p = 0.12): 12.000 at balancer=mgda, 2.000 at "
        "balancer=equal, trials ± 0.816; 10.000 [10.000, 10.000] apart on trials held "
        "out; balancer=mgda is the best"
    )
    text = hw.reports.verdict(crossed, HIGHER, by=("balancer",))
    assert text == (
        "m: too few trials to tell (the least possible p is 0.12; 6 could decide): "
        "2.000 to 12.000, trials ± 0.816"
    )
    text = hw.reports.verdict(crossed[:4], HIGHER)
    assert text == (
        "m: too few seeds to tell (the least possible p is 0.5; 6 could decide): "
        "1.500 to 2.500, seeds ± 0.707"
    )


def test_rows_by_setting_and_weights():
    records = [
        record(w * lr, s, {"a": w, "b": 1.0}, lr=lr)
        for lr in (1.0, 3.0)
        for w in (2.0, 5.0)
        for s in (0, 1)
    ]
    text = hw.reports.sweep_table(records, HIGHER, by=("lr", "weights"))
    assert text.splitlines()[0] == "(b=1 throughout)"
    assert first_column(text) == [f"lr={r} a={w}" for r in (1, 3) for w in (2, 5)]
    by_head = hw.reports.summary(records, by=("a",))
    assert [row["mean"]["m"] for row in by_head] == [4.0, 10.0]
    assert [row["weights"] for row in by_head] == [
        {"a": 2.0, "b": 1.0},
        {"a": 5.0, "b": 1.0},
    ]
    assert [row["pooled"] for row in by_head] == [["lr"], ["lr"]]
    by_rate = hw.reports.summary(records, by=["lr"])
    assert [row["mean"]["m"] for row in by_rate] == [3.5, 10.5]
    assert [row["weights"] for row in by_rate] == [{"b": 1.0}, {"b": 1.0}]


def test_a_balancer_that_has_no_weights_is_a_row_like_others():
    records = [
        record(1.0, balancer="constant"),
        record(2.0, weights={}, balancer="mgda"),
    ]
    labels = first_column(hw.reports.sweep_table(records, HIGHER))
    assert labels == ["balancer=constant a=1 b=1", "balancer=mgda"]
    alone = first_column(hw.reports.sweep_table(records[1:], HIGHER))
    assert alone == ["all trials"]


def test_a_setting_that_older_records_lack_keeps_them_apart():
    records = [record(1.0), record(3.0, lr=0.1)]
    assert len(hw.reports.summary(records)) == 2
    (row,) = hw.reports.summary(records, by=("weights",))
    assert (row["mean"]["m"], row["pooled"]) == (2.0, ["lr"])


def test_weights_that_print_alike_are_not_pooled():
    records = [record(w, weights={"a": w}) for w in (0.12345678, 0.12345679)]
    labels = first_column(hw.reports.sweep_table(records, HIGHER))
    assert labels == ["a=0.12345678", "a=0.12345679"]


def test_a_head_and_a_setting_of_one_name_are_both_told_apart():
    records = [
        record(1.0, weights={"lr": w}, lr=lr) for w in (1.0, 2.0) for lr in (0.1, 0.2)
    ]
    assert len(hw.reports.summary(records)) == 4
    assert len(hw.reports.summary(records, by=("lr",))) == 4


@pytest.mark.parametrize(
    "show",
    [
        lambda by: hw.reports.summary([record(1.0, lr=0.1)], by=by),
        lambda by: hw.reports.sweep_table([record(1.0, lr=0.1)], HIGHER, by=by),
        lambda by: hw.reports.verdict([record(1.0, lr=0.1)], HIGHER, by=by),
    ],
)
def test_names_that_are_not_there_are_named(show):
    with pytest.raises(ValueError, match=r"by: unknown names \['rate'\]; .*'lr', 'wei"):
        show(["rate"])
    with pytest.raises(TypeError, match=r"by: expected a sequence of names.*'lr'"):
        show("lr")


def test_pictures_by_setting(crossed):
    for one in crossed:
        one["metrics"]["n"] = -one["metrics"]["m"]
    higher = {"m": True, "n": False}
    ax = hw.reports.front_picture(crossed, "m", "n", higher, by=("balancer",))
    legend = ax.get_legend()
    assert legend.get_title().get_text() == "pooled over lr"
    labels = {text.get_text() for text in legend.get_texts()}
    assert labels == {"front", "balancer=equal", "balancer=mgda"}
    figure = hw.reports.weights_picture(crossed, higher, by=("lr",))
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["lr=0.01", "lr=0.02"]
    plt.close("all")


def test_settings_too_long_for_a_row_are_told_below():
    long = "epo:preferences=left:1;right:2;ratio=0.25"
    records = [record(1.0, lr=0.5, balancer=name) for name in ("mgda", long)]
    text = hw.reports.sweep_table(records, HIGHER)
    table, legend = text.split("\n\n")
    assert first_column(table) == ["balancer 1", "balancer 2"]
    assert legend.splitlines() == [
        "balancer 1: balancer=mgda",
        f"balancer 2: balancer={long}",
    ]
    heads = {f"head{i}": 1.0 for i in range(14)}
    other = [record(1.0, weights=heads), record(2.0, weights=heads | {"head3": 0.5})]
    assert "\n\n" not in hw.reports.sweep_table(other, HIGHER)
