"""What the balancers of the gramian promise, on random problems of many structures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.balancers import _gramian
from tests.balancers._gramian import EPS
from tests.balancers._gramian import KINDS
from tests.balancers._gramian import SIZES
from tests.solvers._samples import sample
from tests.solvers._samples import sample_rows

every_size = pytest.mark.parametrize("heads", SIZES[1:])
every_kind = pytest.mark.parametrize("kind", KINDS)

NO_CONFLICT = (
    "mgda",
    "upgrad",
    "dualproj",
    "cagrad 1",
    "cagrad 1.5",
    "nash_mtl",
    "fairgrad 0.5",
    "fairgrad",
    "fairgrad 2",
)


@every_size
@every_kind
@pytest.mark.parametrize("method", NO_CONFLICT)
def test_no_head_loses(method, heads, kind):
    """<g_h, direction> >= 0, up to a ridge (25 EPS) and rounding of what is summed."""
    w = _gramian.solved(method, heads)[kind]
    lengths, size = _gramian.measure(w, sample_rows(kind, heads))
    along = np.einsum("kij,kj->ki", sample(kind, heads), w)
    assert (along >= -60 * EPS * lengths * size).all()


@every_size
@every_kind
def test_mgda_is_on_the_simplex(heads, kind):
    w = _gramian.solved("mgda", heads)[kind]
    assert (w >= 0).all()
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=4 * EPS)


@every_size
@pytest.mark.parametrize("method", ["mgda", "upgrad", "dualproj"])
def test_stationary_points_are_left_alone(method, heads):
    """A combination with positive weights is 0, so no direction serves all heads."""
    rows = sample_rows("stationary", heads)
    w = _gramian.solved(method, heads)["stationary"]
    size = _gramian.measure(w, rows)[1][:, 0]
    norm = np.linalg.norm(_gramian.directions(w, rows), axis=1)
    # Its square is known to EPS.
    assert (norm <= np.sqrt(30 * EPS) * size).all()
    if method == "mgda":
        assert np.median(norm / size) <= 1e-4


EXPONENTS = {
    **dict.fromkeys(("mgda", "upgrad", "dualproj", "cagrad", "imtl_g", "config"), 0),
    **dict.fromkeys(("aligned_mtl", "pcgrad", "gradvac", "nash_mtl free", "pcd"), 0),
    **dict.fromkeys(("krum", "sdmgrad", "gradnorm"), 0),
    "fairgrad 0.5": -2 / 3,
    "fairgrad": -1,
    "fairgrad 2": -4 / 3,
}


@pytest.mark.parametrize("heads", [3])
@pytest.mark.parametrize("method", EXPONENTS)
def test_scale(method, heads):
    """w(s² G) = s^p w(G), for the gramian at 1e-20 to 1e20."""
    grams = sample("gauss", heads)[:10]
    one = _gramian.weights(method, grams)
    for squared in (1e-20, 1e-10, 1e-4, 1e4, 1e10, 1e20):
        got = _gramian.weights(method, grams * squared)
        factor = np.sqrt(squared) ** EXPONENTS[method]
        # The gramian is rounded anew; times its condition, of some 10, or the rate of
        # 10 in 20 steps of sdmgrad.
        rounding = 5e-4 if method == "sdmgrad" else 2e-5
        largest = np.abs(one).max(axis=1, keepdims=True) * np.ones(heads)
        np.testing.assert_array_less(np.abs(got / factor - one), rounding * largest)


@pytest.mark.parametrize("power", [40, -40])
@pytest.mark.parametrize("method", [m for m, p in EXPONENTS.items() if p == 0])
def test_powers_of_four_change_nothing_at_all(method, power):
    """Nothing is compared with a number that has a unit: only exponents change."""
    # These two take the square root of what has a unit.
    atol = 4 * EPS if method in ("cagrad", "nash_mtl free") else 0
    grams = np.float32(sample("gauss", 3)[:10])
    got = _gramian.weights(method, grams * np.float32(2.0**power))
    one = _gramian.weights(method, grams)
    np.testing.assert_allclose(got, one, rtol=atol, atol=atol)


def test_upgrad_of_two_heads_is_pcgrad():
    balancer = hw.balancers.upgrad({"a": 1.0, "b": 1.0})
    solve = jax.jit(jax.vmap(functools.partial(_gramian.update, balancer)))
    for kind in KINDS:
        rows = sample_rows(kind, 2)
        w = solve(np.float32(sample(kind, 2)))
        expected = _gramian.solved("pcgrad", 2)[kind]
        error = _gramian.directions(np.float64(w) - expected, rows)
        # 1 - cos² of rows that are almost opposite: where both are shortened to 0.
        size = _gramian.measure(expected, rows)[1]
        assert (np.abs(error) <= 20 * EPS * size).all(), kind


@every_size
@every_kind
def test_fairgrad_with_alpha_1_has_length_root_of_heads(heads, kind):
    """Σ w_h (G w)_h = Σ 1, at any scale."""
    w = _gramian.solved("fairgrad", heads)[kind]
    rows = sample_rows(kind, heads)
    size = _gramian.measure(w, rows)[1][:, 0]
    squared = np.sum(_gramian.directions(w, rows) ** 2, axis=1)
    # The ridge counts as a part of it.
    assert (np.abs(squared - heads) <= 30 * EPS * size**2 + 4e-6 * heads).all()


FACTORIES = hw.balancers.FROM_GRAMIAN
IN_FLOAT32 = ("gradnorm", "epo", "pmgda")
"""Their weights are float32 whatever the gramian is."""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", FACTORIES)
def test_a_gradient_that_is_not_finite_counts_as_absent(method, bad):
    rows = sample_rows("gauss", 3)[:4].copy()
    rows[:, 1, 0] = bad
    with np.errstate(invalid="ignore"):  # 0 * inf
        grams = rows @ rows.swapaxes(1, 2)
    present = np.ones((4, 3), bool)
    present[:, 1] = False
    clean = np.where(present[:, :, None] & present[:, None, :], grams, 7.0)
    got = _gramian.weights(method, grams)
    np.testing.assert_array_equal(got, _gramian.weights(method, clean, present))
    np.testing.assert_array_equal(got[:, 1], 0)
    assert np.isfinite(got).all()
    assert (got != 0).any()


@pytest.mark.parametrize("method", [m for m in FACTORIES if m not in IN_FLOAT32])
def test_float64(method):
    """The weights have the gramian's dtype, and its accuracy where that is known."""
    grams = sample("gauss", 3)[:4]
    with jax.enable_x64(True):
        w = _gramian.weights(method, grams, dtype=np.float64)
    rounded = _gramian.weights(method, grams)
    np.testing.assert_allclose(w, rounded, atol=1e-4 * np.abs(w).max())
    u = np.full(3, 1 / 3)
    slope = np.einsum("kij,kj->ki", grams, w)
    size = np.einsum("kii->k", grams)[:, None]
    if method == "mgda":  # all conditions of the solution
        squared = np.einsum("ki,ki->k", w, slope)[:, None]
        assert (slope >= squared - 1e-12 * size).all()
        np.testing.assert_allclose(w * (slope - squared), 0, atol=1e-12 * size.max())
    elif method == "dualproj":
        assert (slope >= -1e-12 * size).all()
        np.testing.assert_allclose((w - u) * slope, 0, atol=1e-12 * size.max())
    elif method == "fairgrad":  # the ridge is 25 units of rounding
        np.testing.assert_allclose(slope * w, 1, atol=1e-12)
    elif method == "cagrad":
        v = w - u
        length = np.sqrt(np.einsum("ki,kij,kj->k", v, grams, v))
        radius = 0.5 * np.sqrt(np.einsum("i,kij,j->k", u, grams, u))
        np.testing.assert_allclose(length, radius, rtol=1e-9)
        free = v > 1e-9
        level = slope.min(axis=1, keepdims=True)
        assert (np.abs(slope - level) <= 1e-9 * size)[free].all()


