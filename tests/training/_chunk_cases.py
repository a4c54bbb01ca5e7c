"""A small training, and the batches of its steps, for tests of chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw

NAMES = ("a", "b")
OPTIMIZER = optax.adam(0.05)
BALANCER = hw.balancers.uncertainty()
STEPS = 17
XS = jax.random.normal(jax.random.key(7), (STEPS, 4, 3))
TRACES = []


def values_fn(params, rest, batch, key):
    """An MLP with two heads; `b` has no label in every third step."""
    TRACES.append(1)
    h = jnp.tanh(batch["x"] @ params["w"]) + 0.01 * jax.random.normal(key, ())
    values = {"a": jnp.mean((h - 0.2) ** 2), "b": jnp.mean((h + 0.1) ** 2)}
    return hw.Means(values, counts={"b": batch["labels"]}), {"calls": rest["calls"] + 1}


@functools.cache
def compiled(contributions=False):
    options = {"stateful": True, "contributions": contributions}
    return jax.jit(hw.training.make_step(values_fn, OPTIMIZER, BALANCER, **options))


@functools.cache
def first_state():
    rest = {"calls": jnp.zeros((), jnp.int32)}
    parts = ({"w": jnp.ones((3, 2))}, OPTIMIZER, BALANCER, rest, jax.random.key(3))
    return hw.training.init_state(NAMES, *parts)


def batch_at(t):
    return {"x": XS[t], "labels": jnp.float32(t % 3)}


def on_host(t):
    return jax.tree.map(np.asarray, batch_at(int(t)))


def grain(records):
    return hw.data.stream(records, batch_size=1, seed=0, shuffle=False).map(
        lambda batch: jax.tree.map(lambda x: x[0], batch)
    )


def fit(batches, steps=STEPS, workdir=None, **options):
    given = {"log_every": 3, "progress": False, "check": False} | options
    step = given.pop("step", None) or compiled()
    return hw.training.fit(
        step, first_state(), batches, steps, workdir=workdir, **given
    )


def data(state):
    state = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(x) for x in jax.tree.leaves(state)]


def assert_same(one, other):
    for a, b in zip(data(one), data(other), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(one, other):
    """Of two programs, which may round otherwise."""
    for a, b in zip(data(one), data(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
