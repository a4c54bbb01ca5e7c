"""Inner products of long arrays against float64 sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from headwise import _products
from headwise import _xla

pytestmark = pytest.mark.optimized

LONG = _xla.PAIRWISE_SIZE
SHORTEST, LONGEST = _xla.TOGETHER_ROWS
# On both sides of what is stacked, and of what one loop reduces.
SHAPES = [
    (),
    (7,),
    (300, 1),
    (3, 3, 8, 32),
    (LONG // 8, 8),
    (LONG // SHORTEST, SHORTEST),
    (3, LONG // 1024, LONGEST),
    (LONG // 2048, 2048),
    (LONG,),
]


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


@pytest.mark.parametrize("shape", [(7,), (LONG // 64, 64), (LONG,)])
def test_nonzero(shape):
    zeros, ones = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    last, nan = zeros.copy(), zeros.copy()
    last.flat[-1] = -2e-38  # Almost the smallest normal number.
    nan.flat[3] = np.nan
    # More than are reduced together, with others in between.
    arrays = [zeros, last, np.zeros(2), nan, ones, -zeros] * 8
    got = jax.jit(_products.nonzero)(arrays)
    assert list(map(bool, got)) == [False, True, False, True, True, False] * 8
    assert _products.nonzero([]) == []


@pytest.mark.parametrize("spec", [("d",), (None, "d")])
def test_split_over_devices(spec):
    u, *rows = draw((256, 512), jnp.float32)
    one = _products.along(rows, u, [0, 2])
    mesh = jax.make_mesh((4,), ("d",))
    split = NamedSharding(mesh, PartitionSpec(*spec))
    u, *rows = jax.device_put([u, *rows], split)
    got = jax.jit(_products.along, static_argnums=2)(rows, u, (0, 2))
    # Float32 sums of 131072 products of size 1, in another order.
    np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-6 * np.sqrt(u.size))
    zero = jax.device_put(jnp.zeros(u.shape), split)
    assert list(map(bool, jax.jit(_products.nonzero)([u, zero]))) == [True, False]


def test_long_sums_do_not_lose_small_terms():
    """One long column of sums: a float32 sum one by one would stop at 2^24."""
    ones = jnp.ones((2**18, 128))
    heads = 20  # More than one loop takes.
    got = jax.jit(lambda g: _products.along([g] * heads, g, range(heads)))(ones)
    np.testing.assert_array_equal(got, [2.0**25] * heads)


def test_along_under_vmap():
    u, *rows = draw((2, 5, 40), jnp.float32)
    got = jax.vmap(lambda rows, u: _products.along(rows, u, [0, 1, 2]))(rows, u)
    for i in range(2):
        one = _products.along([g[i] for g in rows], u[i], [0, 1, 2])
        np.testing.assert_allclose(got[i], one, rtol=1e-6)


@pytest.mark.parametrize("heads", [1, 3, 20])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_stacks_over_their_heads_equal_float64(heads, dtype):
    stack = jnp.stack(draw((5, 6), dtype, heads)[1:])
    weights = jnp.linspace(0.5, 2.0, heads)
    x, w = np.asarray(stack, np.float64), np.asarray(weights, np.float64)
    # Up to 20 terms below 8, summed in float32, then rounded to the dtype.
    close = dict(rtol=float(jnp.finfo(dtype).eps), atol=20 * 160 * 2.0**-24)
    for got, want in (
        (jax.jit(_products.summed)(stack), x.sum(0)),
        (jax.jit(_products.largest)(stack), x.max(0)),
        (jax.jit(_products.of_stack)(weights, stack), np.tensordot(w, x, 1)),
    ):
        assert got.dtype == dtype
        np.testing.assert_allclose(np.asarray(got, np.float64), want, **close)
    broken = stack.at[0].set(jnp.nan)
    got = _products.of_stack(weights.at[0].set(0.0), broken)
    want = np.tensordot(w[1:], x[1:], 1)
    np.testing.assert_allclose(np.asarray(got, np.float64), want, **close)


def test_inner_products_of_several_stacks_equal_float64():
    stacks = [jnp.stack(draw((5, 6), jnp.float32, 2 + i)[-2:]) for i in range(3)]
    wide = np.asarray(stacks, np.float64).reshape(3, 2, 30)
    got = jax.jit(_products.of_each)(jnp.stack(stacks))
    np.testing.assert_allclose(got, wide @ wide.swapaxes(1, 2), rtol=1e-5, atol=1e-4)
