"""Ranks, volumes, landmarks, distances and surfaces: brute force, moocore, by hand."""

import itertools

import jax
import jax.numpy as jnp
import moocore
import numpy as np
import pytest

import headwise as hw


def drawn(seed, count, objectives, levels=None):
    """Points with and without ties."""
    rng = np.random.default_rng(seed)
    if levels:
        return rng.integers(0, levels, (count, objectives)).astype(float)
    return rng.random((count, objectives))


def peeled(points, higher):
    """Ranks by the definition: take the front away until nothing is left."""
    found, left, rank = np.full(len(points), -1), np.arange(len(points)), 0
    while len(left):
        first = hw.pareto.front(points[left], higher)
        found[left[first]], left, rank = rank, left[~first], rank + 1
    return found


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_ranks_against_moocore(objectives, levels):
    points = drawn(objectives, 40, objectives, levels)
    flags = [True, False, True][:objectives]
    costs = np.where(flags, -points, points)
    expected = moocore.pareto_rank(costs) if objectives > 1 else peeled(points, flags)
    np.testing.assert_array_equal(hw.pareto.ranks(points, flags), expected)
    # What diverged is behind all others.
    points[3] = np.nan
    ranks = hw.pareto.ranks(points, flags)
    assert ranks[3] == np.delete(ranks, 3).max() + 1
    assert hw.pareto.ranks([[np.nan]]).tolist() == [1]
    assert hw.pareto.ranks(np.zeros((0, 2))).tolist() == []


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_volumes_against_moocore(objectives, levels):
    points = drawn(objectives, 15, objectives, levels)
    at = np.full(objectives, 0.8 if levels is None else 4.0)
    expected = (
        moocore.hypervolume(points, ref=at) if objectives > 1 else at[0] - points.min()
    )
    assert hw.pareto.hypervolume(points, at) == pytest.approx(float(expected))
    flags = [True, False, True][:objectives]
    turned, corner = (np.where(flags, -x, x) for x in (points, at))
    assert hw.pareto.hypervolume(turned, corner, flags) == pytest.approx(
        float(expected)
    )
    traced = jax.jit(hw.pareto.hypervolume)(points, at)
    assert float(traced) == pytest.approx(float(expected), rel=1e-5)


def test_a_volume_of_four_objectives_is_traced_too():
    points = drawn(0, 6, 4)
    expected = moocore.hypervolume(points, ref=np.ones(4))
    traced = jax.jit(hw.pareto.hypervolume)(points, np.ones(4))
    assert float(traced) == pytest.approx(expected, rel=1e-5)


def test_volumes_of_whole_fronts():
    """ZDT1: 1.1² - 1 / 3; ZDT2: 1.1² - 2 / 3; steps of 1e-4 miss half a step."""
    x = np.linspace(0, 1, 10_001)
    zdt1, zdt2 = (np.stack([x, f], axis=1) for f in (1 - np.sqrt(x), 1 - x**2))
    assert hw.pareto.hypervolume(zdt1, [1.1, 1.1]) == pytest.approx(0.876667, abs=1e-4)
    assert hw.pareto.hypervolume(zdt2, [1.1, 1.1]) == pytest.approx(0.543333, abs=1e-4)


def test_what_does_not_count_for_the_volume():
    nan, inf = np.nan, np.inf
    points = [[1.0, 2.0], [nan, 0.0], [0.0, nan], [inf, 0.0], [3.0, 0.0], [1.0, 2.5]]
    assert hw.pareto.hypervolume(points, [3, 3]) == 2.0
    assert hw.pareto.hypervolume([[nan, 0]], [3, 3]) == 0.0
    assert hw.pareto.hypervolume(np.zeros((0, 2)), [3, 3]) == 0.0
    assert hw.pareto.hypervolume([[-inf, 0]], [3, 3]) == inf
    with pytest.raises(ValueError, match="reference: expected finite numbers, got"):
        hw.pareto.hypervolume([[1, 2]], [3, inf])
    with pytest.raises(ValueError, match="reference: expected 2 entries, got shape"):
        jax.grad(hw.pareto.hypervolume)(jnp.ones((1, 2)), [3.0])
    with pytest.raises(
        ValueError, match=r"points: expected \[N, M\], got shape \(2,\)"
    ):
        jax.grad(hw.pareto.hypervolume)(jnp.ones(2), [3.0, 3.0])


@pytest.mark.parametrize(
    ("points", "slopes"),
    [
        ([[1, 3], [2, 2], [3, 1]], [[-1, -1]] * 3),  # 3 * 1 + 2 * 1 + 1 * 1 = 6
        ([[1, 3], [3, 1]], [[-1, -2], [-2, -1]]),
        ([[1, 1], [2, 2]], [[-3, -3], [0, 0]]),  # beaten
        ([[1, 1], [5, 0]], [[-3, -3], [0, 0]]),  # beyond the reference
    ],
)
def test_slopes_of_a_volume_by_hand(points, slopes):
    slope = jax.jit(jax.grad(hw.pareto.hypervolume))
    got = slope(jnp.array(points, float), jnp.full(2, 4.0))
    np.testing.assert_allclose(got, slopes)


