"""First kernels of convolutions: an initializer's own numbers, drawn by few axes."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax.extend import core

import headwise as hw

SHAPE = (3, 3, 3, 2, 4)


@pytest.mark.parametrize("dtype", [np.float32, "bfloat16"])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("partitionable", [True, False])
def test_they_are_the_bits_that_flax_draws(dtype, impl, partitionable):
    key = jax.random.key(3, impl=impl)
    with jax.threefry_partitionable(partitionable):
        expected = nnx.initializers.lecun_normal()(key, SHAPE, dtype)
        drawn = hw.nn.flat_initializer()(key, SHAPE, dtype)
    assert drawn.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    "initializer",
    [
        nnx.initializers.he_normal(dtype="bfloat16"),
        nnx.initializers.he_uniform(),
        nnx.initializers.glorot_normal(),
        nnx.initializers.glorot_uniform(),
        nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        nnx.initializers.variance_scaling(2.0, "fan_geo_avg", "uniform"),
        nnx.initializers.normal(),
        nnx.initializers.uniform(),
        nnx.initializers.truncated_normal(),
        nnx.initializers.orthogonal(),
        nnx.initializers.constant(0.5),
        nnx.initializers.zeros,
        nnx.initializers.ones_init(),
    ],
)
@pytest.mark.parametrize("shape", [(3, 2, 2, 4), (2, 4)])
def test_of_every_initializer(initializer, shape):
    """With its own dtype, and as it is of few axes."""
    key = jax.random.key(1)
    expected = initializer(key, shape)
    drawn = hw.nn.flat_initializer(initializer)(key, shape)
    assert drawn.dtype == expected.dtype
    np.testing.assert_array_equal(drawn, expected)


def test_what_is_sharded_is_drawn_as_it_is():
    def initializer(key, shape, dtype=None, out_sharding=None):
        return shape, dtype, out_sharding

    flat = hw.nn.flat_initializer(initializer)
    assert flat(None, SHAPE, float, "spec") == (SHAPE, float, "spec")
    assert flat(None, SHAPE, out_sharding="spec") == (SHAPE, None, "spec")


def test_what_is_no_initializer_is_named():
    with pytest.raises(TypeError, match="initializer: expected a callable, got str"):
        hw.nn.flat_initializer("he_normal")
    of_makers = hw.nn.flat_initializer(nnx.initializers.he_normal)
    with pytest.raises(TypeError, match=r"he_normal\(\) in place of he_normal"):
        nnx.Conv(1, 2, (3, 3), kernel_init=of_makers, rngs=nnx.Rngs(0))


def test_networks_begin_with_the_kernels_of_their_layers():
    """Of `nnx.Conv` with nothing said of kernels, from the same stream of keys."""
    plain = nnx.Conv(1, 2, (3, 3, 3), rngs=nnx.Rngs(5))
    trunk = hw.nn.UNet3D(1, (2,), rngs=nnx.Rngs(5))
    kernel = trunk.encoder[0].convolution.kernel
    np.testing.assert_array_equal(kernel[...], plain.kernel[...])
    plain = nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(5))
    trunk = hw.nn.ConvNet((6, 6, 1), (2,), kernel_size=3, rngs=nnx.Rngs(5))
    np.testing.assert_array_equal(trunk.convolutions[0].kernel[...], plain.kernel[...])


def shapes_drawn(jaxpr):
    """Of all random bits in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "random_bits":
            yield equation.outvars[0].aval.shape
        for inner in core.jaxprs_in_params(equation.params):
            yield from shapes_drawn(inner)


def layer(rngs):
    """Of a user's own, with an initializer of both fans."""
    kernel_init = hw.nn.flat_initializer(nnx.initializers.glorot_normal())
    return nnx.Conv(1, 2, (3, 3, 3), kernel_init=kernel_init, rngs=rngs)


@pytest.mark.parametrize(
    ("make", "kernels", "axes"),
    [
        (lambda rngs: hw.nn.UNet3D(1, (2, 4), rngs=rngs), 2, 2),
        (
            lambda rngs: hw.nn.ConvNet((6, 6, 1), (2,), kernel_size=3, rngs=rngs),
            2,
            2,
        ),
        (layer, 1, 3),
    ],
    ids=["UNet3D", "ConvNet", "Conv"],
)
def test_no_loop_nest_of_many_axes_is_compiled_to_draw_them(make, kernels, axes):
    key = jax.random.key(0)
    program = jax.make_jaxpr(lambda key: nnx.state(make(nnx.Rngs(key)), nnx.Param))(key)
    shapes = list(shapes_drawn(program.jaxpr))
    assert len(shapes) >= kernels
    assert max(map(len, shapes)) == axes
