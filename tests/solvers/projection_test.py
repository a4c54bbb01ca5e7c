"""`project_simplex` against quadprog and its conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadprog
from jax import test_util

import headwise as hw

EPS = float(np.finfo(np.float32).eps)
project = jax.jit(jax.vmap(hw.solvers.project_simplex))


def reference(point):
    heads = len(point)
    constraints = np.vstack([np.ones(heads), np.eye(heads)]).T
    right = np.concatenate([[1.0], np.zeros(heads)])
    # Moved by a constant, which changes nothing: quadprog loses digits in large ones.
    return quadprog.solve_qp(np.eye(heads), point - point.max(), constraints, right, 1)[
        0
    ]


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0])
def test_nearest_point(heads, spread):
    rng = np.random.default_rng(heads)
    point = np.float32(
        spread * rng.normal(size=(100, heads)) + rng.normal(size=(100, 1))
    )
    w = np.asarray(project(point, np.ones((100, heads), bool)))
    expected = np.stack([reference(p) for p in np.float64(point)])
    assert (w >= 0).all()
    np.testing.assert_allclose(w, expected, atol=2e-6)  # sums of up to 64 entries
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("size", [1e8, -1e8, 1e20])
def test_large_entries(size):
    """What they have in common is taken off first."""
    point = np.float32([[size, size, size], [size, 0, 0], [0, size, -size]])
    w = project(point, np.ones((3, 3), bool))
    expected = [reference(p) for p in np.float64(point)]
    if size == 1e20:
        expected = [[1 / 3] * 3, [1, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(w, expected, atol=1e-6)


def test_absent_entries_do_not_count():
    rng = np.random.default_rng(0)
    point = np.float32(rng.normal(size=(40, 4)))
    present = rng.uniform(size=(40, 4)) < 0.6
    present[0], present[1] = False, [True, False, False, False]
    given = np.where(present, point, np.nan)
    w = np.asarray(project(given, present))
    one = jax.jit(hw.solvers.project_simplex)
    for k, (p, here) in enumerate(zip(point, present)):
        np.testing.assert_array_equal(w[k][~here], 0)
        if here.any():
            np.testing.assert_allclose(
                w[k][here], reference(np.float64(p[here])), atol=1e-6
            )
            np.testing.assert_allclose(one(given[k], here), w[k], atol=1e-7)
    np.testing.assert_array_equal(w[0], 0)
    np.testing.assert_array_equal(w[1], [1, 0, 0, 0])


def test_points_of_the_simplex_stay():
    rng = np.random.default_rng(1)
    point = np.float32(rng.dirichlet(np.ones(5), size=50))
    w = project(point, np.ones((50, 5), bool))
    np.testing.assert_allclose(w, point, atol=4 * EPS)


def test_derivatives_and_float64():
    point = np.array([0.3, -1.0, 0.6, 0.2])
    with jax.enable_x64(True):
        w = hw.solvers.project_simplex(jnp.asarray(point))
        np.testing.assert_allclose(w, reference(point), atol=1e-14)
        test_util.check_grads(
            jax.jit(hw.solvers.project_simplex), (point,), 1, ["fwd", "rev"], rtol=1e-8
        )