@pytest.mark.parametrize("objectives", [2, 3])
def test_slopes_of_a_volume_against_differences_of_moocore(objectives):
    points, at = drawn(7, 6, objectives), np.full(objectives, 0.95)
    flags = (False, True, False)[:objectives]
    signs = np.where(flags, -1.0, 1.0)
    with jax.enable_x64(True):
        slope = jax.grad(lambda x: hw.pareto.hypervolume(x, at * signs, flags))
        got = jax.jit(slope)(points * signs)
    slopes = np.zeros_like(points)
    for place in np.ndindex(points.shape):
        step = np.zeros_like(points)
        step[place] = 1e-6
        high, low = (moocore.hypervolume(points + s * step, ref=at) for s in (1, -1))
        slopes[place] = (high - low) / 2e-6
    np.testing.assert_allclose(got, slopes * signs, atol=1e-8)
    assert np.any(slopes == 0)
    assert np.all(slopes <= 1e-12)


def test_ideal_and_nadir():
    points = np.array([[1, 9], [3, 5], [8, 1], [9, 9], [0, np.nan]])
    assert hw.pareto.ideal(points).tolist() == [1, 1]
    assert hw.pareto.nadir(points).tolist() == [8, 9]
    turned = points * [1, -1]
    assert hw.pareto.ideal(turned, [False, True]).tolist() == [1, -1]
    assert hw.pareto.nadir(turned, [False, True]).tolist() == [8, -9]
    for which in (hw.pareto.ideal, hw.pareto.nadir, hw.pareto.knee):
        with pytest.raises(ValueError, match="points: expected one or more, got shape"):
            which(np.zeros((0, 2)))
        with pytest.raises(ValueError, match="one or more without NaN, got 1 with it"):
            which([[np.nan, 1.0]])


def test_the_knee_is_farthest_from_the_line_between_the_ends():
    """sqrt f1 + sqrt f2 = 1 bends most where both are 1/4."""
    x = np.linspace(0, 1, 101)
    front = np.stack([x, (1 - np.sqrt(x)) ** 2], axis=1)
    assert hw.pareto.knee(front) == 25
    assert hw.pareto.knee(front * [-3, 50] + 7, [True, False]) == 25
    # By the distance from the line itself, of random fronts.
    for seed in range(5):
        x, y = drawn(seed, 30, 2).T
        points = np.stack([x, 1 - x + 0.2 * y], axis=1)
        members = np.flatnonzero(hw.pareto.front(points))
        ends = points[members[[points[members, i].argmin() for i in (0, 1)]]]
        scaled = (points - ends.min(axis=0)) / np.ptp(ends, axis=0)
        toward = 1 - scaled.sum(axis=1)  # times 1 / sqrt(2)
        assert hw.pareto.knee(points) == members[toward[members].argmax()]
    # A bulge has no knee between its ends; one point is its own.
    assert hw.pareto.knee([[0, 1], [0.8, 0.8], [1, 0]]) == 0
    assert hw.pareto.knee([[2, 2], [5, 5]]) == 0


def test_crowding_by_hand():
    inf = np.inf
    points = [[0, 10], [2, 6], [2, 6], [5, 5], [10, 0], [11, 11], [np.nan, 0]]
    # (5 - 0) / 10 + (10 - 5) / 10; twice is once; (10 - 2) / 10 + (6 - 0) / 10
    expected = [inf, 1.0, 0.0, 1.4, inf, inf, 0.0]
    np.testing.assert_allclose(hw.pareto.crowding(points), expected)
    turned = np.array(points) * [1, -1]
    np.testing.assert_allclose(hw.pareto.crowding(turned, [False, True]), expected)
    three = [[0, 0, 4], [1, 3, 1], [4, 4, 0], [2, 2, 2]]
    # f1: 0 1 2 4, f2: 0 2 3 4, f3: 0 1 2 4; the second (2 + 2 + 2) / 4, the last
    # (3 + 3 + 3) / 4
    np.testing.assert_allclose(hw.pareto.crowding(three), [inf, 1.5, inf, 2.25])


@pytest.mark.parametrize("objectives", [2, 3])
def test_distances_against_moocore(objectives):
    points, target = drawn(1, 9, objectives), drawn(2, 7, objectives) - 0.3
    flags = [objectives == 3, True, False][:objectives]
    for ours, theirs in (
        (hw.pareto.additive_epsilon, moocore.epsilon_additive),
        (hw.pareto.igd_plus, moocore.igd_plus),
    ):
        expected = theirs(points, ref=target, maximise=flags)
        assert ours(points, target, flags) == pytest.approx(expected)
        assert ours([*points, [np.nan] * objectives], target, flags) == ours(
            points, target, flags
        )
        assert ours(target, target, flags) == 0.0
        with pytest.raises(
            ValueError, match=r"target: expected \[R, 2\] as the points"
        ):
            ours([[1, 2]], [[1, 2, 3]])
        with pytest.raises(ValueError, match="target: expected one or more, got shape"):
            ours([[1, 2]], np.zeros((0, 2)))
    # Better than the target throughout: less than 0, as the definition says.
    assert hw.pareto.additive_epsilon([[0.0, 1.0]], [[2.0, 4.0]]) == -2.0


