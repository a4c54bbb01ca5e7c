"""`ConvNet` and `UNet3D`: shapes, reach, training, errors."""

import functools

import chex
import jax
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from flax import nnx
from jax import lax
from jax import numpy as jnp

from headwise.nn import _pooled
from headwise.nn import ConvNet
from headwise.nn import functional
from headwise.nn import MultiHead
from headwise.nn import UNet3D


@functools.cache
def multimnist_trunk():
    return ConvNet(rngs=nnx.Rngs(0))


class ConvNetTest(parameterized.TestCase):
    def test_sides_of_multimnist(self):
        trunk = multimnist_trunk()
        self.assertEqual(trunk.dense.in_features, 6 * 6 * 20)
        y = jax.jit(lambda x: trunk(x))(np.ones((2, 36, 36, 1), np.float32))
        chex.assert_shape(y, (2, 50))
        self.assertTrue((np.asarray(y) >= 0).all())

    def test_equals_the_built_in_operations(self):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16, 2)))
        trunk = ConvNet((12, 16, 2), (3,), kernel_size=3, rngs=nnx.Rngs(0))
        layer = trunk.convolutions[0]

        @jax.jit
        def built_in(x):
            y = lax.conv_general_dilated(
                x,
                layer.kernel[...],
                (1, 1),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            y = nnx.max_pool(nnx.relu(y), (2, 2), (2, 2)).reshape(2, -1)
            return nnx.relu(trunk.dense(y))

        got = jax.jit(lambda x: trunk(x))(x)
        np.testing.assert_allclose(got, built_in(x), rtol=1e-4, atol=1e-5)

    @parameterized.parameters(3, 2)
    def test_gradients_equal_those_of_the_built_in_operations(self, side):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(2, 5 + side, 7 + side, 2)))
        kernel = jnp.asarray(rng.normal(size=(side, side, 2, 3)))
        numbers = ("NHWC", "HWIO", "NHWC")
        args = ((1, 1), "VALID")

        def ours(x, kernel):
            y = _pooled.pooled_convolution(x, kernel, *args, dimension_numbers=numbers)
            return jnp.sum(jnp.sin(y))

        def built_in(x, kernel):
            y = lax.conv_general_dilated(x, kernel, *args, dimension_numbers=numbers)
            return jnp.sum(jnp.sin(nnx.max_pool(y, (2, 2), (2, 2))))

        found = jax.jit(jax.value_and_grad(ours, (0, 1)))(x, kernel)
        expected = jax.jit(jax.value_and_grad(built_in, (0, 1)))(x, kernel)
        chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_dtype(self):
        trunk = ConvNet(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        x = jnp.ones((1, 36, 36, 1))
        chex.assert_type(jax.eval_shape(lambda x: trunk(x), x), jnp.bfloat16)

    @parameterized.parameters(
        ((36, 36), "expected .height, width, channels., got .36, 36."),
        ((35, 36, 1), "gives 31x32 at level 0"),
        ((6, 6, 1), "gives -3x-3 at level 1"),
    )
    def test_bad_image_shape(self, shape, message):
        with pytest.raises(ValueError, match=message):
            ConvNet(shape, rngs=nnx.Rngs(0))

    def test_bad_input(self):
        trunk = multimnist_trunk()
        with pytest.raises(
            ValueError, match=r"x: expected shape \[B, 36, 36, 1\], got"
        ):
            trunk(jnp.ones((2, 28, 28, 1)))


@functools.cache
def volumes(features, sides=(8, 8, 8), **kwargs):
    """A U-Net with three heads, and a batch."""
    rngs = nnx.Rngs(0)
    width = features[0]
    model = MultiHead(
        UNet3D(1, features, rngs=rngs, **kwargs),
        {
            "tissue": nnx.Linear(width, 4, rngs=rngs),
            "t1": nnx.Linear(width, 1, rngs=rngs),
            "t2": nnx.Linear(width, 1, rngs=rngs),
        },
    )
    x = np.random.default_rng(0).normal(size=(2, *sides, 1)).astype(np.float32)
    return model, jnp.asarray(x)


def sum_of_losses(outputs, x):
    labels = (x[..., 0] > 0).astype(jnp.int32) + 2 * (x[..., 0] > 1).astype(jnp.int32)
    tissue = optax.losses.softmax_cross_entropy_with_integer_labels(
        outputs["tissue"], labels
    ).mean()
    t1 = jnp.mean((outputs["t1"] - x) ** 2)
    t2 = jnp.mean((outputs["t2"] - jnp.abs(x)) ** 2)
    return tissue + t1 + t2


class UNet3DTest(parameterized.TestCase):
    @parameterized.parameters(
        ((2,), (3, 5, 2)), ((4, 8), (4, 6, 2)), ((2, 2, 2), (8, 4, 4))
    )
    def test_shapes(self, features, sides):
        model, x = volumes(features, sides)
        outputs = jax.eval_shape(lambda x: model(x), x)
        chex.assert_shape(outputs["tissue"], (2, *sides, 4))
        chex.assert_shape([outputs["t1"], outputs["t2"]], (2, *sides, 1))

    @parameterized.product(features=[(2,), (2, 4)], norm=[True, False])
    def test_equals_the_built_in_convolution(self, features, norm):
        model, x = volumes(features, norm=norm)
        built_in, _ = volumes(
            features, norm=norm, conv_general_dilated=lax.conv_general_dilated
        )
        ours, theirs = (jax.jit(lambda x, m=m: m(x))(x) for m in (model, built_in))
        chex.assert_trees_all_close(ours, theirs, rtol=1e-3, atol=1e-4)

    @parameterized.parameters(((2,), 5, 16), ((1, 2), 14, 20), ((1, 1, 1), 34, 48))
    def test_reach(self, features, expected, side):
        """The docstring's count of voxels that one output sees along an axis."""
        trunk = UNet3D(1, features, norm=False, rngs=nnx.Rngs(0))
        apply, params, rest = functional(trunk)
        # Nothing cancels.
        params = jax.tree.map(lambda p: np.abs(p) + np.float32(0.01), params)
        x = np.ones((1, side, 4, 4, 1), np.float32)

        @jax.jit
        def sight(i):
            """Which voxels along the first axis the output at i depends on."""
            grads = jax.grad(lambda x: apply(params, rest, x)[0][0, i, 0, 0].sum())(x)
            return jnp.any(grads[0] != 0, axis=(1, 2, 3)).sum()

        widths = [int(sight(i)) for i in range(side // 2 - 2, side // 2 + 2)]
        self.assertEqual(max(widths), expected)

    def test_every_parameter_gets_a_gradient(self):
        model, x = volumes((4, 8))
        apply, params, rest = functional(model)
        grads = jax.jit(jax.grad(lambda p: sum_of_losses(apply(p, rest, x)[0], x)))(
            params
        )
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            self.assertGreater(np.abs(g).max(), 0.0, path)

    def test_learns(self):
        model, x = volumes((4, 8))
        apply, params, rest = functional(model)
        optimizer = optax.adam(1e-2)

        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(
                lambda p: sum_of_losses(apply(p, rest, x)[0], x)
            )(params)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        _, values = jax.jit(
            lambda p: lax.scan(step, (p, optimizer.init(p)), length=60)
        )(params)
        self.assertLess(float(values[-1]), 0.3 * float(values[0]))

    def test_dtype(self):
        model, x = volumes((2,), dtype=jnp.bfloat16)
        chex.assert_type(jax.eval_shape(lambda x: model.trunk(x), x), jnp.bfloat16)
        chex.assert_type(model.trunk.bottom.convolution.kernel[...], jnp.float32)

    @parameterized.parameters(
        ((), "at least one level"),
        ((0,), "a positive int, got 0"),
        ((4, 2.5), r"a positive int, got 2\.5"),
    )
    def test_bad_features(self, features, message):
        with pytest.raises(ValueError, match=f"features: expected {message}"):
            UNet3D(1, features, rngs=nnx.Rngs(0))

    @parameterized.parameters(
        ((1, 4, 4, 1), r"expected shape \[B, X, Y, Z, 1\], got \(1, 4, 4, 1\)"),
        ((1, 4, 4, 4, 2), r"expected shape \[B, X, Y, Z, 1\], got"),
        ((1, 4, 6, 4, 1), r"multiples of 4 for 3 levels, got \(4, 6, 4\)"),
    )
    def test_bad_input(self, shape, message):
        with pytest.raises(ValueError, match=message):
            volumes((2, 2, 2))[0].trunk(jnp.ones(shape))