def test_gradnorm_on_the_last_shared_layer_makes_norms_alike():
    """With alpha = 0 the weighted gradients over `wrt` become equally long."""
    rng = np.random.default_rng(0)
    params = {
        "trunk": {"w": jnp.asarray(rng.normal(size=(4, 4)), jnp.float32)},
        "last": {"w": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)},
        "a": jnp.asarray(rng.normal(size=3), jnp.float32),
        "b": 10 * jnp.asarray(rng.normal(size=3), jnp.float32),
    }
    x = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)

    def values_fn(p, x):
        h = jnp.tanh(x @ p["trunk"]["w"]) @ p["last"]["w"]
        return {"a": jnp.mean((h @ p["a"] - 1) ** 2), "b": jnp.mean((h @ p["b"]) ** 2)}

    balancer = hw.balancers.gradnorm(0.0, optax.sgd(0.002))
    f = jax.jit(
        hw.balanced_grad(values_fn, balancer, wrt=lambda path: path.startswith("last"))
    )
    state, ratios = balancer.init(["a", "b"]), []
    for _ in range(700):  # the parameters stay: norms are those of the same gradients
        _, info, state = f(params, state, x)
        w = np.array([info.weights["a"], info.weights["b"]])
        norms = w * np.sqrt(np.diagonal(info.gramian))
        ratios.append(norms[1] / norms[0])
    grads = jax.grad(lambda p: values_fn(p, x)["a"])(params)["last"]["w"]
    np.testing.assert_allclose(info.gramian[0, 0], np.sum(grads**2), rtol=1e-5)
    assert ratios[0] > 10
    assert (np.diff(ratios[:100]) < 0).all()
    assert 0.5 < ratios[-1] < 2  # steps of 0.002 of a weight that is small


