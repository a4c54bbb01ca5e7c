"""Static misuse of options that several transforms share is named."""

import jax
import jax.numpy as jnp
import optax
import pytest

import headwise as hw


def values_fn(p):
    return {"a": p["x"]["w"] * 2.0, "b": p["x"]["w"] ** 2}


PARAMS = {"x": {"w": 3.0}}
GRADS = {"a": PARAMS, "b": PARAMS}
TRANSFORMS = {
    "head_grads": hw.head_grads,
    "head_gramian": hw.head_gramian,
    "with_aux": lambda f, has_aux=False: hw.gradients.with_aux(f, has_aux),
    "monitor": lambda f, **options: hw.gradients.monitor(f, 2, **options),
    "affinity": lambda f, **options: hw.affinity(f, optax.sgd(0.1), **options),
    "routing": lambda f, **options: hw.routing(f, PARAMS, **options),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_values_fn_and_has_aux(transform):
    with pytest.raises(TypeError, match="values_fn: expected a callable, got dict"):
        TRANSFORMS[transform]({})
    with pytest.raises(TypeError, match="has_aux: expected True or False, got 1"):
        TRANSFORMS[transform](values_fn, has_aux=1)


def test_relative():
    with pytest.raises(TypeError, match="relative: expected True or False, got 'no'"):
        hw.affinity(values_fn, optax.sgd(0.1), relative="no")


@pytest.mark.parametrize("depth", [0, -1, 1.5, True, jnp.ones(2)])
@pytest.mark.parametrize(
    "report",
    [
        lambda depth: hw.contributions(GRADS, depth=depth),
        lambda depth: hw.routing(values_fn, PARAMS).by_module(depth),
        lambda depth: hw.routing(values_fn, PARAMS).moves("a", depth),
        lambda depth: hw.routing(values_fn, PARAMS).mermaid(depth),
    ],
)
def test_depth(report, depth):
    with pytest.raises(ValueError, match="depth: expected a positive int, got"):
        report(depth)


@pytest.mark.parametrize("compiled", [False, True])
def test_arrays_written_in_place_are_refused(compiled):
    """Taken apart, the equations around a reference gave 12 for 27; w^3 at 3."""

    def in_place(p):
        w = p["x"]["w"]
        ref = jax.new_ref(1.0 * w)
        ref[...] = ref[...] * w
        return {"a": ref[...] * w, "b": w**2}

    f = jax.jit(in_place) if compiled else in_place
    for transform in (hw.head_grads, hw.head_gramian):
        with pytest.raises(ValueError, match=r"written in place \(jax.new_ref\)"):
            transform(f)(PARAMS)
    assert hw.routing(f, PARAMS).reaches["a"] == {"x": {"w": True}}
    assert jax.jacrev(f)(PARAMS)["a"] == {"x": {"w": 27.0}}
