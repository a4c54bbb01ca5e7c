"""Gradients of dense layers' parameters, whose activations are turned once on CPU."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import headwise as hw
from headwise import _xla
from tests.gradients import _programs

METHODS = ("sequential", "batched")
GRAMIANS = ("sequential", "lockstep", "batched")

# Activations, parameter, axes that are contracted of each.
CASES = {
    "dense": ((5, 3), (3, 4), ((1,), (0,))),
    "transposed": ((5, 3), (4, 3), ((1,), (1,))),
    "sequences": ((2, 5, 3), (3, 4), ((2,), (0,))),
    "heads of attention": ((2, 5, 3), (3, 2, 4), ((2,), (0,))),
    "merged heads": ((2, 5, 2, 3), (2, 3, 4), ((2, 3), (0, 1))),
    "axes in another order": ((3, 5, 2), (4, 2, 3), ((0, 2), (2, 1))),
    "last axis of three": ((5, 3), (4, 2, 3), ((1,), (2,))),
    "first axis": ((3, 5), (4, 3, 2), ((0,), (1,))),
    "vectors": ((3,), (3, 4), ((0,), (0,))),
    "one output": ((5, 3), (3,), ((1,), (0,))),
    "outer": ((5,), (4,), ((), ())),
}


def program(axes, **options):
    """Two heads on one product, and one on another with the same parameter."""

    def values_fn(params, x):
        y = lax.dot_general(x, params["w"], (axes, ((), ())), **options)
        z = lax.dot_general(jnp.cos(x), params["w"], (axes, ((), ())), **options)
        return {
            "a": jnp.sum(jnp.sin(y)),
            "b": jnp.sum(y**2 + z),
            "c": jnp.sum(z**3 * params["scale"]),
        }

    return values_fn


def draw(case, dtype=jnp.float64):
    rng = np.random.default_rng(0)
    x, w, axes = CASES[case]
    params = {"scale": jnp.asarray(1.5, dtype), "w": jnp.asarray(rng.normal(size=w))}
    return program(axes), params, jnp.asarray(rng.normal(size=x), dtype)


@pytest.mark.parametrize("case", CASES)
def test_equal_jax_grad(case):
    with jax.enable_x64(True):
        values_fn, params, x = draw(case)

        def all_of(params, x):
            return (
                _programs.one_by_one(values_fn, params, x),
                [hw.head_grads(values_fn, method=m)(params, x)[1] for m in METHODS],
                [hw.head_gramian(values_fn, method=m)(params, x)[1] for m in GRAMIANS],
            )

        grads, mine, grams = jax.device_get(_programs.quickly(all_of, params, x))
        for got in mine:
            _programs.assert_close(got, grads, 1e-13)
        gram = _programs.gramian(grads)
        for got in grams:
            np.testing.assert_allclose(got, gram, rtol=1e-12)


@pytest.mark.parametrize("precision", [None, "highest", ("highest", "default")])
def test_precision_is_kept(precision):
    x, _, axes = CASES["dense"]
    values_fn = program(axes, precision=precision)
    params = {"scale": jnp.ones(()), "w": jnp.ones((3, 4))}
    text = str(jax.make_jaxpr(hw.head_grads(values_fn))(params, jnp.ones(x)))
    if precision == "highest":
        assert text.count("dot_general[") == text.count("Precision.HIGHEST, Prec")
    elif precision is None:
        assert "Precision" not in text
    else:
        assert text.count("Precision.HIGHEST") == text.count("dot_general[")


def test_activations_are_turned_once_for_all_heads():
    values_fn, params, x = draw("dense", jnp.float32)
    params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    jaxpr = jax.make_jaxpr(hw.head_grads(values_fn))(params, x).jaxpr
    # x for the heads a and b, cos(x) for b and c.
    assert _programs.count(jaxpr, "optimization_barrier") == 2
    # One weighted pass would use them once.
    balancer = hw.balancers.equal()
    f = hw.balanced_grad(values_fn, balancer)
    jaxpr = jax.make_jaxpr(f)(params, balancer.init(["a", "b", "c"]), x).jaxpr
    assert _programs.count(jaxpr, "optimization_barrier") == 0


@pytest.mark.parametrize("method", METHODS)
def test_is_differentiable_again(method):
    with jax.enable_x64(True):
        values_fn, params, x = draw("heads of attention")

        def steepness(grads):
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grads))

        def mine(p):
            return steepness(hw.head_grads(values_fn, method=method)(p, x)[1])

        def by_jax(p):
            return steepness(_programs.one_by_one(values_fn, p, x))

        def both(p):
            return jax.grad(mine)(p), jax.grad(by_jax)(p)

        _programs.assert_close(*_programs.quickly(both, params), 1e-12)


def attention(width):
    def values_fn(params, x):
        q = x @ params["q"]
        mixed = jax.nn.softmax(q @ q.swapaxes(-1, -2)) @ x
        return {"a": jnp.mean(mixed), "b": jnp.mean(mixed**2)}

    params = {"q": jax.ShapeDtypeStruct((width, width), jnp.float32)}
    return values_fn, params, jax.ShapeDtypeStruct((2, 3, width), jnp.float32)


WIDEST = math.isqrt(_xla.STACKED_SIZE)


@pytest.mark.parametrize(
    ("width", "batched"), [(8, True), (WIDEST, True), (WIDEST + 1, False)]
)
def test_heads_are_stacked_where_attention_is_small(width, batched):
    values_fn, params, x = attention(width)
    found = []

    def look(params, x):
        plain = hw.gradients.with_aux(values_fn, False)
        _, _, backward = hw.gradients.linearize(plain, params, x)
        found.append(backward.is_batched("auto"))
        return backward.rows()

    jax.eval_shape(look, params, x)
    assert found == [batched]
