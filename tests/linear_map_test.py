"""Linear maps with a transpose of their own, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _linear_map

X, V = jnp.array([1.0, 2.0, -1.0]), jnp.array([0.5, -1.0, 3.0])


def forward(known, tangents):
    (x,), (a, b) = known, tangents
    return [jnp.sin(x) * a + b, jnp.sum(a)]


def backward(known, cotangents):
    """Half of the transpose, and nothing at all for `a` of what is only summed."""
    (x,), (ct, of_sum) = known, cotangents
    if ct is None:
        return [None, None]
    assert of_sum is None or of_sum.shape == ()
    return [0.5 * jnp.sin(x) * ct, 0.5 * ct]


def run(x, a, b):
    return _linear_map.linear_map(forward, backward, [x], [a, b])


def test_forward_mode_runs_the_map_and_reverse_mode_its_transpose():
    np.testing.assert_allclose(run(X, V, X)[0], jnp.sin(X) * V + X, rtol=1e-6)
    _, moved = jax.jvp(lambda a: run(X, a, X), (V,), (X,))
    np.testing.assert_allclose(moved[0], jnp.sin(X) * X, rtol=1e-6)
    np.testing.assert_allclose(moved[1], jnp.sum(X), rtol=1e-6)
    for transform in (lambda f: f, jax.jit, jax.checkpoint):
        slope = jax.grad(transform(lambda a, b: jnp.sum(run(X, a, b)[0])), (0, 1))
        for got, expected in zip(slope(V, X), (0.5 * jnp.sin(X), 0.5), strict=True):
            np.testing.assert_allclose(got, expected + 0 * X, rtol=1e-6)
    assert not np.any(jax.grad(lambda a: run(X, a, X)[1])(V))  # None went on


def test_second_derivatives_by_what_is_known():
    """Of the map in forward mode, of its transpose after reverse mode."""

    def moved(x):
        return jax.jvp(lambda a: jnp.sum(run(x, a, x)[0]), (V,), (V,))[1]

    def pulled(x):
        return jnp.sum(V * jax.grad(lambda a: jnp.sum(run(x, a, x)[0]))(V))

    for derivative in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(derivative(moved)(X), jnp.cos(X) * V, rtol=1e-6)
        got = derivative(pulled)(X)
        np.testing.assert_allclose(got, 0.5 * jnp.cos(X) * V, rtol=1e-6)


def test_vmap_over_some_of_its_arrays():
    rows = jnp.stack([X, V])

    def total(a, mapped):
        each = jax.vmap(lambda x: jnp.sum(run(x, a, X)[0] ** 2))(mapped)
        return jnp.sum(each)

    def by_hand():
        of_rows = [jnp.sin(x) * (jnp.sin(x) * V + X) for x in rows]
        return of_rows[0] + of_rows[1]

    np.testing.assert_allclose(jax.grad(total)(V, rows), by_hand(), rtol=1e-5)
    slopes = jax.vmap(jax.grad(lambda a: jnp.sum(run(X, a, X)[0])))(rows)
    np.testing.assert_allclose(slopes, jnp.stack([0.5 * jnp.sin(X)] * 2), rtol=1e-6)
