"""Static and scheduled weights: they are data, and mean what the objective means."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

LOSS = optax.losses.squared_error
OBJECTIVE = hw.Objective({"y1": LOSS, "y2": LOSS})
PARAMS = {"A": jnp.array([1.0, -2.0]), "C": jnp.float32(3.0), "D": jnp.float32(0.5)}
X = jnp.array([[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]])
TARGETS = {"y1": jnp.zeros(3), "y2": jnp.ones(3)}


def values_fn(p, x):
    h = x @ p["A"]
    return OBJECTIVE.values({"y1": p["C"] * h, "y2": p["D"] * h}, TARGETS)


def grad_of_total(weights, step=None):
    def total(p):
        return OBJECTIVE.total(values_fn(p, X), weights, step)

    return jax.grad(total)(PARAMS)


def assert_close(got, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
        got,
        expected,
    )


@pytest.mark.parametrize("head_grads", [False, True])
def test_one_program_for_many_weightings(head_grads):
    traces = []

    @jax.jit
    def step(weights):
        traces.append(1)
        balancer = hw.balancers.constant(weights)  # traced weights
        f = hw.balanced_grad(values_fn, balancer, head_grads=head_grads)
        grads, info, _ = f(PARAMS, balancer.init(["y1", "y2"]), X)
        return grads, info.weights

    for weights in ({"y1": 0.5, "y2": 0.3}, {"y1": 0.0, "y2": 2.0}):
        grads, effective = step(weights)
        assert_close(grads, grad_of_total(weights))
        assert_close(effective, weights)
    assert len(traces) == 1


def test_the_state_holds_the_weights_so_that_a_sweep_vmaps():
    balancer = hw.balancers.constant({"y1": 1.0, "y2": 1.0})
    f = hw.balanced_grad(values_fn, balancer)
    state = balancer.init(["y1", "y2"])
    many = state._replace(weights=jnp.array([[1.0, 0.0], [0.25, 4.0]]))
    grads, _, _ = jax.jit(jax.vmap(f, in_axes=(None, 0, None)))(PARAMS, many, X)
    for k, row in enumerate(np.asarray(many.weights)):
        expected = grad_of_total({"y1": row[0], "y2": row[1]})
        assert_close(jax.tree.map(lambda g, k=k: g[k], grads), expected)


def test_equal_is_a_sum():
    balancer = hw.balancers.equal()
    grads, info, _ = hw.balanced_grad(values_fn, balancer)(
        PARAMS, balancer.init(["y1", "y2"]), X
    )
    assert_close(grads, grad_of_total({"y1": 1.0, "y2": 1.0}))
    assert {n: float(w) for n, w in info.weights.items()} == {"y1": 1.0, "y2": 1.0}


def test_schedules_equal_those_of_the_objective():
    ramp = optax.linear_schedule(0.0, 1.0, transition_steps=4)
    weights = {"y1": ramp, "y2": 0.3}
    balancer = hw.balancers.scheduled(weights)
    traces = []

    @jax.jit
    def step(at):
        traces.append(1)
        f = hw.balanced_grad(values_fn, balancer)
        grads, info, state = f(PARAMS, balancer.init(["y1", "y2"]), X, step=at)
        return grads, info.weights, state

    for at in (0, 3, 9):
        grads, effective, state = step(at)
        assert_close(grads, grad_of_total(weights, step=at))
        np.testing.assert_allclose(effective["y1"], min(at / 4, 1.0), rtol=1e-6)
        np.testing.assert_allclose(state.weights, [min(at / 4, 1.0), 0.3], rtol=1e-6)
    assert len(traces) == 1


def test_order_is_by_name():
    balancer = hw.balancers.constant({"b": 2.0, "a": 1.0, "c": 3.0})
    np.testing.assert_array_equal(balancer.init(["c", "a", "b"]).weights, [1, 2, 3])
    balancer = hw.balancers.scheduled({"b": lambda step: 2.0 * step, "a": 1.0})
    signals = hw.balancers.Signals(values=jnp.ones(2), step=5)
    weights = balancer.update(signals, balancer.init(["b", "a"]))[0].weights
    np.testing.assert_array_equal(weights, [1.0, 10.0])


@pytest.mark.parametrize("factory", [hw.balancers.constant, hw.balancers.scheduled])
def test_misuse_is_named(factory):
    with pytest.raises(TypeError, match="weights: expected a dict"):
        factory([1.0, 2.0])
    with pytest.raises(ValueError, match=r"weights: .*'c'"):
        factory({"a": 1.0, "b": 1.0}).init(["a", "c"])
    signals = hw.balancers.Signals(values=jnp.ones(1), step=0)

    def two_weights_for_one_head():
        balancer = factory({"a": jnp.ones(2)})
        balancer.update(signals, balancer.init(["a"]))

    with pytest.raises(ValueError, match=r"weights\['a'\]: expected a scalar.*\(2,\)"):
        two_weights_for_one_head()
