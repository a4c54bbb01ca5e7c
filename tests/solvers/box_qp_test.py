"""`box_qp` and `nonnegative_qp` against quadprog, optimality and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadprog

import headwise as hw
from tests import _derivatives
from tests.solvers._samples import SAMPLERS

EPS = float(np.finfo(np.float32).eps)
SIZES = (1, 2, 3, 8, 16, 64)
NUMBER = 60

solve = jax.jit(jax.vmap(hw.solvers.box_qp))
solve_one = jax.jit(hw.solvers.box_qp)
solve_nonnegative = jax.jit(jax.vmap(hw.solvers.nonnegative_qp))


@functools.cache
def sample(heads):
    """Gramians of all structures, with bounds: some infinite, some equal."""
    rng = np.random.default_rng(heads)
    kinds = ["gauss", "scaled", "correlated"] if heads == 1 else list(SAMPLERS)
    drawn = [kinds[i % len(kinds)] for i in range(NUMBER)]
    matrix = []
    for kind in drawn:
        j = SAMPLERS[kind](rng, heads)
        matrix.append(j @ j.T)
    matrix = np.stack(matrix)  # rounded to float32 it might be indefinite
    lengths = np.sqrt(np.einsum("kii->ki", matrix))
    # Points and bounds of the size of each variable, so that about a third is free.
    linear = np.einsum("kij,kj->ki", matrix, rng.normal(size=lengths.shape) / lengths)
    lower = -rng.uniform(0, 0.5, size=lengths.shape) / lengths
    upper = rng.uniform(0, 0.5, size=lengths.shape) / lengths
    odd = rng.uniform(size=lengths.shape)
    # Infinite ones where the matrix is definite: else the descent may have no end.
    definite = np.isin(drawn, ["gauss", "scaled", "correlated"])[:, None]
    lower = np.where(definite & (odd < 0.15), -np.inf, lower)
    upper = np.where(definite & (odd > 0.1) & (odd < 0.25), np.inf, upper)
    upper = np.where(odd > 0.9, lower, upper)
    return matrix, *(np.float64(np.float32(a)) for a in (linear, lower, upper))


@functools.cache
def solved(heads):
    arguments = [np.float32(a) for a in sample(heads)]
    return np.asarray(solve(*arguments), np.float64)


def reference(matrix, linear, lower, upper):
    """By Goldfarb and Idnani's dual method, in units of the diagonal."""
    lengths = np.sqrt(np.diagonal(matrix))
    identity = np.eye(len(matrix))
    unit = matrix / np.outer(lengths, lengths) + 1e-12 * identity
    low, high = np.isfinite(lower), np.isfinite(upper)
    constraints = np.concatenate([identity[low], -identity[high]]).T
    lower, upper = lower * lengths, upper * lengths
    upper = np.where(upper == lower, upper + 1e-9, upper)  # it wants an inside
    right = np.concatenate([lower[low], -upper[high]])
    if not right.size:
        return np.linalg.solve(unit, linear / lengths) / lengths
    return quadprog.solve_qp(unit, linear / lengths, constraints, right)[0] / lengths


def cost(matrix, linear, x):
    return x @ matrix @ x / 2 - linear @ x


@pytest.mark.parametrize("heads", SIZES)
def test_as_low_as_quadprog(heads):
    """The unit is the squared length of all that is summed: rounding is EPS of it."""
    for *problem, x in zip(*sample(heads), solved(heads)):
        matrix, linear, lower, upper = problem
        assert (lower <= x).all()
        assert (x <= upper).all()
        lengths = np.sqrt(np.diagonal(matrix))
        expected = reference(*problem)
        largest = np.abs(linear / lengths).max()
        size = np.sum(lengths * np.maximum(np.abs(x), np.abs(expected))) + largest
        excess = cost(matrix, linear, x) - cost(matrix, linear, expected)
        assert excess <= 20 * EPS * size**2
        assert excess >= -1e-6 * size**2  # quadprog's own, on bounds that it meets


@pytest.mark.parametrize("heads", SIZES)
def test_optimality(heads):
    """No slope where free; at a bound it points outwards."""
    matrix, linear, lower, upper = sample(heads)
    x = solved(heads)
    lengths = np.sqrt(np.einsum("kii->ki", matrix))
    slope = (np.einsum("kij,kj->ki", matrix, x) - linear) / lengths
    noise = np.sum(lengths * np.abs(x), axis=1, keepdims=True)
    noise = 60 * EPS * (noise + np.abs(linear) / lengths)
    near = 4 * EPS / lengths  # in units of its own, a bound may be rounded
    at_lower, at_upper = x <= lower + near, x >= upper - near
    assert (slope >= -noise)[~at_upper].all()
    assert (slope <= noise)[~at_lower].all()
    if heads > 2:
        for group in (at_lower, at_upper, ~at_lower & ~at_upper):
            assert 0.05 < group.mean() < 0.8  # all cases are met


@pytest.mark.parametrize("heads", [3])
def test_vmap_is_a_loop_and_scalar_bounds_broadcast(heads):
    arguments = [np.float32(a) for a in sample(heads)]
    for k in range(5):
        alone = solve_one(*(a[k] for a in arguments))
        lengths = np.sqrt(np.diagonal(arguments[0][k]))
        np.testing.assert_allclose(
            alone * lengths, solved(heads)[k] * lengths, rtol=1e-5, atol=1e-5
        )
    matrix, linear = (jnp.asarray(a[0]) for a in arguments[:2])
    bounds = jnp.zeros(heads), jnp.full(heads, jnp.inf)
    want = solve_one(matrix, linear, *bounds)
    np.testing.assert_array_equal(solve_one(matrix, linear, 0.0, jnp.inf), want)
    got = jax.jit(hw.solvers.nonnegative_qp)(matrix, linear)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("kind", ["conflicting", "stationary"])
