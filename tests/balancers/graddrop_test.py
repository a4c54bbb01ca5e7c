"""GradDrop against its expectation, and what it must never drop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

# Columns: mixed signs, one sign, the other sign, one head alone, nobody.
ROWS = {
    "a": [3.0, 1.0, -2.0, 0.0, 0.0],
    "b": [-1.0, 2.0, -1.0, -4.0, 0.0],
    "c": [2.0, 0.5, -3.0, 0.0, 0.0],
}
MIXED = 0
DRAWS = 4000


@functools.cache
def draw(leak=None):
    """Directions [K, 5] and weights [K, 3] over many keys."""
    leak = None if leak is None else dict(zip("abc", leak))
    balancer = hw.balancers.graddrop(leak)
    state = balancer.init(list("abc"))

    @jax.jit
    @jax.vmap
    def one(key):
        signals = hw.balancers.Signals(
            values=jnp.ones(3),
            grads={n: {"w": jnp.array(row)} for n, row in ROWS.items()},
            key=key,
        )
        decision, _ = balancer.update(signals, state)
        return decision.direction["w"], decision.weights

    return jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(0), DRAWS)))


@pytest.mark.parametrize("leak", [None, (0.0, 0.5, 1.0)])
def test_expected_direction(leak):
    directions, _ = draw(leak)
    leak = np.zeros(3) if leak is None else np.array(leak)
    g = np.array(list(ROWS.values()))[:, MIXED]
    purity = 0.5 * (1 + g.sum() / np.abs(g).sum())  # 5/6 here
    chance = np.where(g > 0, purity, 1 - purity)
    expected = np.sum((leak + (1 - leak) * chance) * g)
    spread = directions[:, MIXED].std() / np.sqrt(DRAWS)
    # Five standard errors of the mean: a fixed seed, and far under any mistake.
    assert abs(directions[:, MIXED].mean() - expected) < 5 * spread
    # Only two things can happen.
    for sign in (1, -1):
        kept = np.sum((leak + (1 - leak) * (np.sign(g) == sign)) * g)
        share = np.isclose(directions[:, MIXED], kept).mean()
        assert abs(share - (purity if sign > 0 else 1 - purity)) < 0.03


def test_coordinates_of_one_sign_are_untouched():
    directions, _ = draw()
    total = np.array(list(ROWS.values())).sum(axis=0)
    single = [1, 2, 3, 4]
    np.testing.assert_array_equal(
        directions[:, single], np.tile(total[single], (DRAWS, 1))
    )


def test_leak_of_one_drops_nothing():
    directions, weights = draw((1.0, 1.0, 1.0))
    total = np.array(list(ROWS.values())).sum(axis=0)
    np.testing.assert_allclose(directions, np.tile(total, (DRAWS, 1)), rtol=1e-6)
    np.testing.assert_allclose(weights, 1.0, rtol=1e-6)


def test_weights_say_how_much_survived():
    directions, weights = draw()
    up = np.isclose(directions[:, MIXED], 5.0)
    # Upwards b loses 1 of 1 + 4 + 1 + 16 = 22 in squared length; a and c lose nothing.
    np.testing.assert_allclose(weights[up], np.tile([1, 21 / 22, 1], (up.sum(), 1)))
    a, c = 5 / 14, 9.25 / 13.25
    np.testing.assert_allclose(
        weights[~up], np.tile([a, 1.0, c], ((~up).sum(), 1)), rtol=1e-6
    )


def test_coordinates_draw_apart_and_the_key_decides():
    balancer = hw.balancers.graddrop()
    state = balancer.init(["a", "b"])
    grads = {
        n: {"u": jnp.full(64, s), "v": jnp.full((8, 8), s)}
        for n, s in {"a": 1.0, "b": -1.0}.items()
    }

    @jax.jit
    def direction(key):
        signals = hw.balancers.Signals(values=jnp.ones(2), grads=grads, key=key)
        return balancer.update(signals, state)[0].direction

    first, again = direction(jax.random.key(1)), direction(jax.random.key(1))
    other = direction(jax.random.key(2))
    np.testing.assert_array_equal(first["u"], again["u"])
    np.testing.assert_array_equal(first["v"], again["v"])
    assert (first["u"] != other["u"]).any()
    # Leaves draw apart too, and within a leaf both signs occur.
    assert (np.ravel(first["v"]) != first["u"]).any()
    assert set(np.asarray(first["u"])) == {-1.0, 1.0}


def test_private_parameters_are_kept_whole():
    def values_fn(p):
        h = p["A"] * jnp.arange(1.0, 9.0)
        return {"u": jnp.sum(h * p["C"]), "v": -jnp.sum(h * p["D"])}

    params = {"A": jnp.ones(8), "C": jnp.ones(8), "D": jnp.linspace(0.1, 2.0, 8)}
    balancer = hw.balancers.graddrop()
    step = jax.jit(hw.balanced_grad(values_fn, balancer))
    state = balancer.init(["u", "v"])
    grads, info, _ = step(params, state, key=jax.random.key(0))
    x = np.arange(1.0, 9.0)
    np.testing.assert_allclose(grads["C"], x, rtol=1e-6)
    np.testing.assert_allclose(grads["D"], -x, rtol=1e-6)
    # At A each coordinate is one head's gradient, whole: x or -x D.
    is_u = np.isclose(grads["A"], x)
    is_v = np.isclose(grads["A"], -x * np.linspace(0.1, 2.0, 8))
    assert (is_u ^ is_v).all()
    assert is_u.any()
    assert is_v.any()
    assert 0 < info.weights["u"] < 1


@pytest.mark.parametrize("scale", [1e-15, 1e-10, 1e10, 1e15])
def test_scale_changes_no_draw(scale):
    balancer = hw.balancers.graddrop()
    state = balancer.init(list("abc"))

    @jax.jit
    def direction(factor):
        grads = {n: jnp.array(row) * factor for n, row in ROWS.items()}
        signals = hw.balancers.Signals(jnp.ones(3), grads=grads, key=jax.random.key(3))
        return balancer.update(signals, state)[0].direction

    np.testing.assert_allclose(direction(scale) / scale, direction(1.0), rtol=1e-5)


def test_misuse_is_named():
    with pytest.raises(ValueError, match=r"leak: .*missing \['b'\]"):
        hw.balancers.graddrop({"a": 0.5}).init(["a", "b"])
    with pytest.raises(TypeError, match="leak"):
        hw.balancers.graddrop([0.5])
