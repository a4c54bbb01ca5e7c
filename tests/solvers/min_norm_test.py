"""`min_norm` and `mgda` against a float64 solver, closed forms and optimality."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadprog

import headwise as hw
from tests.solvers._samples import sample
from tests.solvers._samples import SAMPLERS

SIZES = (2, 3, 8, 16, 64)
EPS = float(np.finfo(np.float32).eps)

solve = jax.jit(jax.vmap(hw.solvers.min_norm))
solve_one = jax.jit(hw.solvers.min_norm)


def reference(gram):
    """The float64 solution by another method (Goldfarb and Idnani's dual)."""
    heads = len(gram)
    scale = np.trace(gram)
    constraints = np.vstack([np.ones(heads), np.eye(heads)]).T
    right = np.zeros(heads + 1)
    right[0] = 1.0
    # quadprog needs a definite matrix; the ridge is far below float32.
    ridge = 1e-13 * np.eye(heads)
    return quadprog.solve_qp(
        gram / scale + ridge, np.zeros(heads), constraints, right, meq=1
    )[0]


@functools.cache
def expected(kind, heads):
    return np.stack([reference(gram) for gram in sample(kind, heads)])


def squared_norm(gram, w):
    return np.einsum("ki,kij,kj->k", w, gram, w)


def assert_shortest(w, kind, heads):
    """|Σ w g|² is the float64 minimum, up to the rounding of a float32 gramian.

    The unit is the squared mean length of the gradients that are summed: entries of
    the gramian are known to EPS of that, and the ridge adds 25 EPS for heads that
    are almost parallel. Measured: 5 EPS.
    """
    gram = sample(kind, heads)
    w = np.asarray(w, np.float64)
    assert (w >= 0).all()
    np.testing.assert_allclose(w.sum(axis=1), 1.0, atol=4 * EPS)
    mean = np.sum(w * np.sqrt(np.einsum("kii->ki", gram)), axis=1)
    got, want = squared_norm(gram, w), squared_norm(gram, expected(kind, heads))
    assert (np.abs(got - want) <= 12 * EPS * mean**2).all()


@pytest.mark.parametrize("heads", SIZES)
@pytest.mark.parametrize("kind", SAMPLERS)
def test_as_short_as_the_float64_solution(kind, heads):
    w = solve(sample(kind, heads).astype(np.float32))
    assert_shortest(w, kind, heads)


@pytest.mark.parametrize("heads", SIZES)
def test_the_same_weights_where_they_are_unique(heads):
    w = solve(sample("gauss", heads).astype(np.float32))
    # Well-conditioned: a ridge of 25 EPS moves the answer by some 1e-5.
    np.testing.assert_allclose(w, expected("gauss", heads), atol=1e-4)


@pytest.mark.parametrize("heads", SIZES)
@pytest.mark.parametrize("kind", SAMPLERS)
def test_optimality_and_no_conflict(kind, heads):
    """G w >= wᵀGw, equal where w > 0: so <g_h, direction> >= |direction|² >= 0."""
    gram = sample(kind, heads)
    w = np.asarray(solve(gram.astype(np.float32)), np.float64)
    along = np.einsum("kij,kj->ki", gram, w)
    squared = np.einsum("ki,ki->k", w, along)[:, None]
    lengths = np.sqrt(np.einsum("kii->ki", gram))
    # In units of each head's length times the mean length of what is summed: the
    # rounding of G and the ridge of 25 EPS. Measured: 62 EPS (64 heads in a plane).
    unit = lengths * np.sum(w * lengths, axis=1, keepdims=True)
    tolerance = 120 * EPS * unit
    assert (along >= squared - tolerance).all()
    used = w * lengths > 1e-3 * np.max(w * lengths, axis=1, keepdims=True)
    assert (np.abs(along - squared) <= tolerance)[used].all()


@pytest.mark.parametrize("heads", [3, 16])
@pytest.mark.parametrize("kind", ["gauss", "scaled", "stationary"])
@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1e-4, 1e4, 1e10, 1e20])
def test_answers_the_same_at_every_scale(kind, heads, scale):
    """The gramian's scale: gradients from 1e-10 to 1e10."""
    gram = sample(kind, heads)
    w = solve((gram * scale).astype(np.float32))
    assert_shortest(w, kind, heads)
    if kind == "gauss":
        one = solve(gram.astype(np.float32))
        np.testing.assert_allclose(w, one, atol=1e-5)  # rounding of the gramian


def test_powers_of_two_change_nothing_at_all():
    gram = sample("scaled", 8).astype(np.float32)
    np.testing.assert_array_equal(solve(gram), solve(gram * np.float32(2.0**40)))


