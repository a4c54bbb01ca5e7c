"""`fair`: the equations it solves, edges and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

import headwise as hw
from tests.solvers._samples import sample
from tests.solvers._samples import SAMPLERS

EPS = float(np.finfo(np.float32).eps)
ALPHAS = (0.2, 0.5, 1.0, 2.0, 5.0)

solve = jax.jit(jax.vmap(hw.solvers.fair, (0, None)))
solve_one = jax.jit(hw.solvers.fair)


def residual(gram, w, alpha):
    """|gram w - w^(-1/α)| in units of EPS of what is summed for each head."""
    w = np.float64(w)
    lengths = np.sqrt(np.einsum("kii->ki", gram))
    size = lengths * np.sum(w * lengths, axis=1, keepdims=True)
    return np.abs(np.einsum("kij,kj->ki", gram, w) - w ** (-1 / alpha)) / size / EPS


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 16, 64])
@pytest.mark.parametrize("kind", ["gauss", "scaled", "correlated", "duplicate"])
def test_solves_its_equations(kind, heads):
    if heads == 1 and kind == "duplicate":
        pytest.skip("two heads at least")
    gram = sample(kind, heads)
    for alpha in ALPHAS:
        w = np.asarray(solve(np.float32(gram), alpha))
        assert (w > 0).all()
        # The ridge is 25; rounding of w counts 1 / α times.
        worst = residual(gram, w, alpha).max()
        assert worst <= 30 + 3 / alpha, alpha


@pytest.mark.parametrize("kind", ["conflicting", "stationary"])
def test_bounded_where_there_is_no_solution(kind):
    """Large positive weights whose sum is small for them."""
    for heads in (3, 8):
        gram = sample(kind, heads)
        for alpha in ALPHAS:
            w = np.asarray(solve(np.float32(gram), alpha), np.float64)
            assert np.isfinite(w).all()
            assert (w > 0).all()
            squared = np.einsum("ki,kij,kj->k", w, gram, w)
            lengths = np.sqrt(np.einsum("kii->ki", gram))
            size = np.sum(w * lengths, axis=1)
            if kind == "stationary" and alpha <= 2:
                assert (squared <= 1e-4 * size**2).all()


@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1e10, 1e20])
def test_scale(scale):
    """w(s G) = s^(-α / (1 + α)) w(G)."""
    gram = sample("gauss", 3)
    for alpha in ALPHAS:
        got = solve(np.float32(gram * scale), alpha)
        want = solve(np.float32(gram), alpha)
        factor = scale ** (-alpha / (1 + alpha))
        np.testing.assert_allclose(got / factor, want, rtol=2e-5)


def test_closed_forms():
    lengths = np.array([0.01, 1.0, 30.0])
    gram = jnp.asarray(np.diag(lengths**2), jnp.float32)
    for alpha in ALPHAS:  # |g|² w = w^(-1/α)
        expected = lengths ** (-2 * alpha / (1 + alpha))
        # 25 EPS by the ridge.
        np.testing.assert_allclose(solve_one(gram, alpha), expected, rtol=4e-6)
    equal = jnp.ones((3, 3))  # 3 w = 1 / w
    np.testing.assert_allclose(solve_one(equal, 1.0), 3**-0.5, rtol=4e-6)


def test_a_zero_gradient_has_no_part():
    gram = np.zeros((3, 3), np.float32)
    rest = np.float32([[2.0, 0.5], [0.5, 1.0]])
    gram[np.ix_([0, 2], [0, 2])] = rest
    w = solve_one(gram, 1.0)
    assert w[1] == 0
    np.testing.assert_allclose(w[np.array([0, 2])], solve_one(rest, 1.0), rtol=1e-6)
    np.testing.assert_array_equal(solve_one(np.zeros((3, 3), np.float32), 1.0), 0)


def test_vmap_is_a_loop():
    gram = np.float32(sample("scaled", 3)[:6])
    got = solve(gram, 1.0)
    for k in range(6):
        np.testing.assert_allclose(solve_one(gram[k], 1.0), got[k], rtol=1e-5)


def test_derivatives_and_float64():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 9))
    gram = rows @ rows.T
    with jax.enable_x64(True):

        @jax.jit
        def answer(factor, alpha):
            return hw.solvers.fair(factor @ factor.T, alpha)

        for alpha in (0.5, 1.0, 2.0):
            w = np.asarray(answer(rows, alpha))
            assert w.dtype == np.float64
            np.testing.assert_allclose(gram @ w, w ** (-1 / alpha), rtol=1e-12)
            test_util.check_grads(
                answer, (rows, alpha), 1, ["fwd", "rev"], rtol=1e-6, atol=1e-6
            )


def test_the_default_is_the_bargaining_solution():
    gram = np.float32(sample("gauss", 3)[0])
    np.testing.assert_array_equal(jax.jit(hw.solvers.fair)(gram), solve_one(gram, 1.0))


def test_every_kind_is_met():
    kinds = {"gauss", "scaled", "correlated", "duplicate", "conflicting", "stationary"}
    assert kinds == set(SAMPLERS)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
def test_not_square(shape):
    with pytest.raises(ValueError, match=r"gram: expected \[H, H\], got shape"):
        hw.solvers.fair(jnp.ones(shape))


def test_a_singular_hessian_ends_the_search():
    """Outside of jit this one met an infinite step in its last round."""
    gram = np.float32(sample("conflicting", 8)[19])
    w = np.asarray(hw.solvers.fair(gram, 5.0), np.float64)
    assert np.isfinite(w).all()
    assert (w > 0).all()
