"""p against every arrangement counted out, published tables, and SciPy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from headwise.reports import _chance

INF = np.inf


def mean_ranks(column):
    """1 for the least; ties share the mean of their ranks. By counting."""
    column = np.asarray(column, float)
    return [np.sum(column < x) + (np.sum(column == x) + 1) / 2 for x in column]


def by_counting(table):
    """Friedman's p: all (rows!)^pairs tables, squares of rank sums."""
    columns = [mean_ranks(column) for column in np.transpose(table)]
    every = itertools.product(*(itertools.permutations(c) for c in columns))
    spread = np.array([np.sum(np.sum(orders, axis=0) ** 2) for orders in every])
    observed = np.sum(np.sum(columns, axis=0) ** 2)
    return np.mean(spread >= observed - 1e-9)


def by_signs(table):
    """The signed-rank test's p: all 2^pairs signs of the differences."""
    first, second = np.asarray(table, float)
    difference = [0.0 if a == b else a - b for a, b in zip(first, second, strict=True)]
    ranks = np.array(mean_ranks(np.abs(difference))) * (np.array(difference) != 0)
    sums = [
        abs(np.dot(s, ranks)) for s in itertools.product((-1, 1), repeat=len(ranks))
    ]
    observed = abs(np.dot(np.sign(difference), ranks))
    return np.mean(np.array(sums) >= observed - 1e-9)


@pytest.mark.parametrize(
    ("table", "p"),
    [
        # Friedman 1937, table V and later ones: chi²_r of 3 or 4 ranks, n = 2 to 4
        ([[1, 1, 1], [2, 2, 2], [3, 3, 3]], 0.028),
        ([[1, 1, 2], [2, 2, 1], [3, 3, 3]], 0.194),
        ([[1, 1, 1, 1], [2, 2, 2, 3], [3, 3, 3, 2]], 0.042),
        ([[1, 1], [2, 2], [3, 3], [4, 4]], 0.042),
        ([[1, 1], [2, 2], [3, 4], [4, 3]], 0.167),
        # Wilcoxon's table: six differences of one sign, 2 / 2^6
        ([[1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0]], 0.031),
    ],
)
def test_published_values(table, p):
    assert _chance.probability(np.array(table, float)) == pytest.approx(p, abs=5e-4)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(2, 7), (3, 4), (4, 3), (5, 2)])
def test_every_arrangement_counted_out(seed, shape):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 4 + 10 * (seed % 2), shape).astype(float)  # with ties
    table[rng.random(shape) < 0.1] = -INF  # diverged
    p = by_signs(table) if shape[0] == 2 else by_counting(table)
    p = max(p, 1 / math.factorial(shape[0]) ** (shape[1] - 1))
    assert _chance.probability(table) == pytest.approx(p, rel=1e-9)


def test_signed_ranks_agree_with_scipy():
    table = np.random.default_rng(0).normal(size=(2, 12)) + [[0.5], [0.0]]
    p = stats.wilcoxon(*table, method="exact").pvalue
    assert _chance.probability(table) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (4, 2), (8, 2), (12, 5)])
def test_the_least_p_is_that_of_one_order_throughout(shape):
    rows, pairs = shape
    one_order = np.arange(rows)[:, None] + 0.1 * np.arange(pairs)
    least = _chance.least(rows, pairs)
    assert least == pytest.approx(math.factorial(rows) ** -(pairs - 1.0))
    assert _chance.probability(one_order) == pytest.approx(least, rel=1e-6)


def test_pairs_that_can_decide():
    # (1 / k!)^(n - 1) < level: 1/32, 1/36, 1/24; 1/128, 1/216, 1/576
    needed = {0.05: [6, 3, 2, 2], 0.01: [8, 4, 3, 2]}
    for level, pairs in needed.items():
        assert [_chance.pairs_needed(k, level) for k in (2, 3, 4, 5)] == pairs
    assert _chance.least(60, 1) == 1.0
    assert _chance.least(60, 12) == 0.0


def test_beyond_counting_p_is_near(monkeypatch):
    """The beta distribution against all orders of four rows in eight pairs."""
    rng = np.random.default_rng(1)
    tables = rng.normal(size=(40, 4, 8)) + np.linspace(0, 0.7, 4)[:, None]
    exact = np.array([_chance.probability(table) for table in tables])
    monkeypatch.setattr(_chance, "_MOST", 0)
    near = np.array([_chance.probability(table) for table in tables])
    assert np.any(exact < 0.01)
    assert np.any(exact > 0.5)
    np.testing.assert_allclose(near, exact, atol=0.02)
    np.testing.assert_allclose(near[exact < 0.1], exact[exact < 0.1], atol=0.005)


def test_what_agrees_in_six_digits_is_equal():
    table = 0.3 + 1e-8 * np.arange(12.0).reshape(3, 4)
    assert _chance.probability(table) == 1.0
    assert _chance.probability(np.full((3, 4), -INF)) == 1.0


@pytest.mark.parametrize("shape", [(0,), (5,), (1, 1), (4, 7), (30, 3)])
def test_ranks_are_scipys(shape):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 4, size=shape).astype(float)
    table[rng.random(shape) < 0.1] = np.inf
    expected = np.rint(2 * stats.rankdata(table, axis=0))
    np.testing.assert_array_equal(_chance.twice_ranks(table), expected)
