"""How often a step runs the Python of `values_fn` while it is traced."""

import jax
import jax.numpy as jnp
import optax
import pytest

import headwise as hw

NAMES = ("a", "b")
PARAMS = {"trunk": jnp.ones((3, 4)), "a": jnp.ones((4, 2)), "b": jnp.ones((4, 1))}
X = jnp.ones((12, 3))


def counted():
    """A model, and a list that grows by an entry with every trace of it."""
    traces = []

    def values_fn(p, x):
        traces.append(x.shape)
        h = jnp.tanh(x @ p["trunk"])
        return {
            "b": jnp.mean(jnp.abs(h @ p["b"] + 2.0)),
            "a": jnp.mean(jnp.square(h @ p["a"] - 1.0)),
        }

    return values_fn, traces


B = hw.balancers


@pytest.mark.parametrize(
    ("name", "balancer", "options", "traces"),
    [
        ("values", B.equal(), {}, 1),
        ("gramian", B.mgda(), {}, 1),
        ("gradients", B.graddrop(), {}, 1),
        ("features", B.mgda(), {"wrt": "features"}, 1),
        ("one part of the parameters", B.mgda(), {"wrt": lambda path: "t" in path}, 1),
        ("own, by values", B.equal(), {"private": "own"}, 1),
        ("own, by a gramian", B.mgda(), {"private": "own"}, 1),
        ("two batches", B.modo(batches=2), {}, 1),
        ("three batches", B.sdmgrad(), {}, 1),
        ("microbatches", B.equal(), {"microbatches": 3}, 1),
        ("microbatches, gramian", B.mgda(), {"microbatches": 3}, 1),
        ("every", B.every(2, B.mgda()), {}, 1),
        ("every, two batches", B.every(2, B.modo()), {}, 1),
        ("contributions", B.equal(), {"contributions": True}, 1),
        # A sample is a program of its own: it runs in some steps only.
        ("contributions now and then", B.equal(), {"contributions": 5}, 2),
        # Where the parameters have moved, the model runs once more.
        ("after", B.famo(), {}, 2),
        ("every, after", B.every(2, B.famo()), {}, 2),
        ("after, contributions now and then", B.famo(), {"contributions": 5}, 3),
    ],
)
def test_of_a_step(name, balancer, options, traces):
    values_fn, seen = counted()
    optimizer = optax.sgd(0.1)
    step = hw.training.make_step(values_fn, optimizer, balancer, **options)
    state = hw.training.init_state(NAMES, PARAMS, optimizer, balancer)
    jax.eval_shape(step, state, X)
    assert len(seen) == traces, name


@pytest.mark.parametrize(
    ("method", "traces"),
    [
        # The training batch, inside the inner steps, the validation batch.
        (hw.training.auto_lambda(), 3),
        (hw.training.moml(), 3),
        # Finite differences look at two points; FORUM at where the inner steps end.
        (hw.training.auto_lambda(hypergradient="finite_difference"), 4),
        (hw.training.forum(), 4),
    ],
)
@pytest.mark.parametrize("contributions", [False, True])
def test_of_a_bilevel_step(method, traces, contributions):
    values_fn, seen = counted()
    optimizer = optax.sgd(0.1)
    step = hw.training.make_bilevel_step(
        values_fn, optimizer, method, contributions=contributions
    )
    state = hw.training.init_bilevel_state(NAMES, PARAMS, optimizer, method)
    jax.eval_shape(step, state, (X, X))
    assert len(seen) == traces
