"""Problems and comparisons of the batteries that every balancer goes through."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.balancers import _cases

every_balancer = pytest.mark.parametrize("name", _cases.CASES)
repeatable_balancer = pytest.mark.parametrize(
    "name", [name for name, case in _cases.CASES.items() if not case.random]
)


def make_grads(names=_cases.NAMES, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: {
            "w": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32),
            "b": jnp.asarray(rng.normal(size=3), jnp.float32),
        }
        for name in names
    }


def make_signals(grads, present=None, seed=0, dtype=jnp.float32):
    """All signals of a problem, as a step would hand them over."""
    values = np.random.default_rng(seed).uniform(0.5, 2.0, size=len(grads))
    grads = jax.tree.map(lambda g: jnp.asarray(g, dtype), grads)
    rows = [
        np.concatenate([np.ravel(np.float64(g)) for g in jax.tree.leaves(grads[n])])
        for n in sorted(grads)
    ]
    gram = np.stack(rows) @ np.stack(rows).T
    return hw.balancers.Signals(
        values=jnp.asarray(values, dtype),
        gram=jnp.asarray(gram, jnp.float32),
        grads=grads,
        step=jnp.int32(3),
        key=jax.random.key(seed),
        # Given, so that one program serves with and without an absent head.
        present=jnp.ones(len(grads), bool) if present is None else present,
    )


@functools.cache
def problem(seed=0, dtype=jnp.float32):
    """The signals of the usual heads, made once."""
    return make_signals(make_grads(seed=seed), seed=seed, dtype=dtype)


def start(name, balancer, names, params=None):
    """A state, made with the params (those of `make_grads`) if it takes them."""
    if not _cases.CASES[name].params:
        return balancer.init(names)
    return balancer.init(names, make_grads(("a",))["a"] if params is None else params)


TRACES: collections.Counter = collections.Counter()
"""How often the update of a name, prepared for the usual heads, was traced."""


@functools.cache
def prepare(name, names=_cases.NAMES):
    balancer = _cases.make(name, names)

    @jax.jit
    def update(signals, state):
        TRACES[name] += names == _cases.NAMES
        return balancer.update(signals, state)

    return balancer, update, start(name, balancer, names)


def library_states(state):
    """The state and those within it that balancers of the library made."""
    if isinstance(getattr(state, "names", None), hw.balancers.Names):
        yield state
        for field in state:
            yield from library_states(field)


def assert_same(got, expected, rtol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def shapes(tree):
    return jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), tree)
