"""Comparisons against published tables and peers, and chance where there is nothing."""

import json
import math
import pathlib

import numpy as np
import pytest
from scipy import stats

import headwise as hw
from headwise.reports import _intervals
from headwise.reports import _ranks

PEERS = json.loads(
    (pathlib.Path(__file__).parents[1] / "peers/statistics.json").read_text()
)
INF = math.inf


def study(table, **more):
    """Records of weightings 1, 2, ... and seeds 0, 1, ...; None diverged."""
    return [
        {
            "weights": {"a": float(i + 1)},
            "seed": seed,
            "finite": value is not None,
            "metrics": {"m": value, **{name: f(i, seed) for name, f in more.items()}},
        }
        for i, row in enumerate(table)
        for seed, value in enumerate(row)
    ]


def compared(table, more=True, level=0.05):
    return hw.reports.compare(study(table), {"m": more}, level)["m"]


def test_what_peers_say_of_a_table():
    """Nemenyi's p of scikit-posthocs, rliable's IQM, statsmodels' corrected p."""
    one = compared(PEERS["values"])
    np.testing.assert_allclose(one.nemenyi(), PEERS["nemenyi"], rtol=1e-4)
    np.testing.assert_allclose(one.iqm, PEERS["iqm"], rtol=1e-12)
    adjusted = _ranks.adjusted([*PEERS["p"], np.nan])
    np.testing.assert_allclose(adjusted[:-1], PEERS["benjamini_hochberg"], rtol=1e-12)
    assert np.isnan(adjusted[-1])
    ranks = stats.rankdata(-np.array(PEERS["values"]), axis=0).mean(axis=1)
    np.testing.assert_allclose(one.ranks, ranks)


@pytest.mark.parametrize(
    ("rows", "pairs", "level", "critical"),
    [
        (4, 14, 0.05, 1.25),  # Demsar 2006, section 3.2.2's example
        (4, 14, 0.10, 1.12),
        # Table 5(a): q = 2.343 and 3.164, of 3 and 10 rows
        (3, 2, 0.05, 2.343),
        (10, 55 / 3, 0.05, 3.164),
    ],
)
def test_published_critical_differences(rows, pairs, level, critical):
    got = _ranks.critical_difference(rows, pairs, level)
    assert got == pytest.approx(critical, abs=5e-3)


def test_the_interval_is_scipys():
    table = np.random.default_rng(3).gamma(2.0, size=(2, 9))
    mean, low, high = compared(table).difference(0, 1)
    expected = stats.bootstrap(
        (table[0] - table[1],), np.mean, n_resamples=50_000, method="BCa", rng=7
    ).confidence_interval
    assert mean == pytest.approx(np.mean(table[0] - table[1]))
    width = expected.high - expected.low
    np.testing.assert_allclose([low, high], expected, atol=0.03 * width)
    assert compared(table).difference(0, 1) == (mean, low, high)  # no luck in it
    # Fewer than four have none.
    assert np.isnan(compared(table[:, :3]).difference(0, 1)[1:]).all()
    assert np.isnan(compared(table[:, :3]).iqm).all()


def test_intervals_of_what_diverged():
    assert _intervals.of_mean(np.array([1.0, 1.0, 1.0, 1.0]), 0.05) == (1.0, 1.0)
    low, high = _intervals.of_mean(np.array([-INF, 1.0, 1.0, 1.0]), 0.05)
    assert (low, high) == (-INF, 1.0)
    assert _intervals.of_mean(np.array([-INF, INF, 1.0, 1.0]), 0.05) == (-INF, INF)
    # 19 of 20 seeds hold: a resample of 20 is without the lost one in 0.95^20 = 36 %.
    low, high = _intervals.of_mean(np.array([INF] + [1.0] * 19), 0.05)
    assert (low, high) == (1.0, INF)
    # A middle half of four leaves one lost seed out, of two it does not.
    assert _intervals.iqm(np.array([-INF, 1.0, 2.0, 9.0])) == 1.5
    assert _intervals.iqm(np.array([-INF, -INF, 2.0, 9.0])) == -INF


def test_a_lost_trial_silences_no_seed():
    """a=1 is lost in every second seed; the other two are told apart by all of them."""
    table = [
        [None if s % 2 else 0.0 for s in range(8)],
        [1.0 + 0.1 * s for s in range(8)],
        [2.0 + 0.1 * s for s in range(8)],
    ]
    one = compared(table)
    assert one.values.shape == (3, 8)
    np.testing.assert_allclose(one.ranks, [3, 2, 1])
    assert one.p == pytest.approx(6.0**-7)
    assert one.leaders == [2]
    assert one.needed is None
    assert one.difference(2, 1) == pytest.approx((1.0, 1.0, 1.0))
    text = hw.reports.verdict(study(table), {"m": True})
    assert "; a=3 is the best; 4 diverged, counted as the worst" in text
    assert "0.00" not in text.partition("(")[2].partition(")")[0]


