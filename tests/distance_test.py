"""Exact distances: equal to SciPy's, in jit and vmap, in little memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec
from scipy import ndimage

from headwise import _distance
from tests import _compiled

SHAPES = {
    "1-D": (40,),
    "2-D": (17, 30),
    "long": (3, 700),
    "3-D": (9, 14, 11),
    "thin": (1, 8, 1),
    "4-D": (4, 5, 3, 6),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
SPACING = (0.7, 2.0, 1.3, 0.25)

# One rounding of each of up to four squares, their sum and the root: 6e-8 each.
ROUNDING = dict(rtol=4e-7)

# One program a shape, instead of one an operation.
squared_distances = jax.jit(_distance.squared_distances, static_argnums=(1, 2, 3))
surface = jax.jit(_distance.surface, static_argnums=1)
distances = jax.jit(_distance.distance_transform, static_argnames="spacing")
sides = jax.jit(_distance.sides, static_argnums=(2, 3))
signed_distances = jax.jit(_distance.signed_distances, static_argnums=(2, 3))


def masks(shape, shares=(0.02, 0.5, 0.98)):
    """Random masks [B, *S], each with a False position."""
    rng = np.random.default_rng(len(shape))
    foreground = rng.random((len(shares), *shape)) < np.reshape(
        shares, (-1, *(1 for _ in shape))
    )
    foreground.reshape(len(shares), -1)[:, 0] = False
    return foreground


def by_scipy(foreground, spacing=None):
    return np.array(
        [ndimage.distance_transform_edt(mask, sampling=spacing) for mask in foreground]
    )


@every_shape
def test_squared_distances_are_exact(shape):
    foreground = masks(shape)
    squared = squared_distances(foreground, range(1, foreground.ndim))
    np.testing.assert_array_equal(squared, np.rint(by_scipy(foreground) ** 2))


@every_shape
def test_equals_scipy(shape):
    foreground = masks(shape)
    got = distances(foreground)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, by_scipy(foreground), **ROUNDING)


@every_shape
def test_equals_scipy_with_spacing(shape):
    foreground, spacing = masks(shape), SPACING[: len(shape)]
    got = distances(foreground, spacing=spacing)
    np.testing.assert_allclose(got, by_scipy(foreground, spacing), **ROUNDING)


def test_blobs_with_deep_insides():
    noise = np.random.default_rng(0).normal(size=(2, 32, 28, 24))
    smooth = np.array([ndimage.gaussian_filter(x, 3.0) for x in noise])
    for foreground in (smooth > 0.0, smooth > -0.1, smooth > 0.1):
        squared = squared_distances(foreground, (1, 2, 3))
        np.testing.assert_array_equal(squared, np.rint(by_scipy(foreground) ** 2))


def test_without_a_false_position_the_distance_is_infinite():
    foreground = np.ones((2, 4, 5), bool)
    foreground[1, 2, 2] = False
    got = _distance.distance_transform(foreground)
    assert np.all(np.isinf(got[0]))
    np.testing.assert_allclose(got[1], by_scipy(foreground)[1], **ROUNDING)


def test_jit_and_vmap_with_traced_spacing():
    foreground = masks((9, 14, 11))
    transform = jax.jit(
        jax.vmap(
            lambda mask, spacing: _distance.distance_transform(mask, spacing=spacing),
            in_axes=(-1, 0),
            out_axes=-1,
        )
    )
    spacings = np.array([[1.0, 1.0, 1.0], [0.5, 2.0, 3.0]], np.float32)
    stack = np.stack([foreground, foreground[::-1]], -1)
    got = transform(stack, spacings)
    for k in range(2):
        expected = by_scipy(stack[..., k], spacings[k])
        np.testing.assert_allclose(got[..., k], expected, **ROUNDING)


def test_axes_that_are_not_named_are_examples():
    foreground = masks((6, 7))
    channels = np.stack([foreground, ~foreground[::-1]], -1)
    channels[:, 0, 0] = False
    got = squared_distances(channels, (1, 2))
    for c in range(2):
        np.testing.assert_array_equal(
            got[..., c], np.rint(by_scipy(channels[..., c]) ** 2)
        )


def test_float64():
    with jax.enable_x64(True):
        foreground = masks((9, 14, 11))
        got = squared_distances(foreground, (1, 2, 3), SPACING[:3], jnp.float64)
        expected = by_scipy(foreground, SPACING[:3]) ** 2
        np.testing.assert_allclose(got, expected, rtol=1e-15)  # float64 rounding


def test_memory_is_a_few_arrays():
    """An array with an entry a pair of positions of an axis would be 64 times these."""
    shape = (1, 64, 64, 64)
    lowered = jax.jit(_distance.distance_transform).lower(np.ones(shape, bool))
    memory = _compiled.as_users(lowered).memory_analysis()
    if memory is None:
        pytest.skip("this backend reports no memory")
    assert memory.temp_size_in_bytes < 12 * 4 * np.prod(shape)


@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_batch_split_over_devices(kind):
    axis_type = dict(
        auto=jax.sharding.AxisType.Auto, explicit=jax.sharding.AxisType.Explicit
    )
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(axis_type[kind],))
    foreground = masks((9, 14), (0.1, 0.5, 0.9, 0.99))
    split = jax.device_put(foreground, NamedSharding(mesh, Spec("batch")))
    with jax.set_mesh(mesh):
        got = jax.jit(_distance.distance_transform)(split)
        assert len(got.sharding.device_set) == 4
    np.testing.assert_allclose(got, by_scipy(foreground), **ROUNDING)


def test_no_gradient_to_spacing():
    foreground = masks((6, 7))
    gradient = jax.grad(
        lambda s: jnp.sum(_distance.distance_transform(foreground, spacing=s))
    )
    slopes = jax.jit(gradient)(np.float32([1.0, 2.0]))
    np.testing.assert_array_equal(slopes, 0.0)


def test_misuse_is_a_clear_error():
    mask = np.ones((2, 4, 5), bool)
    with pytest.raises(TypeError, match=r"foreground.*bool.*float"):
        _distance.distance_transform(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"foreground.*\[B, \*S\].*\(4,\)"):
        _distance.distance_transform(np.ones(4, bool))
    with pytest.raises(ValueError, match=r"spacing.*\(2,\), got \(3,\)"):
        _distance.distance_transform(mask, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"spacing.*\(2,\), got \(\)"):
        _distance.distance_transform(mask, spacing=2.0)


@pytest.mark.parametrize("spacing", [None, (2.0, 0.5)])
def test_sides_and_signed_distances(spacing):
    foreground = masks((12, 15), (0.6, 0.9))
    step = 1.0 if spacing is None else 0.5
    depth, away = by_scipy(foreground, spacing), by_scipy(~foreground, spacing)
    both = sides(foreground, None, (1, 2), spacing)
    np.testing.assert_allclose(both.inside, depth, **ROUNDING)
    np.testing.assert_allclose(both.outside, away, **ROUNDING)
    got = signed_distances(foreground, None, (1, 2), spacing)
    # The step is taken off the rounded depth.
    np.testing.assert_allclose(
        got, np.where(foreground, step - depth, away), rtol=4e-7, atol=1e-6
    )
    assert np.all(got[foreground] <= 0)
    assert np.all(got[~foreground] > 0)


def test_masked_positions_are_on_neither_side():
    foreground = np.array([[True, True, True, True, False, False, False]])
    where = np.array([[True, True, True, False, False, True, True]])
    got = sides(foreground, where, (1,))
    np.testing.assert_array_equal(got.inside, [[5, 4, 3, 0, 0, 0, 0]])
    np.testing.assert_array_equal(got.outside, [[0, 0, 0, 0, 0, 3, 4]])


@pytest.mark.parametrize("value", [False, True])
def test_signed_distances_without_a_boundary_are_0(value):
    foreground = np.full((1, 4, 5), value)
    got = signed_distances(foreground, None, (1, 2))
    np.testing.assert_array_equal(got, 0.0)


@every_shape
def test_surface_is_what_erosion_takes(shape):
    foreground = masks(shape, (0.5, 0.9, 1.0))
    got = surface(foreground, range(1, foreground.ndim))
    expected = [mask & ~ndimage.binary_erosion(mask) for mask in foreground]
    np.testing.assert_array_equal(got, expected)