def test_float64():
    with jax.enable_x64(True):
        gram = np.concatenate([sample(kind, 8) for kind in SAMPLERS])
        want = np.concatenate([expected(kind, 8) for kind in SAMPLERS])
        w = np.asarray(jax.jit(jax.vmap(hw.solvers.min_norm))(gram))
        assert w.dtype == np.float64
        lengths = np.sqrt(np.einsum("kii->ki", gram))
        mean = np.sum(w * lengths, axis=1)
        # Measured: 2e-10 for three heads that cancel, 1e-14 where nothing is singular.
        difference = squared_norm(gram, w) - squared_norm(gram, want)
        assert (difference <= 1e-9 * mean**2).all()
        assert (difference >= -1e-9 * np.max(lengths, axis=1) ** 2).all()


# J, weights: TorchJD's 2 x 3 example and a 3 x 3 one, solved in float64.
GOLDEN = [
    ([[-4.0, 1, 1], [6, 1, 1]], [0.6, 0.4], [0.0, 1.0, 1.0]),
    ([[1.0, 2, 0], [-1, 0.5, 1], [0, -1, 2]], [0.3590, 0.3590, 0.2821], None),
]


@pytest.mark.parametrize(("rows", "weights", "direction"), GOLDEN)
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_golden(rows, weights, direction, scale):
    rows = np.array(rows)
    gram = np.float32(scale**2 * rows @ rows.T)
    w = np.asarray(solve_one(gram))
    np.testing.assert_allclose(w, weights, atol=1e-4)  # four digits are published
    if direction is not None:
        np.testing.assert_allclose(w @ rows, direction, atol=1e-4)


def test_closed_form_for_two_heads():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2, 3)) * 10.0 ** rng.uniform(-1, 1, size=(200, 2, 1))
    gram = rows @ rows.swapaxes(1, 2)
    a, b, c = gram[:, 0, 0], gram[:, 0, 1], gram[:, 1, 1]
    first = np.clip((c - b) / (a + c - 2 * b), 0.0, 1.0)
    w = np.asarray(solve(gram.astype(np.float32)))
    # |dw| ~ EPS * condition; 1e-3 covers the worst of 200 draws, the median is 1e-7.
    np.testing.assert_allclose(w[:, 0], first, atol=1e-3)
    assert np.median(np.abs(w[:, 0] - first)) < 1e-5


def test_edges():
    def weights(gram, present=None):
        return np.asarray(solve_one(jnp.asarray(gram, jnp.float32), present))

    equal = np.ones((3, 3))
    np.testing.assert_allclose(weights(equal), 1 / 3, atol=1e-6)
    np.testing.assert_array_equal(weights([[7.0]]), [1.0])
    np.testing.assert_array_equal(weights([[0.0]]), [1.0])
    np.testing.assert_array_equal(weights(np.zeros((2, 2))), [0.5, 0.5])
    np.testing.assert_array_equal(weights([[4.0, 0], [0, 0]]), [0.0, 1.0])
    # Antiparallel, of lengths 1 and 3: 3/4 and 1/4 cancel.
    np.testing.assert_allclose(weights([[1.0, -3], [-3, 9]]), [0.75, 0.25], atol=1e-5)
    some = jnp.array([True, False, True])
    np.testing.assert_allclose(weights(equal, some), [0.5, 0, 0.5], atol=1e-6)
    np.testing.assert_array_equal(weights(equal, jnp.zeros(3, bool)), 0.0)
    with_nan = np.where(np.eye(3)[1] + np.eye(3)[:, [1]] > 0, np.nan, equal)
    np.testing.assert_allclose(weights(with_nan, some), [0.5, 0, 0.5], atol=1e-6)


def test_subsets_that_are_absent_do_not_count():
    gram = sample("gauss", 3)[0].astype(np.float32)
    for subset in itertools.product([True, False], repeat=3):
        if any(subset):
            chosen = np.flatnonzero(subset)
            alone = solve_one(gram[np.ix_(chosen, chosen)])
            among = solve_one(gram, jnp.array(subset))
            np.testing.assert_allclose(among[chosen], alone, atol=1e-6)
            np.testing.assert_array_equal(among[~np.array(subset)], 0.0)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
def test_not_square(shape):
    with pytest.raises(ValueError, match=r"gram: expected \[H, H\], got shape"):
        hw.solvers.min_norm(jnp.ones(shape))


def test_mgda_keeps_the_weights_for_the_log():
    balancer = hw.balancers.mgda()
    gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
    signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
    decision, state = jax.jit(balancer.update)(signals, balancer.init(["a", "b"]))
    np.testing.assert_allclose(decision.weights, [0.6, 0.4], atol=1e-4)
    np.testing.assert_array_equal(state.weights, decision.weights)
    assert balancer.needs == "gramian"
