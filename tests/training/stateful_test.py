"""One word for one thing: a model with a rest gives the numbers of one without.

The stateful model of all below, with its rest and its key held, is a stateless one.
Whatever takes a `values_fn` gives the same for both, and hands on the rest.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

T = hw.training
NAMES = ("y1", "y2")
ONES = jnp.ones((1, 2))
PARAMS = {"trunk": jnp.array([[0.5, -0.3]]), "c": ONES, "d": ONES}
REST = {"mean": jnp.array([[0.1, 0.2]]), "count": jnp.array(3)}
BATCH = jnp.array([[1.0, 2.0], [-1.0, 0.5], [0.3, 0.3], [2.0, -2.0]])
ADAM, SGD = optax.adam(0.1), optax.sgd(1.0)
KEY = jax.random.key(7)


def of_step():
    """The keys of the first step of a run: the model's, the balancer's."""
    return jax.random.split(jax.random.fold_in(KEY, 0))


def stateful_fn(params, rest, batch, key):
    """Normalised by running means, with noise."""
    noise = 0.1 * jax.random.normal(key, batch.shape)
    h = jnp.tanh((batch - rest["mean"] + noise) * params["trunk"])
    values = {
        "y1": jnp.mean((h * params["c"] - 1.0) ** 2),
        "y2": jnp.mean((h * params["d"] + 1.0) ** 2),
    }
    mean = 0.9 * rest["mean"] + 0.1 * jnp.mean(batch, axis=0, keepdims=True)
    return values, {"mean": mean, "count": rest["count"] + 1}


def stateless_fn(params, batch):
    return stateful_fn(params, REST, batch, of_step()[0])[0]


def with_aux(f, args, stateful=False):
    values, rest = hw.gradients.with_aux(f, False, stateful)(PARAMS, *args)
    return ((values, rest) if stateful else values), ()


def affinity(f, args, **kind):
    return hw.affinity(f, ADAM, **kind)(PARAMS, ADAM.init(PARAMS), *args)


def monitor(f, args, **kind):
    return None, hw.gradients.monitor(f, 2, **kind)(0, PARAMS, *args)


def routing(f, args, **kind):
    return None, hw.routing(f, PARAMS, *args, **kind).reaches


def balanced_grad(balancer, **options):
    def way(f, args, stateful=False):
        transformed = hw.balanced_grad(f, balancer, stateful=stateful, **options)
        state = balancer.init(NAMES, PARAMS)
        grads, info, state = transformed(PARAMS, state, *args, key=of_step()[1])
        told = (info.values, info.aux) if stateful else info.values
        return told, (grads, info._replace(aux=None), state)

    return way


def make_step(balancer, **options):
    def way(f, args, stateful=False):
        step = T.make_step(f, ADAM, balancer, stateful=stateful, **options)
        rest = REST if stateful else ()
        state = T.init_state(NAMES, PARAMS, ADAM, balancer, rest, KEY)
        state, info = step(state, BATCH)
        told = (info.values, state.rest) if stateful else info.values
        return told, (state._replace(rest=(), key=None), info)

    return way


def make_bilevel_step(f, args, stateful=False):
    """Training and validation draw by keys of their own; here by one."""

    def one_key(params, rest, batch, key):
        return f(params, rest, batch, of_step()[0])

    method = T.auto_lambda()
    one = one_key if stateful else f
    step = T.make_bilevel_step(one, SGD, method, stateful=stateful)
    rest = REST if stateful else ()
    state = T.init_bilevel_state(NAMES, PARAMS, SGD, method, rest)
    state, info = step(state, (BATCH, BATCH[::-1]))
    told = (info.values, state.rest) if stateful else info.values
    return told, (state._replace(rest=(), key=None), info)


WAYS = {
    "with_aux": with_aux,
    "head_grads": lambda f, args, **kind: hw.head_grads(f, **kind)(PARAMS, *args),
    "head_gramian": lambda f, args, **kind: hw.head_gramian(f, **kind)(PARAMS, *args),
    "affinity": affinity,
    "monitor": monitor,
    "routing": routing,
    "balanced_grad": balanced_grad(hw.balancers.imtl_g()),
    "balanced_grad, of values": balanced_grad(
        hw.balancers.random_weighting(), private="own", head_grads=True
    ),
    "balanced_grad, of a part": balanced_grad(
        hw.balancers.graddrop(), trainable={"trunk": True, "c": True, "d": False}
    ),
    "make_step": make_step(hw.balancers.random_weighting(), contributions=True),
    "make_bilevel_step": make_bilevel_step,
}


@pytest.fixture(scope="module")
def told():
    """{way: (what it told of the stateful model, of the stateless one)}."""

    def of_both(way):
        args = (REST, BATCH, of_step()[0])
        return way(stateful_fn, args, stateful=True), way(stateless_fn, (BATCH,))

    @jax.jit
    def all_of_them():
        model = stateful_fn(PARAMS, REST, BATCH, of_step()[0])
        return {name: of_both(way) for name, way in WAYS.items()}, model

    return all_of_them()


def assert_same(got, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        got,
        expected,
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_rest_changes_no_number(told, way):
    ways, (values, rest) = told
    (of_stateful, numbers), (of_stateless, same) = ways[way]
    assert_same(numbers, same)
    if of_stateless is not None:
        assert_same(of_stateless, values)
        assert_same(of_stateful, (values, rest))


def test_parts_of_a_batch_hand_on_the_rest_as_in_a_step():
    balancer = hw.balancers.imtl_g()
    kind = dict(stateful=True, microbatches=2)
    step = T.make_step(stateful_fn, SGD, balancer, **kind)
    state = T.init_state(NAMES, PARAMS, SGD, balancer, REST, KEY)

    @jax.jit
    def both():
        f = hw.balanced_grad(stateful_fn, balancer, **kind)
        key, other = of_step()
        grads, info, _ = f(PARAMS, state.balancer, REST, BATCH, key, key=other)
        return (grads, info.values, info.aux), step(state, BATCH)

    (grads, values, rest), (new, info) = both()
    assert int(rest["count"]) == 5
    assert_same((values, rest), (info.values, new.rest))
    # The step of length 1 of SGD is a difference of numbers of order 1.
    moved = jax.tree.map(lambda old, new: old - new, PARAMS, new.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        grads,
        moved,
    )


def test_every_function_of_a_values_fn_takes_the_word():
    takes = {
        f"{layer}.{name}": inspect.signature(thing).parameters
        for layer in ("gradients", "training")
        for name, thing in vars(getattr(hw, layer)).items()
        if inspect.isfunction(thing)
    }
    those = {name for name, words in takes.items() if "values_fn" in words}
    assert len(those) >= 9
    assert those == {name for name, words in takes.items() if "stateful" in words}
