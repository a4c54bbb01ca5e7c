"""Small 2-D convolutional trunk for images such as digits."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from headwise import _checks
from headwise.nn import _kernels
from headwise.nn import _pooled


class ConvNet(nnx.Module):
    """LeNet-like trunk: convolve, pool, rectify, once a level; then one dense layer.

    For levels l = 1..L, from the image x_0::

        x_l = relu(max_pool_2x2(conv_kxk(x_{l-1})))        (no padding)
        features = relu(W vec(x_L) + b)

    With 36 x 36 x 1 images and the defaults this is the trunk of Multi-MNIST in Sener
    and Koltun: sides 36 → 32 → 16 → 12 → 6, then 6 * 6 * 20 = 720 → 50.

    Args:
        image_shape: (height, width, channels) of one image.
        features: channels of each level's convolution.
        out_features: size of the trunk's output.
        kernel_size: side of the square kernels.
        dtype: dtype of the computation (such as `jnp.bfloat16`); None follows the input
            and the parameters, which are float32.
        rngs: random streams for the initial values.

    Returns:
        Calls map [B, height, width, channels] to [B, out_features], all >= 0.

    Raises:
        ValueError: `image_shape` has not three entries, a size is no positive int, a
            level's input is too small for the kernel or its convolution has an odd side
            (it could not be pooled); in a call, images of another shape.

    Example:
        >>> from flax import nnx
        >>> from jax import numpy as jnp
        >>> from headwise.nn import ConvNet
        >>> trunk = ConvNet((8, 8, 1), features=(2,), kernel_size=3, rngs=nnx.Rngs(0))
        >>> trunk.dense.in_features  # (8 - 2) / 2 = 3 a side, 2 channels: 3 * 3 * 2
        18
        >>> trunk(jnp.ones((5, 8, 8, 1))).shape
        (5, 50)

    References:
        O. Sener and V. Koltun, "Multi-Task Learning as Multi-Objective Optimization",
        NeurIPS 2018, supplement (architecture for Multi-MNIST).
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (36, 36, 1),
        features: Sequence[int] = (10, 20),
        *,
        out_features: int = 50,
        kernel_size: int = 5,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        self.image_shape = tuple(image_shape)
        if len(self.image_shape) != 3:
            raise ValueError(
                "image_shape: expected (height, width, channels), "
                f"got {self.image_shape}"
            )
        for side in self.image_shape:
            _checks.positive_int("image_shape", side)
        for size in features:
            _checks.positive_int("features", size)
        _checks.positive_int("out_features", out_features)
        _checks.positive_int("kernel_size", kernel_size)
        height, width, channels = self.image_shape
        convolutions = []
        for level, size in enumerate(features):
            height, width = height - kernel_size + 1, width - kernel_size + 1
            if min(height, width) < 2 or height % 2 or width % 2:
                raise ValueError(
                    f"image_shape: expected sides that stay even and positive after "
                    f"each {kernel_size}x{kernel_size} convolution, got "
                    f"{self.image_shape}, which gives {height}x{width} at level "
                    f"{level}"
                )
            convolutions.append(
                nnx.Conv(
                    channels,
                    size,
                    (kernel_size, kernel_size),
                    padding="VALID",
                    dtype=dtype,
                    kernel_init=_kernels.flat_initializer(),
                    conv_general_dilated=_pooled.pooled_convolution,
                    rngs=rngs,
                )
            )
            height, width, channels = height // 2, width // 2, size
        self.convolutions = nnx.List(convolutions)
        self.dense = nnx.Linear(
            height * width * channels, out_features, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.ndim != 4 or x.shape[1:] != self.image_shape:
            raise ValueError(
                f"x: expected shape [B, {', '.join(map(str, self.image_shape))}], "
                f"got {x.shape}"
            )
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution(x))  # and pools
        return jax.nn.relu(self.dense(x.reshape(x.shape[0], -1)))
