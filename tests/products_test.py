"""Inner products of long arrays against float64 sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise import _products

# On both sides of what is stacked.
SHAPES = [(), (7,), (300, 1), (3, 3, 8, 32), (_products.PAIRWISE_SIZE // 8, 8)]


def draw(shape, dtype, count=3):
    rng = np.random.default_rng(len(shape))
    arrays = rng.normal(size=(count + 1, *shape))
    if np.issubdtype(dtype, np.complexfloating):
        arrays = arrays + 1j * rng.normal(size=arrays.shape)
    # The reference reads the rounded entries.
    return [jnp.asarray(x, dtype) for x in arrays]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
@pytest.mark.parametrize("shape", SHAPES)
def test_along_equals_float64(shape, dtype):
    u, *rows = draw(shape, dtype)
    got = jax.jit(_products.along, static_argnums=2)(rows, u, (0, 2))
    wide = [np.asarray(x).astype(np.complex128) for x in (rows[0], rows[2], u)]
    expected = [np.sum(g * wide[2].conj()).real for g in wide[:2]]
    assert got.dtype == jnp.float32
    assert got[1] == 0
    # Float32 sums of up to 65536 products of size 1, whose sum is about 256.
    close = dict(rtol=1e-5, atol=1e-6 * np.sqrt(u.size))
    np.testing.assert_allclose(got[jnp.array([0, 2])], expected, **close)


def test_along_does_not_read_what_is_not_reached():
    u, *rows = draw((4, 64), jnp.float32)
    rows[1] = jnp.full((4, 64), jnp.nan)
    assert jnp.all(jnp.isfinite(_products.along(rows, u, [0, 2])))
    np.testing.assert_array_equal(_products.along(rows, u, []), np.zeros(3))


def test_along_under_vmap():
    u, *rows = draw((2, 5, 40), jnp.float32)
    got = jax.vmap(lambda rows, u: _products.along(rows, u, [0, 1, 2]))(rows, u)
    for i in range(2):
        one = _products.along([g[i] for g in rows], u[i], [0, 1, 2])
        np.testing.assert_allclose(got[i], one, rtol=1e-6)