def draw_grads(seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: {"w": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)}
        for name in ("a", "b", "c")
    }


def test_config_with_momentum_of_equal_steps_is_config():
    """Averages are corrected for their start, so the first step is config's too."""
    grads = draw_grads()
    rows = np.stack([np.ravel(g["w"]) for g in grads.values()])
    gram = jnp.asarray(rows @ rows.T)
    expected = _gramian.update(hw.balancers.config(), gram)
    balancer = hw.balancers.config(momentum=0.9)
    update, state = jax.jit(balancer.update), balancer.init(list("abc"), grads["a"])
    for _ in range(30):
        signals = hw.balancers.Signals(jnp.ones(3), grads=grads)
        decision, state = update(signals, state)
        np.testing.assert_allclose(decision.weights, expected, rtol=1e-5)
        direction = np.ravel(decision.direction["w"])
        np.testing.assert_allclose(direction, expected @ rows, rtol=1e-4, atol=1e-5)


def test_config_with_momentum_is_config_of_the_averages():
    balancer = hw.balancers.config(momentum=0.8)
    like = draw_grads()
    update, state = jax.jit(balancer.update), balancer.init(list("abc"), like["a"])
    average = np.zeros((3, 6))
    for step in range(5):
        grads = draw_grads(step)
        decision, state = update(hw.balancers.Signals(jnp.ones(3), grads=grads), state)
        rows = np.stack([np.ravel(g["w"]) for g in grads.values()])
        average = 0.8 * average + 0.2 * rows
        known = average / (1 - 0.8 ** (step + 1))
        d = np.linalg.pinv(known / np.linalg.norm(known, axis=1)[:, None]).sum(axis=1)
        d /= np.linalg.norm(d)
        expected = np.sum(known @ d) * d
        got = np.ravel(decision.direction["w"])
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