def test_singular_programs_do_not_go_in_circles(kind):
    """The projection on the dual cone, of 4,000 sets of rows: none is left unsolved.

    Rounding led the search among nearly dependent rows in circles in one of 150 (by up
    to 0.3 of the length): <g_h, d> >= 0 up to a ridge of 25 EPS and what is summed.
    """
    rng = np.random.default_rng(0)
    rows = np.stack([SAMPLERS[kind](rng, 8) for _ in range(4000)])
    rows = np.float64(np.float32(rows))
    grams = rows @ rows.swapaxes(1, 2)
    mean = np.full(8, 1 / 8)
    v = np.asarray(solve_nonnegative(np.float32(grams), np.float32(-grams @ mean)))
    w = np.float64(v) + mean
    lengths = np.linalg.norm(rows, axis=2)
    size = np.sum(w * lengths, axis=1, keepdims=True)
    along = np.einsum("kij,kj->ki", grams, w)
    assert (v >= 0).all()
    assert (along >= -60 * EPS * lengths * size).all()
    # Complementary: a head is helped no further than needed, d -> |d|² being known to
    # some EPS of its size.
    helped = np.sum(v * along, axis=1, keepdims=True)
    assert (np.abs(helped) <= 60 * EPS * size**2).all()


def test_rows_of_zeros_go_where_their_linear_term_asks():
    matrix = np.zeros((6, 6), np.float32)
    matrix[0, 0] = 2.0
    linear = np.array([2.0, 1, -1, 0, 1, 0], np.float32)
    lower = np.array([0.0, -1, -2, 3, 0, -1], np.float32)
    upper = np.array([5.0, 4, 4, 5, np.inf, 1], np.float32)
    x = solve_one(matrix, linear, lower, upper)
    np.testing.assert_array_equal(x, [1, 4, -2, 3, 0, 0])


def test_equal_variables_get_equal_values():
    """Where only their sum is known, rounding would share it out at random."""
    for seed in range(20):
        heads, rng = (3, 6)[seed % 2], np.random.default_rng(seed)
        index = rng.permutation(np.arange(heads) % 2)
        unit = np.float32([[1.0, 0.3], [0.3, 2.0]])[np.ix_(index, index)]
        linear = np.float32([1.0, 1.5])[index]
        bounds = np.zeros(heads, np.float32), np.full(heads, 10, np.float32)
        x = np.asarray(solve_one(unit, linear, *bounds))
        for group in (0, 1):
            np.testing.assert_array_equal(x[index == group], x[index == group].max())
        np.testing.assert_allclose(unit @ x, linear, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1e10, 1e20])
def test_answers_the_same_in_every_unit(scale):
    """Of the cost, and of each variable."""
    matrix, linear, lower, upper = (a[:12] for a in sample(3))
    got = solve(
        *(np.float32(a) for a in (matrix * scale, linear * scale, lower, upper))
    )
    lengths = np.sqrt(np.einsum("kii->ki", matrix))
    # The matrix is rounded anew; two problems of 12 are almost singular.
    error = np.abs(got - solved(3)[:12]) * lengths
    assert np.median(error) <= 1e-6
    unit = np.sqrt(scale)
    got = solve(
        *(
            np.float32(a)
            for a in (matrix * scale, linear * unit, lower / unit, upper / unit)
        )
    )
    assert np.median(np.abs(got * unit - solved(3)[:12]) * lengths) <= 1e-6


def test_derivatives():
    """Of the answer with regard to everything, away from changes of the active set."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 9))
    gram = rows @ rows.T
    with jax.enable_x64(True):

        @jax.jit
        def answer(factor, linear, lower, upper):
            return hw.solvers.box_qp(factor @ factor.T, linear, lower, upper)

        inside = np.array([0.1, -0.2, 0.3, 0.4])
        linear = gram @ inside + [0.0, 0.0, 3.0, -2.0]
        bounds = np.full(4, -0.5), np.full(4, 0.5)
        x = answer(rows, linear, *bounds)
        free = (x > -0.5) & (x < 0.5)
        assert 0 < free.sum() < 4
        arguments = rows, linear, *bounds
        _derivatives.check(answer, arguments, 1, rtol=1e-6, atol=1e-6)


def test_float64_is_accurate():
    matrix, linear, lower, upper = sample(8)
    with jax.enable_x64(True):
        x = np.asarray(jax.jit(jax.vmap(hw.solvers.box_qp))(*sample(8)))
    assert x.dtype == np.float64
    kinds = list(SAMPLERS)
    for k in range(NUMBER):
        if kinds[k % len(kinds)] in ("gauss", "correlated"):
            expected = reference(matrix[k], linear[k], lower[k], upper[k])
            np.testing.assert_allclose(x[k], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize(
    "solver",
    [hw.solvers.nonnegative_qp, lambda q, c: hw.solvers.box_qp(q, c, 0.0, 1.0)],
)
def test_wrong_shapes_are_named(solver, shape):
    with pytest.raises(ValueError, match=r"matrix: expected \[H, H\], got shape"):
        solver(jnp.ones(shape), jnp.ones(2))
    with pytest.raises(ValueError, match=r"linear: expected shape \(2,\), got"):
        solver(jnp.eye(2), jnp.ones(shape))
