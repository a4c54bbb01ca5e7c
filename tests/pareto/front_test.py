"""Fronts against brute force, hypervolumes and drops by hand."""

import time

import numpy as np
import pytest

import headwise as hw


def on_front(points, higher):
    """By the definition, in plain Python."""
    rows = [
        [-x if up else x for x, up in zip(row, higher, strict=True)] for row in points
    ]

    def beats(a, b):
        return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))

    whole = [not any(x != x for x in row) for row in rows]
    return [
        fine and not any(ok and beats(other, row) for other, ok in zip(rows, whole))
        for row, fine in zip(rows, whole)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_front_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    objectives = int(rng.integers(1, 5))
    # Few integers, so that there are ties and duplicates.
    points = rng.integers(0, 4, size=(30, objectives)).astype(float)
    points[rng.random(points.shape) < 0.05] = np.nan
    points[rng.random(points.shape) < 0.03] = np.inf
    higher = [bool(flag) for flag in rng.integers(0, 2, size=objectives)]
    np.testing.assert_array_equal(
        hw.pareto.front(points, higher), on_front(points.tolist(), higher)
    )


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_front_of_more_than_a_block_against_all_pairs(objectives):
    """Random, tied and all-on-the-front points, many times what is compared at once."""
    rng = np.random.default_rng(objectives)
    simplex = rng.dirichlet(np.ones(objectives), 700)  # nobody beats anybody
    for points in (
        rng.normal(size=(700, objectives)),
        rng.integers(0, 6, (700, objectives)).astype(float),
        np.round(np.concatenate([simplex[:350], simplex[:350]]), 3),
        np.where(rng.random((700, objectives)) < 0.1, np.inf, simplex),
    ):
        points[rng.random(points.shape) < 0.01] = np.nan
        points[rng.random(points.shape) < 0.01] = -0.0
        whole = ~np.isnan(points).any(axis=1)
        no_worse = (points[:, None] <= points).all(axis=2)
        better = (points[:, None] < points).any(axis=2)
        beaten = (no_worse & better & whole[:, None]).any(axis=0)
        np.testing.assert_array_equal(hw.pareto.front(points), whole & ~beaten)


def test_front_of_many_points_is_quick():
    """20,000 points compared with one another took 22 s and N² memory."""
    points = np.random.default_rng(0).dirichlet(np.ones(2), 20_000)
    assert hw.pareto.front(points).all()
    start = time.process_time()  # what others take of the machine does not count
    points = np.random.default_rng(0).normal(size=(20_000, 4))
    assert hw.pareto.front(points).sum() > 100
    assert time.process_time() - start < 10.0


def test_front_edges():
    assert hw.pareto.front([[2, 1], [2, 1], [3, 1]]).tolist() == [True, True, False]
    assert hw.pareto.front([[1, 4], [4, 1], [0, 0]], True).tolist() == [
        True,
        True,
        False,
    ]
    assert hw.pareto.front([[np.nan, 0], [1, 1]]).tolist() == [False, True]
    assert hw.pareto.front(np.zeros((0, 3))).tolist() == []
    assert hw.pareto.front([[7.0]]).tolist() == [True]
    assert hw.pareto.front(np.zeros((3, 0))).tolist() == [True] * 3
    assert hw.pareto.front([[np.inf, np.inf]]).tolist() == [True]
    assert hw.pareto.front(np.full((2, 3), np.nan)).tolist() == [False, False]


@pytest.mark.parametrize("higher", [[True], [True, False], [[True, False, True]]])
def test_front_names_wrong_flags(higher):
    with pytest.raises(ValueError, match="higher: expected 3 flags"):
        hw.pareto.front([[1, 2, 3]], higher)


@pytest.mark.parametrize("higher", [0.5, [True, 1, False], "yes"])
def test_front_takes_no_numbers_for_flags(higher):
    with pytest.raises(TypeError, match="higher: expected True or False"):
        hw.pareto.front([[1, 2, 3]], higher)


@pytest.mark.parametrize("points", [[1, 2], 3.0, [[[1, 2]]]])
def test_points_must_be_a_table(points):
    with pytest.raises(ValueError, match=r"points: expected \[N, M\], got shape"):
        hw.pareto.front(points)
    with pytest.raises(ValueError, match=r"points: expected \[N, M\], got shape"):
        hw.pareto.hypervolume(points, [1, 1])


@pytest.mark.parametrize(
    ("points", "reference", "volume"),
    [
        ([[1, 2], [2, 1]], [3, 3], 3.0),
        ([[1, 2], [2, 1], [2, 2], [1, 2]], [3, 3], 3.0),  # beaten, and twice
        ([[0, 0]], [2, 5], 10.0),
        ([[3, 1], [1, 3], [4, 4]], [3, 3], 0.0),  # on the border or beyond
        ([[0, 0, 0], [1, -1, 0]], [2, 2, 2], 10.0),  # 8 + 1 * 3 * 2 - 1 * 2 * 2
        ([[1.5]], [4.0], 2.5),
    ],
)
def test_hypervolume_by_hand(points, reference, volume):
    assert hw.pareto.hypervolume(points, reference) == pytest.approx(volume, abs=1e-12)


def test_hypervolume_against_counting_cells():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 5, size=(8, 3))
    cells = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    covered = (points[:, None] <= cells[None]).all(axis=2).any(axis=0).sum()
    assert hw.pareto.hypervolume(points, [5, 5, 5]) == pytest.approx(covered)


