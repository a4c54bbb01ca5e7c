"""A function traced once runs as often as wanted, and differentiates as before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise import _traced

pytestmark = pytest.mark.optimized


def test_traced_once_and_run_often():
    calls = []

    def function(p, x):
        calls.append(x)
        return {"b": jnp.sum(p["w"] * x), "a": (x, None)}, jax.nn.relu(x)

    params, x = {"w": jnp.array([1.0, -2.0])}, jnp.array([3.0, -4.0])
    program = _traced.traced(function, params, x)
    assert len(calls) == 1
    assert program.shape[0]["b"].shape == ()
    for factor in (1.0, -0.5):
        got, want = program(params, factor * x), function(params, factor * x)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        jax.tree.map(np.testing.assert_array_equal, got, want)
    grads = jax.grad(lambda p: program(p, x)[0]["b"])(params)
    np.testing.assert_array_equal(grads["w"], x)
    # calls: the trace, and the two that were compared with
    assert len(calls) == 3


def test_closes_over_arrays_of_an_outer_trace():
    @jax.jit
    def outer(scale, x):
        program = _traced.traced(lambda x: scale * x, x)
        return jax.lax.cond(x > 0, program, lambda x: x, x), program(x)

    assert outer(3.0, 2.0) == (6.0, 6.0)
    assert outer(3.0, -2.0) == (-2.0, -6.0)
