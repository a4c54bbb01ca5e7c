"""Uncertainty weighting against a float64 trajectory and its fixed point."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

NAMES = ("a", "b", "c")
KINDS = {"a": "regression", "b": "classification", "c": "regression"}
FACTOR = np.array([0.5, 1.0, 0.5])


def loop(balancer, state, values, present=None):
    """Runs over values [T, H]; returns the weights [T, H] and the last state."""

    @jax.jit
    def run(state):
        def body(state, row):
            signals = hw.balancers.Signals(values=row, present=present)
            decision, state = balancer.update(signals, state)
            return state, decision.weights

        return jax.lax.scan(body, state, jnp.asarray(values, jnp.float32))

    state, weights = run(state)
    return weights, state


def sgd_trajectory(values, rate, s):
    weights = []
    for row in np.float64(values):
        w = FACTOR * np.exp(-s)
        weights.append(w)
        s = s - rate * (0.5 - w * row)
    return np.stack(weights), s


def adam_trajectory(values, rate, s, b1=0.9, b2=0.999, eps=1e-8):
    weights, m, v = [], np.zeros(3), np.zeros(3)
    for t, row in enumerate(np.float64(values), start=1):
        w = FACTOR * np.exp(-s)
        weights.append(w)
        slope = 0.5 - w * row
        m = b1 * m + (1 - b1) * slope
        v = b2 * v + (1 - b2) * slope**2
        s = s - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return np.stack(weights), s


@pytest.mark.parametrize(
    ("optimizer", "trajectory", "rate"),
    [
        (optax.sgd(0.1), sgd_trajectory, 0.1),
        (optax.adam(0.03), adam_trajectory, 0.03),
        (None, adam_trajectory, 0.01),
    ],
)
def test_float64_trajectory(optimizer, trajectory, rate):
    values = np.random.default_rng(0).uniform(0.2, 3.0, size=(40, 3))
    balancer = hw.balancers.uncertainty(KINDS, initial=-0.5, optimizer=optimizer)
    weights, state = loop(balancer, balancer.init(NAMES), values)
    expected, s = trajectory(values, rate, np.full(3, -0.5))
    # 40 float32 steps of size 0.01 to 0.1, each rounded at 2^-24.
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    np.testing.assert_allclose(state.log_variance, s, atol=1e-5)


def test_comes_to_rest_where_exp_s_is_twice_c_value():
    values = np.array([0.3, 2.0, 7.0])
    balancer = hw.balancers.uncertainty(KINDS, optimizer=optax.sgd(0.5))
    weights, state = loop(balancer, balancer.init(NAMES), np.tile(values, (200, 1)))
    np.testing.assert_allclose(
        np.exp(state.log_variance), 2 * FACTOR * values, rtol=1e-5
    )
    np.testing.assert_allclose(weights[-1], 1 / (2 * values), rtol=1e-5)


def test_the_slope_is_that_of_the_published_total():
    """UW([1, 2, 4]) = 3.5 at s = 0, and s goes down the total's own derivative."""
    values = jnp.array([1.0, 2.0, 4.0])
    balancer = hw.balancers.uncertainty(optimizer=optax.sgd(1.0))
    state = balancer.init(NAMES)
    decision, new = balancer.update(hw.balancers.Signals(values=values), state)

    def total(s):
        return jnp.sum(0.5 * jnp.exp(-s) * values + 0.5 * s)

    s = state.log_variance
    assert float(decision.weights @ values + 0.5 * jnp.sum(s)) == 3.5
    assert float(total(s)) == 3.5
    np.testing.assert_allclose(new.log_variance, s - jax.grad(total)(s), rtol=1e-6)


def test_absent_head_is_frozen():
    values = np.random.default_rng(1).uniform(0.5, 2.0, size=(10, 3))
    values[:, 1] = np.nan
    balancer = hw.balancers.uncertainty(KINDS)
    start = balancer.init(NAMES)
    # Moved first, so that there is momentum that could move it on.
    _, moved = loop(balancer, start, np.full((5, 3), 2.0))
    present = jnp.array([True, False, True])
    weights, state = loop(balancer, moved, values, present)
    np.testing.assert_array_equal(weights[:, 1], 0.0)
    assert state.log_variance[1] == moved.log_variance[1]
    assert moved.log_variance[1] != start.log_variance[1]
    for new, old in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
        if jnp.shape(new) == (3,):
            assert new[1] == old[1]
    assert (state.log_variance != moved.log_variance)[jnp.array([0, 2])].all()


def test_a_head_without_a_positive_value_stands_still():
    """It reached a weight of 2.4e8 after 2,000 zeros and NaN after 8,900."""
    balancer = hw.balancers.uncertainty()
    values = np.tile([0.0, -0.5, np.nan], (9000, 1))
    values[8000:] = 0.5
    weights, state = loop(balancer, balancer.init(NAMES), values)
    np.testing.assert_array_equal(weights[:8001], 0.5)
    # Then it goes its way: to 1 / (2 value).
    np.testing.assert_allclose(weights[-1], 1.0, rtol=1e-3)
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(leaf).all()


def test_bounds_and_the_way_back_from_them():
    """By the rule in float64: 5,373 and 10,407 steps; without bounds more."""
    values = np.full((14_000, 3), 0.5)
    values[:3000] = 1e-30, 1e30, 2.0
    balancer = hw.balancers.uncertainty()
    weights, _ = loop(balancer, balancer.init(NAMES), values)
    assert weights[2999, 0] == weights.max() == np.float32(0.5 * np.exp(14.0))
    np.testing.assert_allclose(weights[2999, 1], 0.5 * np.exp(-14.0), rtol=1e-5)
    away = np.abs(weights[3000:, :2] - 1.0) > 0.1
    np.testing.assert_allclose(away.sum(0), [5373, 10407], rtol=0.02)


def test_no_gradient_flows_through_the_weights():
    balancer = hw.balancers.uncertainty()

    def new_state(values):
        signals = hw.balancers.Signals(values=values)
        return jnp.sum(balancer.update(signals, balancer.init(NAMES))[1].log_variance)

    np.testing.assert_array_equal(jax.grad(new_state)(jnp.ones(3)), 0.0)


def test_misuse_is_named():
    with pytest.raises(ValueError, match=r"kinds: .*'regression'.*'ranking'"):
        hw.balancers.uncertainty("ranking")
    with pytest.raises(ValueError, match="kinds"):
        hw.balancers.uncertainty({"a": "regression", "b": "ranking"})
    with pytest.raises(ValueError, match=r"kinds: .*missing \['c'\]"):
        hw.balancers.uncertainty({"a": "regression", "b": "regression"}).init(NAMES)