@pytest.mark.parametrize("objectives", [2, 3])
def test_surfaces_against_moocore_and_counting(objectives):
    runs = [drawn(seed, 6, objectives, 5) for seed in range(4)]
    sets = np.repeat(range(4), 6)
    cells = np.array([*itertools.product(range(5), repeat=objectives)], float)
    attained = np.array(
        [(run[:, None] <= cells).all(axis=2).any(axis=0) for run in runs]
    )
    for count in (1, 2, 3, 4):
        got = hw.pareto.attainment(runs, count / 4)
        theirs = moocore.eaf(np.concatenate(runs), sets, percentiles=[25 * count])
        np.testing.assert_array_equal(got, np.unique(theirs[:, :-1], axis=0))
        beneath = (got[:, None] <= cells).all(axis=2).any(axis=0)
        np.testing.assert_array_equal(beneath, attained.sum(axis=0) >= count)
    turned = [run * [-1, 1, -1][:objectives] for run in runs]
    flags = [True, False, True][:objectives]
    np.testing.assert_array_equal(
        hw.pareto.attainment(turned, 0.5, flags) * [-1, 1, -1][:objectives],
        hw.pareto.attainment(runs, 0.5),
    )


def test_runs_that_attain_nothing_count():
    run = [[1.0, 1.0], [np.nan, 0.0]]
    empty = np.zeros((0, 2))
    assert hw.pareto.attainment([run, empty], 0.5).tolist() == [[1, 1]]
    assert hw.pareto.attainment([run, empty], 0.6).shape == (0, 2)
    assert hw.pareto.attainment([empty], 1.0).shape == (0, 2)
    # 0.7 of ten runs are seven, whatever binary fractions make of it.
    ten = [[[float(i), float(i)]] for i in range(10)]
    assert hw.pareto.attainment(ten, 0.7).tolist() == [[6, 6]]
    assert hw.pareto.attainment([[[3.0]], [[1.0]]], 1.0).tolist() == [[3]]


@pytest.mark.parametrize(
    ("fronts", "share", "words"),
    [
        ([], 0.5, "fronts: expected one or more sets of points, got none"),
        ([[[1, 2]], [[1]]], 0.5, r"fronts\[1\]: expected \[N, 2\] as the others"),
        ([[1, 2]], 0.5, r"fronts\[0\]: expected \[N, M\], got shape \(2,\)"),
        ([[[1, 2]]], 0, r"share: expected a number in \(0, 1\]"),
    ],
)
def test_what_is_no_set_of_runs(fronts, share, words):
    with pytest.raises(ValueError, match=words):
        hw.pareto.attainment(fronts, share)


# NYUv2 as Navon et al. 2022 print it: linear scalarisation and single-task training.
NAMES = ("miou", "pixacc", "abserr", "relerr", "mean", "median", "11", "22", "30")
ALONE = (38.30, 63.76, 0.6754, 0.2780, 25.01, 19.21, 30.14, 57.20, 69.15)
EQUAL = (39.29, 65.33, 0.5493, 0.2263, 28.15, 23.96, 22.09, 47.50, 61.08)
BETTER = dict.fromkeys(NAMES, True) | dict.fromkeys(NAMES[2:6], False)
HEADS = {"seg": NAMES[:2], "depth": NAMES[2:4], "normals": NAMES[4:]}


def test_delta_m_of_published_tables():
    equal, alone = (dict(zip(NAMES, row, strict=True)) for row in (EQUAL, ALONE))
    drop = hw.pareto.delta_m(equal, alone, BETTER)
    assert drop == pytest.approx(5.59, abs=5e-3)  # as printed
    assert hw.pareto.delta_m(equal, alone, BETTER, sign="gain") == -drop
    # By hand, gains in percent: 2.524, 18.634 and -18.524, the mean of five.
    gain = hw.pareto.delta_m(equal, alone, BETTER, groups=HEADS, sign="gain")
    assert gain == pytest.approx((2.524 + 18.634 - 18.524) / 3, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sign": "up"}, ValueError, "sign: expected one of .*'gain'"),
        ({"groups": {"x": ["a"]}}, ValueError, r"groups: .*missing \['b'\]"),
        ({"groups": {"x": ["a", "b", "c"]}}, ValueError, r"groups: .*unknown \['c'\]"),
        ({"groups": {"x": ["a", "b"], "y": ["a"]}}, ValueError, r"\['a'\] twice"),
        (
            {"groups": {"x": ["a", "b"], "y": []}},
            ValueError,
            r"groups\['y'\]: expected",
        ),
        ({"groups": ["a", "b"]}, TypeError, "groups: expected {head: names of metrics"),
        ({"groups": {"x": "ab"}}, TypeError, r"groups\['x'\]: expected names of metri"),
    ],
)
def test_delta_m_names_wrong_groups(change, error, words):
    numbers = {"a": 1.0, "b": 2.0}
    with pytest.raises(error, match=words):
        hw.pareto.delta_m(numbers, numbers, {"a": True, "b": False}, **change)
