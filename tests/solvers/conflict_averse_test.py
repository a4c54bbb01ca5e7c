"""`conflict_averse`: the dual certificate, edges and derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

import headwise as hw
from tests.solvers._samples import sample
from tests.solvers._samples import SAMPLERS

pytestmark = pytest.mark.optimized

EPS = float(np.finfo(np.float32).eps)
KINDS = tuple(SAMPLERS)

solve = jax.jit(jax.vmap(hw.solvers.conflict_averse))
solve_one = jax.jit(hw.solvers.conflict_averse)


@functools.cache
def problems(heads):
    """Gramians of all kinds, weights of a start, radii below the start's length."""
    rng = np.random.default_rng(heads)
    grams = np.concatenate([sample(kind, heads) for kind in KINDS])
    start = rng.dirichlet(np.ones(heads), size=len(grams))
    length = np.sqrt(np.einsum("ki,kij,kj->k", start, grams, start))
    return grams, start, length * rng.uniform(0, 0.95, size=len(grams))


def certificate(grams, start, radius, v):
    """How much more the upper bound is than what is reached, how far the ball is left.

    In units of rounding of a product of d with a gradient, and of the longest gradient.

    For w on the simplex wᵀG start + radius √(wᵀGw) bounds min_h <g_h, d> from above.
    """
    v = np.float64(v)
    lengths = np.sqrt(np.einsum("kii->ki", grams))
    largest = lengths.max(axis=1)
    size = np.sum((start + v) * lengths, axis=1)
    total = v.sum(axis=1, keepdims=True)
    w = np.where(total > 1e-6, v / np.where(total > 0, total, 1), start)
    along = np.sqrt(np.maximum(np.einsum("ki,kij,kj->k", w, grams, w), 0))
    bound = np.einsum("ki,kij,kj->k", w, grams, start) + radius * along
    reached = np.einsum("kij,kj->ki", grams, start + v).min(axis=1)
    length = np.sqrt(np.maximum(np.einsum("ki,kij,kj->k", v, grams, v), 0))
    return (bound - reached) / (EPS * size * largest), (length - radius) / largest


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 16, 64])
def test_no_duality_gap(heads):
    if heads == 1:
        grams = np.linspace(0.1, 4, 20)[:, None, None]
        start, radius = np.ones((20, 1)), 0.5 * np.sqrt(grams[:, 0, 0])
    else:
        grams, start, radius = problems(heads)
    v = solve(*(np.float32(a) for a in (grams, start, radius)))
    assert (v >= 0).all()
    gap, outside = certificate(grams, start, radius, v)
    assert (outside <= 2e-5).all()  # √: a length is known to less than its square
    assert (gap <= 16).all()
    # Outside of the ball more is reached than within.
    assert (gap >= -16 - 2 * np.maximum(outside, 0) / EPS).all()


def test_no_search_goes_in_circles():
    """4,000 sets of rows of rank two, the ball just reaching 0: all are solved."""
    rng = np.random.default_rng(0)
    rows = np.stack([SAMPLERS["conflicting"](rng, 8) for _ in range(4000)])
    rows = np.float64(np.float32(rows))
    grams, start = rows @ rows.swapaxes(1, 2), np.full((4000, 8), 1 / 8)
    radius = np.linalg.norm(rows.mean(axis=1), axis=1)
    v = solve(*(np.float32(a) for a in (grams, start, radius)))
    assert (v >= 0).all()
    gap, outside = certificate(grams, start, radius, v)
    assert (outside <= 1e-4).all()
    assert (gap <= 16).all()


@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1e10, 1e20])
def test_answers_the_same_at_every_scale(scale):
    grams, start, radius = (a[:20] for a in problems(3))  # gauss
    arguments = grams * scale, start, radius * np.sqrt(scale)
    got = solve(*(np.float32(a) for a in arguments))
    want = solve(*(np.float32(a) for a in (grams, start, radius)))
    np.testing.assert_allclose(got, want, atol=5e-5)  # the gramian is rounded anew


def test_vmap_is_a_loop():
    grams, start, radius = (np.float32(a[:6]) for a in problems(3))
    got = solve(grams, start, radius)
    for k in range(6):
        alone = solve_one(grams[k], start[k], radius[k])
        np.testing.assert_allclose(got[k], alone, rtol=1e-5, atol=1e-6)


def test_edges():
    half = jnp.array([0.5, 0.5])
    identity = jnp.eye(2)

    def v(gram, radius, start=half):
        return np.asarray(solve_one(jnp.asarray(gram, jnp.float32), start, radius))

    np.testing.assert_allclose(v(identity, 0.0), 0, atol=1e-6)
    # The start serves both alike: on along it.
    np.testing.assert_allclose(v(identity, 1.0), np.sqrt(0.5), rtol=1e-6)
    # A head of zero gradient has no part, even alone.
    np.testing.assert_allclose(v([[4.0, 0], [0, 0]], 1.0), [0.5, 0], rtol=1e-6)
    np.testing.assert_array_equal(v(np.zeros((2, 2)), 0.0), 0)
    np.testing.assert_array_equal(v(np.zeros((2, 2)), 1.0), 0)
    # Equal heads share: |v1 + v2| = 1.
    np.testing.assert_allclose(v(np.ones((2, 2)), 1.0), 0.5, rtol=1e-6)
    # Opposite ones of lengths 1 and 3: d0 = -1; in the ball nothing serves both, and
    # what is worst for one is best for the other: 0 is nearest, d = -0.5 the limit.
    opposite = np.array([[1.0, -3], [-3, 9]])
    w = 0.5 + v(opposite, 0.5)
    np.testing.assert_allclose(w @ [1, -3], -0.5, atol=1e-5)


def test_derivatives():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 9))
    start = np.full(4, 0.25)
    with jax.enable_x64(True):

        @jax.jit
        def answer(factor, start, radius):
            return hw.solvers.conflict_averse(factor @ factor.T, start, radius)

        arguments = rows, start, np.float64(0.9)
        v = answer(*arguments)
        assert v.dtype == np.float64
        assert 0 < np.sum(v > 1e-6) < 4  # some are at the bound
        test_util.check_grads(
            answer, arguments, 1, ["fwd", "rev"], rtol=1e-6, atol=1e-6
        )
        gap, outside = certificate(
            rows[None] @ rows.T[None], start[None], np.array([0.9]), np.asarray(v)[None]
        )
        assert np.abs(gap[0]) < 1e-6  # in units of EPS of float32
        assert np.abs(outside[0]) < 1e-12


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ValueError, match=r"gram: expected \[H, H\], got shape"):
        hw.solvers.conflict_averse(jnp.ones(shape), jnp.ones(2), 1.0)
    with pytest.raises(ValueError, match=r"start: expected shape \(2,\), got"):
        hw.solvers.conflict_averse(jnp.eye(2), jnp.ones(shape), 1.0)