def test_the_best_of_many_alike_is_no_better_where_it_was_not_looked_for():
    """The winner's curse: 12 weightings that are the same, six seeds, 300 studies."""
    tables = np.random.default_rng(0).normal(size=(300, 12, 6))
    means = tables.mean(axis=2)
    looked_for = np.mean(means.max(axis=1) - means.min(axis=1))
    held_out = np.array([_intervals.held_out(table).mean() for table in tables])
    assert looked_for > 1.2
    assert abs(held_out.mean()) < 3 * held_out.std() / np.sqrt(300)
    # Where one is better by 2 it is found, and by how much is told.
    tables[:, 0] -= 2.0
    tables[:, 1] += 2.0
    held_out = np.array([_intervals.held_out(table).mean() for table in tables])
    assert held_out.mean() == pytest.approx(4.0, abs=0.1)


def test_none_is_called_the_best_of_what_is_alike_more_often_than_the_level():
    tables = np.random.default_rng(1).normal(size=(200, 4, 9))
    named = sum(len(_ranks.leaders(table, 0.05)) == 1 for table in tables)
    assert named <= 0.05 * 200
    # The true best is left among the leaders, and found where it is clearly best.
    tables[:, 2] -= 0.5
    kept = sum(2 in _ranks.leaders(table, 0.05) for table in tables)
    assert kept >= 0.95 * 200
    tables[:, 2] -= 3.0
    assert sum(_ranks.leaders(t, 0.05) == [2] for t in tables) >= 0.95 * 200


@pytest.mark.parametrize("shift", [0.0, 0.4, 2.0])
def test_few_seeds_of_many_weightings_leave_the_true_best_in(shift):
    """Nemenyi's part: 12 weightings, the first better by a shift, four seeds."""
    tables = np.random.default_rng(2).normal(size=(300, 12, 4))
    tables[:, 0] -= shift
    kept = np.mean([0 in _ranks.leaders(table, 0.05) for table in tables])
    assert kept >= 0.95
    # What is far behind is out, though four seeds are too few for a pair alone.
    tables[:, 11] += 6.0
    assert np.mean([11 in _ranks.leaders(table, 0.05) for table in tables]) < 0.5


def test_three_seeds_name_no_best():
    """By Nemenyi's critical differences 1.91 and 6.94 of mean ranks 1, 2, 3, ..."""
    for rows, left in ((2, 2), (3, 2), (9, 7)):
        table = np.arange(rows)[:, None] + 0.01 * np.arange(3)
        leaders = compared(table).leaders
        assert leaders == [*range(rows - 1, rows - 1 - left, -1)]
    # Nine in one order: 2 / 2^n is below 0.05 / 8 with nine seeds.
    assert compared(table).needed == 9
    table = np.arange(9)[:, None] + 0.01 * np.arange(9)
    assert compared(table).leaders == [8]


def test_how_many_seeds_would_show_a_difference():
    """Ranks 1 2 3, 1 2 3, 1 3 2, 3 1 2: sums 6, 8, 10, so chi² = 2."""
    table = np.array([[1, 1, 1, 3], [2, 2, 3, 1], [3, 3, 2, 2]], float)
    one = compared(table, more=False)
    # Mean correlation (2 / 2 - 1) / 3 = 0: nobody can say.
    assert one.p > 0.05
    assert one.needed is None
    table[:, 3] = [2, 1, 3]  # sums 5, 8, 11, chi² = 4.5: (4.5 / 2 - 1) / 3 = 5 / 12
    one = compared(table, more=False)
    # 1 + (5.991 / 2 - 1) / (5 / 12) = 5.79
    assert one.needed == 6
    text = hw.reports.verdict(study(table), {"m": False})
    assert text.startswith("m: no difference shown (p = 0.12; about 2 more seeds could")


def test_p_is_corrected_for_all_metrics_that_could_show_something():
    """Two weightings, six seeds: p = 2 / 2^6 alone, but not the best of five."""
    rng = np.random.default_rng(5)
    noise = rng.permutation(6) - 2.4
    table = [[0.0] * 6, [1.0 + 0.1 * s for s in range(6)]]
    flat = {f"n{k}": lambda i, s: i * noise[s] for k in range(4)}
    records = study(table, **flat)
    higher = dict.fromkeys(["m", *flat], True)
    alone = hw.reports.verdict(records, {"m": True})
    assert "m: the weights matter (p = 0.03)" in alone
    lines = hw.reports.verdict(records, higher).splitlines()
    assert lines[0].startswith("m: no difference shown (p = 0.16")  # 5 * 2 / 2^6
    assert lines[-1] == "(p is corrected for 5 metrics)"
    # Those with too few seeds cannot show anything, and cost the others nothing.
    for record in records:
        if record["seed"]:
            record["metrics"] = {"m": record["metrics"]["m"]}
    lines = hw.reports.verdict(records, higher).splitlines()
    assert lines[0].startswith("m: the weights matter (p = 0.03)")
    assert "too few seeds to tell" in lines[1]
    assert len(lines) == 5


def test_nothing_to_compare():
    one = compared([[1.0, 2.0]])
    assert np.isnan([one.p, one.adjusted]).all()
    assert (one.critical, one.needed, one.least) == (INF, None, 1.0)
    one = hw.reports.compare(study([[None] * 3] * 2), {"m": True})["m"]
    assert one.p == 1.0
    apart = [
        r for r in study([[1.0] * 4] * 2) if r["seed"] // 2 + 1 == r["weights"]["a"]
    ]
    one = hw.reports.compare(apart, {"m": True})["m"]
    assert one.values.shape == (2, 0)
    assert np.isnan(one.held_out()).all()