def test_hypervolume_names_a_wrong_reference():
    with pytest.raises(ValueError, match="reference: expected 2 entries, got shape"):
        hw.pareto.hypervolume([[1, 2]], [3, 3, 3])


# A table as papers print it: segmentation and depth, two metrics each.
BASELINE = {"miou": 38.30, "pixacc": 63.76, "abserr": 0.6754, "relerr": 0.2780}
MODEL = {"miou": 39.29, "pixacc": 65.33, "abserr": 0.5493, "relerr": 0.2263}
HIGHER = {"miou": True, "pixacc": True, "abserr": False, "relerr": False}


def test_delta_m():
    # By hand: -2.585 %, -2.462 %, -18.670 %, -18.597 %; the mean is a gain.
    got = hw.pareto.delta_m(MODEL, BASELINE, HIGHER)
    assert got == pytest.approx(-10.579, abs=2e-3)
    assert hw.pareto.delta_m(BASELINE, BASELINE, HIGHER) == 0.0
    # A negative metric: from -2 to -1, more is better, is a gain of half.
    assert hw.pareto.delta_m({"r": -1.0}, {"r": -2.0}, {"r": True}) == -50.0


def test_delta_m_does_not_depend_on_the_order():
    reordered = dict(reversed(BASELINE.items()))
    assert hw.pareto.delta_m(MODEL, reordered, HIGHER) == hw.pareto.delta_m(
        MODEL, BASELINE, dict(reversed(HIGHER.items()))
    )


@pytest.mark.parametrize(
    ("baseline", "higher", "words"),
    [
        ({"a": 1.0}, {"a": True, "b": True}, "baseline: .*missing .'b'"),
        ({"a": 1.0, "b": 1.0}, {"a": True, "c": True}, "higher: .*unknown .'c'"),
        ({"a": 1.0, "b": 0.0}, {"a": True, "b": True}, "baseline..b.*0"),
    ],
)
def test_delta_m_names_misuse(baseline, higher, words):
    with pytest.raises(ValueError, match=words):
        hw.pareto.delta_m({"a": 1.0, "b": 2.0}, baseline, higher)


def test_delta_m_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="metrics: expected one or more, got none"):
        hw.pareto.delta_m({}, {}, {})
    with pytest.raises(TypeError, match="baseline: expected a dict by name of metric"):
        hw.pareto.delta_m({"a": 1.0}, [1.0], {"a": True})
    with pytest.raises(TypeError, match=r"higher.*a.*: expected True or False, got 1"):
        hw.pareto.delta_m({"a": 1.0}, {"a": 1.0}, {"a": 1})
