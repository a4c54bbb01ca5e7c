"""A step is one program: its state comes back with the types and places it had."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import headwise as hw
from tests.balancers import _cases
from tests.training import _bilevel_cases

B, T = hw.balancers, hw.training
NAMES = _cases.NAMES
rng = np.random.default_rng(0)
SHAPES = {"trunk": (4, 8), **dict.fromkeys(NAMES, (8, 4))}
PARAMS = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in SHAPES.items()}
BATCH = jnp.asarray(rng.normal(size=(24, 4)), jnp.float32)
WHOLE, SPLIT = P(), P("d")

compiled: list[str] = []


def note(event, duration, **of_event):
    del duration, of_event
    if "backend_compile" in event:
        compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(note)


def values_fn(params, batch):
    h = jnp.tanh(batch @ params["trunk"])
    return {n: jnp.mean((h @ params[n] - i) ** 2) for i, n in enumerate(NAMES)}


def on_mesh(kind, spec, tree):
    axis_types = (getattr(AxisType, kind),)
    mesh = jax.make_mesh((4,), ("d",), axis_types=axis_types)
    return jax.device_put(tree, NamedSharding(mesh, spec))


def trained(balancer, optimizer, params, batch):
    """The parameters after three steps, and what each step compiled."""
    step = jax.jit(T.make_step(values_fn, optimizer, balancer))
    state = T.init_state(NAMES, params, optimizer, balancer)
    return steps(step, state, batch)


def steps(step, state, batch):
    counts = []
    for _ in range(3):
        compiled.clear()
        state, _ = step(state, batch)
        counts.append(len(compiled))
    return jax.device_get(state.params), counts


def types(tree):
    """Shape, dtype, whether that gives way to others, and where it lies."""

    def of(x):
        kind = jax.typeof(x)
        return kind.shape, kind.dtype, getattr(kind, "weak_type", False), kind.sharding

    return jax.tree.map(of, tree)


def assert_types_stay(balancer, **options):
    """On a mesh with explicit axes types tell where arrays lie, before any compiler.

    No dtype gives way to another where float64 is allowed, nor is any promoted.
    """
    optimizer = optax.adam(0.1)
    split = functools.partial(on_mesh, "Explicit", SPLIT)
    params, batch = split(PARAMS), split(BATCH)
    with jax.set_mesh(batch.sharding.mesh):
        state = T.init_state(NAMES, params, optimizer, balancer)
        step = T.make_step(values_fn, optimizer, balancer, **options)
        with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
            new, _ = jax.eval_shape(step, state, batch)
    assert types(new) == types(state)


@pytest.mark.parametrize("name", _cases.CASES)
def test_of_every_balancer(name):
    assert_types_stay(_cases.make(name))


@pytest.mark.parametrize(
    ("balancer", "options"),
    [
        (B.mgda(), {"private": "own", "contributions": True}),
        (B.equal(), {"private": "own", "contributions": 2}),
        (B.mgda(), {"private": "own", "microbatches": 2}),
        (B.equal(), {"private": "own", "microbatches": 2, "contributions": 2}),
        (B.famo(), {"microbatches": 2}),
        (B.mgda(), {"wrt": "features"}),
    ],
)
def test_of_every_option(balancer, options):
    assert_types_stay(balancer, **options)


# One of every kind of state, and of every way to it.
KINDS = {
    "constant": B.constant(_cases._case.WEIGHTS),
    "uncertainty": B.uncertainty(),
    "famo": B.famo(),
    "dwa": B.warm_up(B.dwa(), 1),
    "imtl_g": B.every(2, B.imtl_g()),
    "gradnorm": B.gradnorm(),
    "modo": B.modo(),
    "config": B.config(momentum=0.9),
    "graddrop": B.graddrop(),
}


@pytest.mark.parametrize("name", KINDS)
def test_of_a_kind_of_balancer(name):
    """Without a further word: neither shardings for jit, nor a mesh that is set."""
    run = functools.partial(trained, KINDS[name], optax.adam(0.1))
    want, once = run(PARAMS, BATCH)
    got, twice = run(*(on_mesh("Auto", SPLIT, x) for x in (PARAMS, BATCH)))
    assert once[1:] == twice[1:] == [0, 0]
    for n in want:
        np.testing.assert_allclose(got[n], want[n], rtol=1e-5, atol=1e-5)


OPTIMIZERS = {
    "momentum": optax.sgd(0.1, momentum=0.9),
    "lbfgs": optax.lbfgs(),
    "partition": optax.partition(
        {"heads": optax.adam(0.1), "frozen": optax.set_to_zero()},
        {"trunk": "frozen", **dict.fromkeys(NAMES, "heads")},
    ),
    "hyperparameters": optax.inject_hyperparams(optax.adamw)(0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_of_a_kind_of_optimizer(name):
    run = functools.partial(trained, B.equal(), OPTIMIZERS[name])
    want, once = run(PARAMS, BATCH)
    whole, split = on_mesh("Auto", WHOLE, PARAMS), on_mesh("Auto", SPLIT, BATCH)
    got, twice = run(whole, split)
    assert once[1:] == twice[1:] == [0, 0]
    for n in want:
        np.testing.assert_allclose(got[n], want[n], rtol=1e-4, atol=1e-4)


def test_on_explicit_axes_and_on_another_device():
    run = functools.partial(trained, B.imtl_g(), optax.adam(0.1))
    split = functools.partial(on_mesh, "Explicit", SPLIT)
    other = functools.partial(jax.device_put, device=jax.devices()[1])
    for put in (split, other):
        assert run(put(PARAMS), put(BATCH))[1][1:] == [0, 0]


def test_of_parameters_that_are_numbers():
    """Their type gives way to others, and that of the next parameters does not."""
    sgd, balancer = optax.sgd(0.1), B.equal()
    state = T.init_state(["a"], {"w": 0.5}, sgd, balancer, rest=1.0)
    step = T.make_step(lambda p, x: {"a": (p["w"] - x) ** 2}, sgd, balancer)
    assert types(jax.eval_shape(step, state, 1.0)[0]) == types(state)
    jax.lax.scan(step, state, jnp.ones(3))


def test_of_a_bilevel_step():
    params, batches = _bilevel_cases.make_case(np.float32)
    params, optimizer = on_mesh("Auto", WHOLE, params), optax.adam(0.1)
    method = T.auto_lambda()
    step = T.make_bilevel_step(_bilevel_cases.values_fn, optimizer, method)
    state = T.init_bilevel_state(_bilevel_cases.NAMES, params, optimizer, method)
    assert steps(jax.jit(step), state, batches)[1][1:] == [0, 0]
