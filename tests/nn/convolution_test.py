"""`matmul_convolution` equals the built-in in values and gradients."""

import functools

import chex
import jax
import numpy as np
import pytest
from absl.testing import parameterized
from flax import nnx
from jax import lax
from jax import numpy as jnp

from headwise.nn import matmul_convolution
from tests import _derivatives

LAYOUT = {
    1: ("NWC", "WIO", "NWC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
    4: ("NXDHWC", "XDHWIO", "NXDHWC"),
}

# image sides, kernel sides, strides, padding, input dilation, kernel dilation
CASES = {
    "same": ((5, 6, 7), (3, 3, 3), (1, 1, 1), "SAME", None, None),
    "same_even": ((4, 4, 8), (2, 4, 2), (1, 1, 1), "SAME", None, None),
    "valid": ((5, 6, 9), (3, 2, 5), (1, 1, 1), "VALID", None, None),
    "strides": ((5, 7, 11), (3, 3, 3), (2, 1, 2), "SAME", None, None),
    "strides_valid": ((7, 6, 12), (2, 2, 2), (2, 2, 2), "VALID", None, None),
    "gaps": ((5, 5, 11), (1, 1, 2), (2, 2, 3), "VALID", None, None),
    "dilated": ((7, 6, 13), (3, 2, 3), (1, 1, 1), "SAME", None, (2, 1, 3)),
    "dilated_strides": ((7, 6, 13), (2, 2, 3), (1, 2, 3), "VALID", None, (2, 2, 2)),
    "asymmetric": (
        (4, 5, 6),
        (3, 3, 3),
        (1, 1, 1),
        ((0, 2), (3, 0), (1, 4)),
        None,
        None,
    ),
    "cropped": (
        (6, 5, 9),
        (2, 2, 3),
        (1, 1, 1),
        ((-1, 0), (0, -1), (-2, -1)),
        None,
        None,
    ),
    "stretched": ((3, 4, 5), (3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (2, 1, 3), None),
    "pointwise": ((3, 4, 5), (1, 1, 1), (1, 1, 1), "SAME", None, None),
    "one_voxel": ((1, 1, 1), (3, 3, 3), (1, 1, 1), "SAME", None, None),
    "kernel_is_larger": ((2, 2, 2), (5, 5, 5), (1, 1, 1), "SAME", None, None),
    "line": ((19,), (5,), (2,), "SAME", None, (2,)),
    "plane": ((10, 12), (5, 5), (1, 1), "VALID", None, None),
    "plane_strides": ((11, 12), (3, 5), (2, 3), "SAME_LOWER", None, None),
    "four": ((3, 4, 3, 5), (2, 3, 2, 3), (1, 2, 1, 1), "SAME", None, None),
}


def problem(name, channels=2, features=3, dtype=np.float32):
    sides, kernel, strides, padding, stretch, dilation = CASES[name]
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *sides, channels)).astype(dtype)
    k = random.normal(size=(*kernel, channels, features)).astype(dtype)

    def convolve(x, k, method):
        return matmul_convolution(
            x,
            k,
            strides,
            padding,
            stretch,
            dilation,
            LAYOUT[len(sides)],
            method=method,
        )

    return jnp.asarray(x), jnp.asarray(k), convolve


