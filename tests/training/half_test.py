"""Half precision in: what is weighed, summed and measured is so in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.balancers._gramian import _gradvac
from headwise.training import _bilevel_forum

SMALL = {"a": 1e-8, "b": 3e-8}
"""As float16 the first is 0 and the second 6e-8, its least number."""


def values_fn(params, x):
    """Gradients of about 1e4, in float16 far from its ends."""
    h = jnp.tanh(x @ params["trunk"])
    return {
        "a": 3e4 * jnp.mean(jnp.square(h @ params["a"]).astype(jnp.float32)),
        "b": 2e4 * jnp.mean(jnp.sin(h @ params["b"]).astype(jnp.float32)),
    }


def fixed(needs):
    def update(signals, state):
        weights = jnp.array(list(SMALL.values()))
        return hw.balancers.Decision(weights), state

    return hw.balancers.Balancer(lambda names, params=None: (), update, needs)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_small_weights_do_not_vanish(dtype):
    rng = np.random.default_rng(0)
    shapes = {"trunk": (4, 3), "a": (3, 2), "b": (3, 2)}
    params = {n: jnp.array(rng.normal(size=s), dtype) for n, s in shapes.items()}
    x = jnp.array(rng.normal(size=(8, 4)), dtype)

    @jax.jit
    def gradients(params, x):
        ways = [fixed(needs) for needs in ("values", "gramian", "grads")]
        ways.append(hw.balancers.constant(SMALL))
        return [
            hw.balanced_grad(values_fn, balancer)(params, balancer.init(["a", "b"]), x)[
                0
            ]
            for balancer in ways
        ]

    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, x))
    for mine, expected in zip(gradients(params, x), gradients(*wide), strict=True):
        for name, g in mine.items():
            assert g.dtype == dtype
            # Several roundings along the path, of 2^-11 or 2^-8 of the largest.
            size = 8 * float(jnp.finfo(dtype).eps) * np.abs(expected[name]).max()
            np.testing.assert_allclose(g.astype(np.float32), expected[name], atol=size)


def test_sums_of_rows_are_float32():
    """1e-8 * 4e4 - 2e-8 * 1e4 = 2e-4, by hand."""
    rows = [jnp.full(2, x, jnp.float16) for x in (4e4, 1e4)]
    factors = jnp.array([1e-8, -2e-8])
    nothing = jnp.zeros(2, jnp.float16)
    for total in (
        _gradvac._sum(factors, rows),
        _bilevel_forum._combined(factors, rows, jnp.zeros(()), nothing),
    ):
        assert total.dtype == jnp.float16
        np.testing.assert_allclose(np.float32(total), 2e-4, rtol=1e-3)
