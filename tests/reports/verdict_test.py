"""A verdict: never a finding from too few seeds, never that there is no difference."""

import itertools

import pytest

import headwise as hw

M = {"m": True}


def record(w, seed, m, **more):
    finite = m is not None
    return {
        "weights": {"a": w, "b": 1.0},
        "seed": seed,
        "finite": finite,
        "metrics": {"m": m, **more},
    }


def study(weightings, seeds, value):
    return [record(float(w), s, value(w, s)) for w in weightings for s in seeds]


def test_signal_and_chance():
    """Three weightings, four seeds: in one order throughout, 1/6³; and in none."""
    records = study((1, 2, 3), range(4), lambda w, s: 0.1 * w + 0.01 * s)
    assert hw.reports.verdict(records, M) == (
        "m: the weights matter (p < 0.01): 0.315 at a=3, 0.115 at a=1, seeds ± 0.013; "
        "0.200 [0.200, 0.200] apart on seeds held out; 2 of 3 may be the best, about 3 "
        "more seeds could tell"
    )
    assert hw.reports.verdict(records, {"m": False}).startswith(
        "m: the weights matter (p < 0.01): 0.115 at a=1, 0.315 at a=3"
    )
    # ranks 123, 123, 231, 312: sums 7, 8, 9; chi²_r = 0.5, in tables 0.931
    values = [[1, 1, 2, 3], [2, 2, 3, 1], [3, 3, 1, 2]]
    records = study((1, 2, 3), range(4), lambda w, s: values[w - 1][s])
    assert hw.reports.verdict(records, M) == (
        "m: no difference shown (p = 0.93): 1.750 to 2.250, seeds ± 0.957"
    )


def test_weightings_are_compared_seed_by_seed():
    """Seeds differ by far more than weightings, but all in the same way."""
    for weightings in ((1, 2, 3), (1, 2)):
        records = study(weightings, range(6), lambda w, s: s + 0.01 * w)
        assert "the weights matter (p " in hw.reports.verdict(records, M)
        records = study(weightings, range(6), lambda w, s: s + 0.01 * w * (-1) ** s)
        assert "no difference shown (p = " in hw.reports.verdict(records, M)


@pytest.mark.parametrize(
    ("weightings", "seeds", "least", "needed"),
    [(2, 5, "0.062", 6), (3, 2, "0.17", 3), (2, 1, "1", 6), (7, 1, "1", 2)],
)
def test_too_few_seeds_are_no_finding(weightings, seeds, least, needed):
    """The largest effect and the smallest noise: 2/2⁵, 1/3!, and nothing at all."""
    records = study(range(1, weightings + 1), range(seeds), lambda w, s: w + 0.001 * s)
    text = hw.reports.verdict(records, M)
    assert text.startswith(
        f"m: too few seeds to tell (the least possible p is {least}; {needed} could "
        "decide): 1.0"
    )
    records = study(range(1, weightings + 1), range(needed), lambda w, s: w + s)
    assert "the weights matter" in hw.reports.verdict(records, M)


def test_two_seeds_can_do_for_five_weightings():
    """Of 5! orders of the second seed one is the first's: 1/120."""
    records = study(range(1, 6), range(2), lambda w, s: 10 * w + 0.002 * s)
    assert hw.reports.verdict(records, M) == (
        "m: the weights matter (p < 0.01): 50.001 at a=5, 10.001 at a=1, seeds ± 0.001"
        "; any may be the best, about 6 more seeds could tell"
    )
    assert "too few seeds" in hw.reports.verdict(records, M, level=0.008)


def test_findings_by_chance_are_as_rare_as_the_level():
    """All orders of three weightings in three seeds: at most 5 % are a finding."""
    found = 0
    orders = list(itertools.permutations(range(3)))
    for second, third in itertools.product(orders, repeat=2):
        table = (orders[0], second, third)
        records = study(range(3), range(3), lambda w, s, t=table: float(t[s][w]))
        found += "the weights matter" in hw.reports.verdict(records, M)
    assert found == 1  # of 36


def test_a_diverged_trial_is_the_worst_of_its_seed():
    """Ranks by hand: 1 2 3, 1 2 3, 2 3 1 have the sums 4, 7, 7; chi²_r = 2, 0.528."""
    records = study((1, 2, 3), range(3), lambda w, s: None if (w, s) == (3, 0) else w)
    assert hw.reports.verdict(records, M) == (
        "m: no difference shown (p = 0.53): 1.000 to 3.000, seeds ± 0.000; "
        "1 diverged, counted as the worst"
    )
    records = study((1, 2, 3), range(3), lambda w, s: None if (w, s) == (1, 0) else w)
    assert hw.reports.verdict(records, M) == (
        "m: the weights matter (p = 0.03): 3.000 at a=3, 1.000 at a=1 (1 of 3 "
        "diverged), seeds ± 0.000; 2 of 3 may be the best, about 4 more seeds could "
        "tell; 1 diverged, counted as the worst"
    )
    records = study((1, 2), range(6), lambda w, s: None if w == 1 else 0.5)
    assert hw.reports.verdict(records, {"m": False}) == (
        "m: the weights matter (p = 0.03): 0.500 at a=2, all diverged at a=1, "
        "seeds ± 0.000; a=2 is the best; 6 diverged, counted as the worst"
    )


def test_seeds_that_not_all_have_are_counted():
    records = study((1, 2, 3), range(4), lambda w, s: w + s)[1:-1]
    assert hw.reports.verdict(records, M).endswith(
        "; 2 of 4 seeds left out, not all rows have them"
    )
    apart = study((1,), (0, 1), lambda w, s: 1.0) + study(
        (2,), (2, 3), lambda w, s: 2.0
    )
    assert hw.reports.verdict(apart, M) == (
        "m: too few seeds to tell (the least possible p is 1; 6 could decide): 1.000 "
        "to 2.000, seeds ± 0.000; 4 of 4 seeds left out, not all rows have them"
    )


def test_level_is_a_probability():
    for level in (5, 0, 0.0, float("nan"), True):
        with pytest.raises(ValueError, match="level: expected a number in"):
            hw.reports.verdict([record(1.0, 0, 1.0)], M, level=level)
