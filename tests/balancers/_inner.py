"""Balancers to put others around, and signals of two heads."""

import jax
import jax.numpy as jnp
import numpy as np

import headwise as hw

NAMES = ["a", "b"]
X = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5, 3)), jnp.float32)


def signals(diagonal=(1.0, 1.0), values=(1.0, 1.0), present=None, grads=None):
    """Two orthogonal heads: MGDA's weights are inverse to the diagonal."""
    gram = jnp.diag(jnp.array(diagonal, jnp.float32))
    if present is not None:
        present = jnp.array(present)
    return hw.Signals(jnp.array(values), gram, grads, 0, jax.random.key(0), present)


def run(balancer, steps):
    """Weights [T, H] of one update after the other, and the last state."""
    state, seen = balancer.init(NAMES), []
    update = jax.jit(balancer.update)
    for step in steps:
        decision, state = update(step, state)
        seen.append(np.asarray(decision.weights))
    return np.stack(seen), state


def counting():
    """Weights (1, t) at update t; counts its updates."""

    def init(names, params=None):
        del names, params
        return jnp.zeros(())

    def update(signals, state):
        return hw.balancers.Decision(jnp.stack([jnp.ones(()), state])), state + 1

    def after(values, state):
        return state + 10 * jnp.sum(values)

    return hw.balancers.Balancer(init, update, after=after)


def directed():
    """Twice the first head's gradient, whatever comes."""

    def init(names, params=None):
        del names, params
        return jnp.zeros(())

    def update(signals, state):
        direction = jax.tree.map(lambda g: 2 * g, signals.grads["a"])
        decision = hw.balancers.Decision(jnp.array([2.0, 0.0]), direction)
        return decision, state + 1

    return hw.balancers.Balancer(init, update, "grads")


GRADS = {"a": {"w": jnp.array([1.0, 2.0])}, "b": {"w": jnp.array([10.0, 20.0])}}


def values_fn(p, x):
    h = jnp.tanh(x @ p["trunk"])
    return {
        "a": jnp.mean(jnp.square(h @ p["a"] - 1.0)),
        "b": jnp.mean(jnp.abs(h @ p["b"] + 2.0)),
    }


def make_params():
    rng = np.random.default_rng(0)
    shapes = {"trunk": (3, 4), "a": (4, 2), "b": (4, 1)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}
