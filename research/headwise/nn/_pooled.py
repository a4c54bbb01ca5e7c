"""A convolution and the maximum over 2 x 2 of what it gives, as one matrix product.

For CPUs, where a pass over what a convolution gives costs as much as the product.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from headwise import _xla


def pooled_convolution(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> jax.Array:
    """Maximum over 2 x 2 of a convolution with stride 1 and without padding.

    The four outputs that a maximum is over see one window, a pixel longer and wider
    than the kernel. So a product of such windows, two pixels apart, with the kernel
    four times, each time shifted, gives all four side by side. Equal ones share the
    gradient.

    Args:
        lhs: [B, H, W, C].
        rhs: [K, K', C, F], so that H - K + 1 and W - K' + 1 are even.
        window_strides, padding: 1 and none, as a layer gives them.
        **options: of `jax.lax.conv_general_dilated`, as a layer without dilation and
            groups gives them.

    Returns:
        [B, (H - K + 1) / 2, (W - K' + 1) / 2, F].
    """
    if not _xla.convolves_by_products():
        y = lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
        b, h, w, c = y.shape
        return y.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
    *sides, _, features = rhs.shape
    spans = [side // 2 + 1 for side in sides]  # of a window, in pairs of pixels
    windows = _windows(lhs, [n - k + 1 for n, k in zip(lhs.shape[1:3], sides)], spans)
    accumulator = options.get("preferred_element_type")
    if accumulator is None and lhs.dtype in (jnp.bfloat16, jnp.float16):
        accumulator = jnp.float32
    y = lax.dot(
        windows.reshape(-1, windows.shape[-1]),
        _shifted(rhs, spans),
        precision=options.get("precision"),
        preferred_element_type=accumulator,
    )
    y = jnp.maximum(y[:, : 2 * features], y[:, 2 * features :])
    y = jnp.maximum(y[:, :features], y[:, features:])
    return y.reshape(*windows.shape[:-1], features).astype(lhs.dtype)


def _windows(x: jax.Array, out: Sequence[int], spans: Sequence[int]) -> jax.Array:
    """[B, h, w, spans * 4 C]: what each maximum over 2 x 2 outputs sees."""
    high = [n + 2 * s - 2 - had for n, s, had in zip(out, spans, x.shape[1:3])]
    if any(high):
        x = jnp.pad(x, [(0, 0), (0, high[0]), (0, high[1]), (0, 0)])
    b, height, width, c = x.shape
    x = x.reshape(b, height // 2, 2, width // 2, 2 * c)
    x = jnp.concatenate([x[:, :, 0], x[:, :, 1]], axis=-1)  # squares of 2 x 2 pixels
    for axis in (2, 1):
        size, span = out[axis - 1] // 2, spans[axis - 1]
        parts = [lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(span)]
        x = jnp.concatenate(parts, axis=-1)
    return x


def _shifted(kernel: jax.Array, spans: Sequence[int]) -> jax.Array:
    """The kernel for each of the four outputs of a window, side by side."""
    height, width, channels, features = kernel.shape
    down, right = (2 * span - side for span, side in zip(spans, (height, width)))
    zero = jnp.zeros((), kernel.dtype)
    four = [
        lax.pad(kernel, zero, [(i, down - i, 0), (j, right - j, 0), *[(0, 0, 0)] * 2])
        for i, j in itertools.product((0, 1), (0, 1))
    ]
    whole = jnp.stack(four, axis=-2).reshape(
        spans[0], 2, spans[1], 2, channels, 4 * features
    )
    return whole.transpose(0, 2, 1, 3, 4, 5).reshape(-1, 4 * features)
