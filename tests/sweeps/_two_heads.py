"""A tiny program: two heads pull a point to 1 and to -1, one of them with noise."""

import jax
import jax.numpy as jnp
import numpy as np

import headwise as hw

RATE = 0.05
OFFSETS = jnp.array([1.0, -1.0])


def init(trial):
    return {
        "x": jnp.full(3, 2.0),
        "trial": trial,
        "best": jnp.inf,  # on purpose not finite from the start
        "half": jnp.ones(2, jnp.bfloat16),
        "key": jax.random.key(trial["seed"]),
        "nothing": None,
        "empty": jnp.zeros((0,)),
        "count": 0,
        "flag": True,
    }


def step(state, t):
    trial = state["trial"]
    weights, noise = trial["weights"], jnp.sin(trial["seed"] + 2.0 * t)

    def total(x):
        a = jnp.sum((x - OFFSETS[0] - noise) ** 2)
        b = jnp.sum((x - OFFSETS[1]) ** 2)
        values = {"a": a, "b": b}
        return weights["a"] * a + weights["b"] * b, values

    grad, values = jax.grad(total, has_aux=True)(state["x"])
    new = {
        "x": state["x"] - RATE * grad,
        "best": jnp.minimum(state["best"], values["a"]),
        "half": state["half"] * 0.75,
        "count": state["count"] + 1,
        "flag": ~state["flag"],
    }
    return state | new, {"values": values, "count": state["count"]}


def evaluate(state):
    return {"x": state["x"][0], "of": {"best": state["best"], "steps": state["count"]}}


PROGRAM = hw.sweeps.Program(init, step, evaluate)


def trials(a, b=1.0, seed=0):
    """Stacked: weights of a, of b and seeds, as many as the longest has."""
    a, b, seed = np.broadcast_arrays(a, b, seed)
    weights = {"a": a.astype(np.float32), "b": b.astype(np.float32)}
    return {"weights": weights, "seed": seed.astype(np.int32)}


FIVE = trials([1.0, 2.0, 0.5, 3.0, 1.0], [1.0, 1.0, 0.25, 1.0, 2.0], range(5))


def one(many, k):
    """The k-th trial alone, stacked."""
    return jax.tree.map(lambda x: x[k : k + 1], many)


def by_hand(a, b, seed, steps):
    """(x, values of a before each step) in float64."""
    x, values = 2.0, []
    for t in range(steps):
        goal = 1.0 + np.sin(seed + 2.0 * t)
        values.append(3 * (x - goal) ** 2)
        x -= RATE * 2 * (a * (x - goal) + b * (x + 1.0))
    return x, values


def bits(tree):
    """The same tree with arrays whose equality is that of bits."""

    def plain(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        x = np.ascontiguousarray(x)
        return x.view(f"u{x.dtype.itemsize}") if x.size else x

    return jax.tree.map(plain, tree)
