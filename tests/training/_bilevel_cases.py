"""Small models, batches and methods for the tests of bilevel steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw

NAMES = ("a", "b", "c")


def values_fn(p, batch):
    x, y = batch
    h = jnp.tanh(x @ p["trunk"])
    return {
        "c": jnp.mean(jnp.square(h @ p["c"])),
        "a": jnp.mean(jnp.square(h @ p["a"] - y)),
        "b": jnp.mean(jnp.log(jnp.cosh(h @ p["b"] + y))),
    }


def make_case(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"trunk": (3, 4), "a": (4, 2), "b": (4, 2), "c": (4, 1)}
    params = {n: jnp.asarray(rng.normal(size=s), dtype) for n, s in shapes.items()}
    batches = tuple(
        (
            jnp.asarray(rng.normal(size=(6, 3)), dtype),
            jnp.asarray(rng.normal(size=(6, 2)), dtype),
        )
        for _ in range(2)
    )
    return params, batches


def one_step(method, params, batches, state=None, optimizer=None, **options):
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    step = hw.training.make_bilevel_step(values_fn, optimizer, method, **options)
    if state is None:
        state = hw.training.init_bilevel_state(NAMES, params, optimizer, method)
    return jax.jit(step)(state, batches)


def quadratics(params, batch):
    """Heads a, b: half the squared distance of θ to their targets in the batch."""
    return {n: jnp.sum(jnp.square(params - batch[n])) / 2 for n in ("a", "b")}


METHODS = {
    "auto_lambda": hw.training.auto_lambda(["a"], 0.5, optax.adam(0.05)),
    "moml": hw.training.moml(optax.adam(0.05)),
    "forum": hw.training.forum(0.2, optax.adam(0.05)),
}
