"""First kernels of convolutions: Flax's numbers, drawn by few axes."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax.extend import core

from headwise.nn import _kernels
from headwise.nn import ConvNet
from headwise.nn import UNet3D

SHAPE = (3, 3, 3, 2, 4)


@pytest.mark.parametrize("dtype", [np.float32, "bfloat16"])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("partitionable", [True, False])
def test_they_are_the_bits_that_flax_draws(dtype, impl, partitionable):
    key = jax.random.key(3, impl=impl)
    with jax.threefry_partitionable(partitionable):
        expected = nnx.initializers.lecun_normal()(key, SHAPE, dtype)
        drawn = _kernels.lecun_normal(key, SHAPE, dtype)
    assert drawn.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(drawn, expected)


def test_networks_begin_with_the_kernels_of_their_layers():
    """Of `nnx.Conv` with nothing said of kernels, from the same stream of keys."""
    plain = nnx.Conv(1, 2, (3, 3, 3), rngs=nnx.Rngs(5))
    trunk = UNet3D(1, (2,), rngs=nnx.Rngs(5))
    kernel = trunk.encoder[0].convolution.kernel
    np.testing.assert_array_equal(kernel[...], plain.kernel[...])
    plain = nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(5))
    trunk = ConvNet((6, 6, 1), (2,), kernel_size=3, rngs=nnx.Rngs(5))
    np.testing.assert_array_equal(trunk.convolutions[0].kernel[...], plain.kernel[...])


def shapes_drawn(jaxpr):
    """Of all random bits in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "random_bits":
            yield equation.outvars[0].aval.shape
        for inner in core.jaxprs_in_params(equation.params):
            yield from shapes_drawn(inner)


@pytest.mark.parametrize(
    "make",
    [
        lambda rngs: UNet3D(1, (2, 4), rngs=rngs),
        lambda rngs: ConvNet((6, 6, 1), (2,), kernel_size=3, rngs=rngs),
    ],
    ids=["UNet3D", "ConvNet"],
)
def test_no_loop_nest_of_many_axes_is_compiled_to_draw_them(make):
    key = jax.random.key(0)
    program = jax.make_jaxpr(lambda key: nnx.state(make(nnx.Rngs(key)), nnx.Param))(key)
    shapes = list(shapes_drawn(program.jaxpr))
    assert len(shapes) >= 2
    assert max(map(len, shapes)) == 2
