"""`linear_program` against scipy's HiGHS on random problems of many shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import headwise as hw

SHAPES = [(2, 2), (3, 5), (6, 4), (12, 10), (18, 16), (34, 32), (66, 64)]
solve = jax.jit(hw.solvers.linear_program)
solve_many = jax.jit(jax.vmap(hw.solvers.linear_program))


def make_bounded(rng, rows, columns):
    """Feasible at 0 and bounded: positive entries somewhere in every column."""
    a = rng.normal(size=(rows, columns))
    a[0] = rng.uniform(0.1, 1.0, columns)
    return rng.normal(size=columns), a, rng.uniform(0.1, 1.0, rows)


def make_two_phases(rng, rows, columns):
    """Feasible at a random point, 0 is not."""
    a = rng.normal(size=(rows, columns))
    a[0] = rng.uniform(0.1, 1.0, columns)
    point = rng.uniform(size=columns)
    return rng.normal(size=columns), a, a @ point + rng.uniform(0.0, 0.5, rows)


def make_simplex(rng, rows, columns):
    """The problem of EPO: α on the simplex with C α >= part of what is possible."""
    jacobian = rng.normal(size=(columns, columns + 2))
    gram = jacobian @ jacobian.T
    feasible = rng.dirichlet(np.ones(columns))
    lower = gram @ feasible - rng.uniform(0.0, 1.0, columns)
    one = np.ones((1, columns))
    a = np.concatenate([one, -one, -gram])
    return gram @ rng.normal(size=columns), a, np.concatenate([[1.0, -1.0], -lower])


def make_degenerate(rng, rows, columns):
    """Many corners are one point."""
    a = rng.integers(-2, 3, size=(rows, columns)).astype(float)
    a[0] = 1.0
    b = np.zeros(rows)
    b[0] = 1.0
    return rng.integers(-2, 3, size=columns).astype(float), a, b


SAMPLERS = {
    f.__name__[5:]: f
    for f in (make_bounded, make_two_phases, make_simplex, make_degenerate)
}


@functools.cache
def sample(kind, shape, number=16):
    rng = np.random.default_rng([*shape, len(kind)])
    problems = [SAMPLERS[kind](rng, *shape) for _ in range(number)]
    return tuple(np.float32(np.stack(x)) for x in zip(*problems))


def reference(c, a, b):
    c, a, b = (np.float64(x) for x in (c, a, b))
    return optimize.linprog(-c, A_ub=a, b_ub=b, method="highs")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SAMPLERS)
def test_as_good_as_the_float64_solution(kind, shape):
    problems = sample(kind, shape)
    xs, solved = jax.tree.map(np.asarray, solve_many(*problems))
    assert (xs >= 0).all()
    for k, (c, a, b) in enumerate(zip(*problems)):
        want = reference(c, a, b)
        if want.status == 2:  # float32 rounding can make a problem infeasible
            continue
        assert want.status == 0
        assert solved[k]
        x = np.float64(xs[k])
        sizes = np.abs(a) @ np.maximum(x, np.abs(want.x)) + np.abs(b)
        # More where corners had to be told apart by moving the bounds.
        tolerance = 1e-3 if kind == "degenerate" else 2e-5
        assert (a @ x - b <= tolerance * sizes).all()
        got = np.float64(c) @ x
        size = np.abs(c) @ np.abs(want.x) + np.abs(c) @ x
        assert abs(got + want.fun) <= 1e-3 * size + 1e-12


@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1e10, 1e20])
@pytest.mark.parametrize("what", ["objective", "matrix", "bound"])
def test_units_change_nothing(scale, what):
    c, a, b = sample("two_phases", (6, 4))
    s = np.float32(scale)
    x = {
        "objective": lambda: solve_many(c * s, a, b)[0],
        "matrix": lambda: solve_many(c, a * s, b)[0] * s,
        "bound": lambda: solve_many(c, a, b * s)[0] / s,
    }[what]()
    np.testing.assert_allclose(x, solve_many(c, a, b)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (12, 10), (34, 32)])
def test_units_of_rows_and_columns(shape):
    """Over twelve decades; HiGHS itself does not hold there, so no reference."""
    c, a, b = sample("two_phases", shape)
    rng = np.random.default_rng(0)
    up, across = (10.0 ** rng.uniform(-6, 6, n).astype(np.float32) for n in shape)
    x, solved = solve_many(c * across, a * up[:, None] * across[None, :], b * up)
    assert np.asarray(solved).all()
    want, _ = solve_many(c, a, b)
    got, want = np.float64(x) * across, np.float64(want)
    value = np.sum(c * want, axis=1)
    size = np.sum(np.abs(c) * want, axis=1)
    assert (np.abs(np.sum(c * got, axis=1) - value) <= 1e-3 * size).all()


def test_float64():
    problems = sample("two_phases", (18, 16))
    with jax.enable_x64(True):
        wide = [np.float64(x) for x in problems]
        xs, solved = jax.jit(jax.vmap(hw.solvers.linear_program))(*wide)
        assert xs.dtype == np.float64
        assert np.asarray(solved).all()
        for x, c, a, b in zip(np.asarray(xs), *wide):
            np.testing.assert_allclose(c @ x, -reference(c, a, b).fun, rtol=1e-10)


def test_rows_without_bound_do_not_count():
    c, a, b = sample("two_phases", (6, 4))
    more = np.concatenate([a, 1e6 * np.ones((16, 2, 4))], axis=1).astype(np.float32)
    inf = np.concatenate([b, np.full((16, 2), np.inf)], axis=1).astype(np.float32)
    got, want = solve_many(c, more, inf), solve_many(c, a, b)
    assert np.asarray(got[1]).all()
    np.testing.assert_allclose(got[0], want[0], rtol=1e-4, atol=1e-6)


def test_infeasible_breaks_the_rows_least():
    # x <= 1 and x >= 3: the middle, with a largest violation of 1.
    a, b = jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -3.0])
    x, solved = solve(jnp.array([5.0]), a, b)
    assert not solved
    np.testing.assert_allclose(x, [2.0], rtol=1e-5)


def test_without_an_upper_limit():
    rows = np.zeros((3, 2), np.float32)
    rows[0, 0] = 1.0
    x, solved = solve(np.ones(2, np.float32), rows, np.ones(3, np.float32))
    assert not solved
    assert np.isfinite(x).all()


@pytest.mark.parametrize("b", [1.0, 0.0, -1.0])
def test_nothing_but_zeros(b):
    x, solved = solve(
        *(np.float32(a) for a in (np.zeros(2), np.zeros((3, 2)), [b] * 3))
    )
    np.testing.assert_array_equal(x, 0.0)
    assert bool(solved) == (b >= 0)


def test_no_cycle():
    """Beale's problem, on which the steepest column alone goes round in circles."""
    c = jnp.array([0.75, -150.0, 0.02, -6.0])
    a = jnp.array(
        [[0.25, -60.0, -0.04, 9.0], [0.5, -90.0, -0.02, 3.0], [0.0, 0.0, 1.0, 0.0]]
    )
    x, solved = solve(c, a, jnp.array([0.0, 0.0, 1.0]))
    assert solved
    np.testing.assert_allclose(c @ x, 0.05, rtol=1e-4)


def test_misuse_is_named():
    with pytest.raises(ValueError, match=r"matrix: expected \[M, N\], got shape \(2,"):
        hw.solvers.linear_program(jnp.ones(2), jnp.ones(2), jnp.ones(2))
    with pytest.raises(ValueError, match=r"objective: expected shape \(3,\)"):
        hw.solvers.linear_program(jnp.ones(2), jnp.ones((2, 3)), jnp.ones(2))
    with pytest.raises(ValueError, match=r"bound: expected shape \(2,\)"):
        hw.solvers.linear_program(jnp.ones(3), jnp.ones((2, 3)), jnp.ones(3))
