"""What studies lack: values, seeds, metrics, all; and what is no study at all."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import headwise as hw

HIGHER = {"m": True, "n": False}
REPORTS = {
    "table": hw.reports.sweep_table,
    "verdict": hw.reports.verdict,
    "front": lambda records, higher: hw.reports.front_picture(
        records, *[*higher][:2], higher
    ),
    "weights": hw.reports.weights_picture,
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(params=REPORTS)
def report(request):
    return REPORTS[request.param]


def record(a, seed, finite=True, **metrics):
    weights = {"a": a, "b": 1.0}
    return {"weights": weights, "seed": seed, "finite": finite, "metrics": metrics}


def study():
    """Two weightings, three seeds: a seed without n, one None, one diverged."""
    return [
        record(1.0, 0, m=1.0, n=4.0),
        record(1.0, 1, m=3.0),
        record(1.0, 2, m=5.0, n=6.0),
        record(2.0, 0, m=2.0, n=None),
        record(2.0, 1, m=4.0, n=7.0),
        record(2.0, 2, finite=False, m=None, n=None),
    ]


def test_statistics_are_of_what_there_is():
    first, second = hw.reports.summary(study())
    assert first["mean"] == {"m": 3.0, "n": 5.0}
    assert first["std"] == {"m": 2.0, "n": 2**0.5}
    np.testing.assert_array_equal(first["metrics"]["n"], [4.0, np.nan, 6.0])
    assert (first["count"], first["diverged"]) == (3, 0)
    assert second["mean"] == {"m": 3.0, "n": 7.0}
    assert second["std"] == {"m": 2**0.5, "n": pytest.approx(np.nan, nan_ok=True)}
    assert (second["count"], second["diverged"]) == (2, 1)


def test_the_table_counts_what_is_missing():
    lines = hw.reports.sweep_table(study(), HIGHER).splitlines()
    assert " ".join(lines[3].split()) == (
        "a=1 * 3.000 ± 2.000 * 5.000 ± 1.414 front, n of 2 in 3"
    )
    assert " ".join(lines[4].split()) == (
        "a=2 * 3.000 ± 1.414 7.000 1 diverged, n of 1 in 2"
    )


def test_the_verdict_compares_what_can_be():
    """m: seed 2 diverged at a=2: -2/2³ signs; n: seed 1 is not measured at a=1."""
    m, n = hw.reports.verdict(study(), HIGHER, level=0.3).splitlines()
    assert m == (
        "m: no difference shown (p = 1.00): 3.000 to 3.000, seeds ± 1.707; 1 diverged, "
        "counted as the worst"
    )
    assert n == (
        "n: too few seeds to tell (the least possible p is 0.5; 3 could decide): 5.000 "
        "to 7.000, seeds ± 1.414; 2 diverged, counted as the worst; 1 of 3 seeds left "
        "out, not all rows have them"
    )
    lacking = [record(w, s, m=w) for w in (1.0, 2.0, 3.0) for s in range(6)]
    for one in lacking[:12]:
        one["metrics"]["n"] = one["metrics"]["m"]
    n = hw.reports.verdict(lacking, {"n": False})
    assert n == (
        "n: the weights matter (p = 0.03): 1.000 at a=1, 2.000 at a=2, seeds ± 0.000; "
        "1.000 [1.000, 1.000] apart on seeds held out; a=1 is the best; "
        "1 of 3 rows left out, they lack the metric"
    )
    assert hw.reports.verdict(lacking[6:], {"n": False}) == (
        "n: one weighting, nothing to compare"
    )


def test_what_halving_stopped_is_neither_a_result_nor_diverged():
    """a=3 is stopped in all seeds, a=1 in one: 2/2⁶ signs are left of 7 seeds."""
    whole = [record(w, s, m=w) for w in (1.0, 2.0, 3.0) for s in range(7)]
    early = [
        one["weights"]["a"] == 3.0 or one["weights"]["a"] + one["seed"] == 1
        for one in whole
    ]
    records = [
        one | {"finite": False, "stopped": 10, "error": None, "metrics": {"m": 99.0}}
        if stopped
        else one
        for one, stopped in zip(whole, early, strict=True)
    ]
    assert [hw.sweeps.halved(one) for one in records] == early
    rows = hw.reports.summary(records)
    counts = [(row["count"], row["diverged"], row["stopped"]) for row in rows]
    assert counts == [(6, 0, 1), (7, 0, 0), (0, 0, 7)]
    assert [row["mean"] for row in rows] == [{"m": 1.0}, {"m": 2.0}, {}]
    table = hw.reports.sweep_table(records, {"m": True})
    assert [line.count("stopped early") for line in table.splitlines()[-3:]] == [
        1,
        0,
        1,
    ]
    assert "diverged" not in table
    assert hw.reports.verdict(records, {"m": True}) == (
        "m: the weights matter (p = 0.03): 2.000 at a=2, 1.000 at a=1, seeds ± 0.000; "
        "1.000 [1.000, 1.000] apart on seeds held out; a=2 is the best; "
        "1 of 7 seeds left out, not all rows have them; 8 stopped early, not compared; "
        "1 of 3 rows left out, they lack the metric"
    )
    nothing = [one | {"finite": False, "stopped": 10, "error": None} for one in whole]
    assert "no finite trial: 0 of 21 diverged" in hw.reports.sweep_table(
        nothing, {"m": True}
    )


def test_the_pictures_show_what_there_is():
    records = [*study(), record(3.0, 0, m=1.0), record(4.0, 0, m=9.0, n=1.0)]
    ax = hw.reports.front_picture(records, "m", "n", HIGHER)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["front", "a=1", "a=2", "a=4"]
    assert ax.lines[0].get_xydata().tolist() == [[9.0, 1.0]]
    figure = hw.reports.weights_picture(records, HIGHER)
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["a=1", "a=2", "a=3", "a=4"]
    assert [len(ax.containers) for ax in figure.axes] == [4, 3]


def test_a_mistyped_metric_is_named(report):
    records = [record(w, s, dice=w, error=w) for w in (1.0, 2.0) for s in (0, 1)]
    match = r"higher: unknown names \['dise'\], did you mean \['dice'\]; .*'error'\]"
    for given in (records, [one | {"finite": False} for one in records]):
        with pytest.raises(ValueError, match=match):
            report(given, {"dise": True, "error": False})


def test_metrics_of_the_front_are_those_of_higher():
    with pytest.raises(ValueError, match=r"unknown names \['n'\]; expected some of"):
        hw.reports.front_picture(study(), "m", "n", {"m": True})


def test_nothing_finite_is_said(report):
    records = [
        record(w, s, finite=False, m=None, n=None) for w in (1, 2) for s in (0, 1)
    ]
    for given in (records, [one | {"metrics": {}} for one in records]):
        shown = report(given, HIGHER)
        if hasattr(shown, "get_figure"):
            texts = [*getattr(shown, "texts", []), *shown.get_figure().texts]
            shown = "".join(text.get_text() for text in texts)
        assert "no finite trial" in shown or shown.count("4 of 4 trials diverged") == 2


@pytest.mark.parametrize(
    ("records", "higher", "error", "words"),
    [
        ([], HIGHER, ValueError, "records: expected one or more, got none"),
        ("studies/x", HIGHER, TypeError, "got the path 'studies/x'; `read` reads it"),
        (record(1.0, 0, m=1.0), HIGHER, TypeError, "a list; got dict"),
        (3, HIGHER, TypeError, "records: .*a list; got int"),
        ([1, 2], HIGHER, ValueError, r"records\[0\]: expected a dict with .*; got 1"),
        ([{"weights": {}}], HIGHER, ValueError, r"records\[0\]: expected a dict with"),
        (
            [record(1.0, 0) | {"metrics": 0.5}],
            HIGHER,
            ValueError,
            r"records\[0\]\['metrics'\]: expected \{name: number\}, got 0.5",
        ),
        (
            [record(1.0, 0, m="?", n=1)],
            HIGHER,
            ValueError,
            r"metrics\['m'\]: expected a",
        ),
        (
            study(),
            {"m": 1, "n": 0},
            TypeError,
            r"higher\['m'\]: expected True or False",
        ),
        (study(), ["m", "n"], TypeError, "higher: expected .*got list"),
        (study(), "mn", TypeError, "higher: expected .*got str"),
    ],
)
def test_what_is_no_study_is_an_error(report, records, higher, error, words):
    with pytest.raises(error, match=words):
        report(records, higher)


def test_no_metrics_are_an_error():
    for show in (
        hw.reports.sweep_table,
        hw.reports.weights_picture,
        hw.reports.verdict,
    ):
        with pytest.raises(ValueError, match="higher: expected one or more metrics"):
            show(study(), {})
    assert hw.reports.summary([]) == []
    with pytest.raises(ValueError, match=r"records\[0\]: expected a dict with"):
        hw.reports.summary([3])