class EqualityTest(chex.TestCase):
    @parameterized.product(name=list(CASES))
    def test_values_and_gradients(self, name):
        x, k, convolve = problem(name)

        @functools.partial(jax.jit, static_argnums=2)
        def value_and_grads(x, k, method):
            y, pull = jax.vjp(lambda x, k: convolve(x, k, method), x, k)
            return y, pull(jnp.sin(y))

        chex.assert_trees_all_close(
            value_and_grads(x, k, "matmul"),
            value_and_grads(x, k, "direct"),
            rtol=1e-4,  # float32 sums of up to 250 products, in another order
            atol=1e-4,
        )

    @parameterized.product(sides=[(1, 9), (8, 5)], side=[3, 4, 9])
    def test_channels_and_sizes(self, sides, side):
        c, f = sides
        random = np.random.default_rng(side)
        x = jnp.asarray(random.normal(size=(1, side, side, side, c)), jnp.float32)
        k = jnp.asarray(random.normal(size=(3, 3, 3, c, f)), jnp.float32)

        @functools.partial(jax.jit, static_argnames="method")
        def call(x, k, method):
            return matmul_convolution(
                x, k, (1, 1, 1), "SAME", dimension_numbers=LAYOUT[3], method=method
            )

        np.testing.assert_allclose(
            call(x, k, method="matmul"),
            call(x, k, method="direct"),
            rtol=1e-4,
            atol=1e-4,
        )

    @parameterized.parameters("same_even", "dilated_strides", "cropped", "line")
    def test_check_grads(self, name):
        with jax.enable_x64(True):
            x, k, convolve = problem(name, 1, 2, np.float64)
            x = x[:1, ..., :1]

            def product(x, k):
                return convolve(x, k, "matmul")

            _derivatives.check(product, (x, k), 2, atol=1e-6)

    def test_vmap_and_scan_equal_loop(self):
        x, k, convolve = problem("same")
        xs, ks = np.stack([x, 2.0 * np.asarray(x)]), np.stack([k, np.asarray(k) - 1.0])
        one = jax.jit(lambda x, k: convolve(x, k, "direct"))
        expected = np.stack([one(x, k) for x, k in zip(xs, ks, strict=True)])
        mapped = jax.jit(jax.vmap(lambda x, k: convolve(x, k, "matmul")))(xs, ks)
        _, scanned = lax.scan(
            lambda c, xk: (c, convolve(*xk, "matmul")), None, (xs, ks)
        )
        np.testing.assert_allclose(mapped, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scanned, expected, rtol=1e-4, atol=1e-4)

    def test_half_precision_is_summed_in_float32(self):
        x, k, convolve = problem("same", channels=16)
        x, k = x.astype(jnp.bfloat16), k.astype(jnp.bfloat16)

        @jax.jit
        def both(x, k):
            exact = convolve(x.astype(jnp.float32), k.astype(jnp.float32), "direct")
            return convolve(x, k, "matmul"), exact

        y, exact = both(x, k)
        chex.assert_type(y, jnp.bfloat16)
        # One rounding to 8 bits; bfloat16 sums would be off by several times this.
        np.testing.assert_allclose(np.float32(y), exact, rtol=2.0**-8, atol=1e-4)

    def test_preferred_element_type(self):
        x, k, _ = problem("plane")
        convolve = functools.partial(
            matmul_convolution,
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=LAYOUT[2],
            preferred_element_type=jnp.float32,
            method="matmul",
        )
        y = jax.jit(convolve)(x.astype(jnp.bfloat16), k.astype(jnp.bfloat16))
        chex.assert_type(y, jnp.float32)


def primitives(x, k):
    """Names of the operations of a plain 2-D call; traced anew, not from a cache."""
    jaxpr = jax.make_jaxpr(
        lambda x, k: matmul_convolution(
            x, k, (1, 1), "SAME", dimension_numbers=LAYOUT[2]
        )
    )(x, k)
    return {str(equation.primitive) for equation in jaxpr.eqns}


class MethodTest(parameterized.TestCase):
    def test_auto_is_matmul_on_cpu_only(self):
        x, k, _ = problem("plane")
        self.assertNotIn("conv_general_dilated", primitives(x, k))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "default_backend", lambda: "gpu")
            self.assertIn("conv_general_dilated", primitives(x, k))

    def test_what_only_the_built_in_supports(self):
        x, k = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 2, 4))
        grouped = dict(dimension_numbers=LAYOUT[2], feature_group_count=2)
        y = matmul_convolution(x, k, (1, 1), "SAME", **grouped)
        expected = lax.conv_general_dilated(x, k, (1, 1), "SAME", **grouped)
        np.testing.assert_allclose(y, expected)
        with pytest.raises(ValueError, match='expected "auto" or "direct"'):
            matmul_convolution(x, k, (1, 1), "SAME", **grouped, method="matmul")

    def test_channels_first_uses_the_built_in(self):
        x, k = jnp.ones((2, 4, 6, 6)), jnp.ones((5, 4, 3, 3))
        y = matmul_convolution(x, k, (1, 1), "VALID")
        np.testing.assert_allclose(y, jnp.full((2, 5, 4, 4), 36.0))

    def test_empty_output(self):
        x, k = jnp.ones((2, 2, 2, 1)), jnp.ones((3, 3, 1, 1))
        y = matmul_convolution(x, k, (1, 1), "VALID", dimension_numbers=LAYOUT[2])
        chex.assert_shape(y, (2, 0, 0, 1))

    def test_errors(self):
        x, k, convolve = problem("plane")
        with pytest.raises(ValueError, match="got 'fast'"):
            convolve(x, k, "fast")

    @parameterized.parameters(
        (1, "SAME"), (2, "VALID"), (2, "CIRCULAR"), (1, "REFLECT"), ((1, 2, 3), 1)
    )
    def test_drop_in_for_nnx_conv(self, strides, padding):
        layers = [
            nnx.Conv(
                2,
                3,
                (3, 3, 3),
                strides=strides,
                padding=padding,
                conv_general_dilated=convolution,
                rngs=nnx.Rngs(0),
            )
            for convolution in (matmul_convolution, lax.conv_general_dilated)
        ]
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 6, 2)))
        ours, built_in = (jax.jit(lambda x, f=f: f(x))(x) for f in layers)
        np.testing.assert_allclose(ours, built_in, rtol=1e-4, atol=1e-5)
