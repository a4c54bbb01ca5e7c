"""Convolution as a few large matrix products, for CPUs.

XLA's own convolution is slow on CPU in three places: in 3-D, inside `scan`, `map` and
`while_loop`, and under `vmap` over kernels (it becomes a grouped convolution). A matrix
product is slow in none of them. This file holds one idea: write the convolution so that
almost all of its work is `dot_general`. Layers and networks do not belong here.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from headwise import _checks
from headwise import _xla


def matmul_convolution(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    *,
    method: str = "auto",
) -> jax.Array:
    """`jax.lax.conv_general_dilated` as matrix products: same values, fast on CPU.

    For 3-D input x [B, D, H, W, C] and kernel k [d, h, w, C, F], with stride 1::

        y[b, i, j, l] = Σ_t  rows(b, i + t, j, l // 4) · T_t

    where `rows` holds the h * (w + 3) * C inputs that four neighbouring outputs along
    the last axis need, and the block Toeplitz matrix T_t [h * (w + 3) * C, 4 * F] holds
    kernel slice k[t] four times, each time one step further. Four outputs a row repeat
    the inputs 1.5 times where patches of single outputs repeat them three times, and
    make the products wide enough to be fast.

    It is a drop-in for the argument `conv_general_dilated` of `nnx.Conv`, for any
    number of spatial axes. A train step of `UNet3D(1, (8, 16))` on two volumes of 24³,
    side by side on two CPU cores, took a third of the built-in's time; inside `scan` a
    seventh; under `vmap` over three trials also a third.

    Args:
        lhs: [B, *S, C], channels last.
        rhs: [*K, C, F].
        window_strides, padding: as in `jax.lax.conv_general_dilated`.
        lhs_dilation, rhs_dilation, precision: as there.
        preferred_element_type: as there; None sums half precision in float32.
        dimension_numbers: as there. Layouts other than `NDHWC, DHWIO, NDHWC` (and the
            like for other ranks), and None, which means channels first, use the
            built-in.
        feature_group_count, batch_group_count, out_sharding: as there; anything but 1,
            1, None uses the built-in.
        method: "auto" takes the matrix products on CPU (by `jax.default_backend()` when
            traced) and the built-in on GPU and TPU or where an argument above says so;
            "matmul" and "direct" force one of them.

    Returns:
        [B, *S', F], equal to the built-in up to rounding. Gradients of any order,
        forward and reverse, are matrix products too.

    Raises:
        ValueError: unknown `method`, or "matmul" with arguments that only the built-in
            supports.

    Example:
        >>> from jax import numpy as jnp
        >>> from headwise.nn import matmul_convolution
        >>> x = jnp.arange(4.0).reshape(1, 4, 1)
        >>> k = jnp.array([1.0, 10.0]).reshape(2, 1, 1)
        >>> y = matmul_convolution(
        ...     x, k, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        ... )
        >>> print(y.ravel().tolist())  # 0 + 10 * 1, 1 + 10 * 2, 2 + 10 * 3
        [10.0, 21.0, 32.0]
    """
    _checks.choice("method", ("auto", "matmul", "direct"), method)
    rank = lhs.ndim - 2
    strides = tuple(window_strides)
    stretch = tuple(lhs_dilation or (1,) * rank)
    dilation = tuple(rhs_dilation or (1,) * rank)
    supported = (
        _is_channels_last(lhs, rhs, dimension_numbers)
        and feature_group_count == batch_group_count == 1
        and out_sharding is None
        and len(strides) == len(stretch) == len(dilation) == rank
        and not (isinstance(padding, str) and max(stretch) > 1)
        and lhs.shape[-1] == rhs.shape[-2]
        and math.prod(lhs.shape) * math.prod(rhs.shape) > 0
    )
    if supported and method != "direct":
        spans = [(n - 1) * d + 1 for n, d in zip(rhs.shape, dilation, strict=False)]
        sizes = [(n - 1) * d + 1 for n, d in zip(lhs.shape[1:-1], stretch, strict=True)]
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(sizes, spans, strides, padding)
        pads = [(int(low), int(high)) for low, high in padding]
        out = [
            (n + low + high - span) // stride + 1
            for n, (low, high), span, stride in zip(
                sizes, pads, spans, strides, strict=True
            )
        ]
        supported = min(out) > 0
    if method == "matmul" and not supported:
        raise ValueError(
            'method: expected "auto" or "direct" for this layout, these groups, this '
            f'sharding or these sizes ({lhs.shape} with {rhs.shape}), got "matmul".'
        )
    if not supported or method == "direct" or not _is_chosen(method):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            precision=precision,
            preferred_element_type=preferred_element_type,
            **({} if out_sharding is None else {"out_sharding": out_sharding}),
        )
    accumulator = preferred_element_type
    if accumulator is None and lhs.dtype in (jnp.bfloat16, jnp.float16):
        accumulator = jnp.float32
    y = _convolve(
        lhs, rhs, strides, pads, stretch, dilation, out, precision, accumulator
    )
    return y if preferred_element_type is not None else y.astype(lhs.dtype)


def _is_chosen(method: str) -> bool:
    return method == "matmul" or _xla.convolves_by_products()


def _is_channels_last(lhs: jax.Array, rhs: jax.Array, numbers: Any) -> bool:
    rank = lhs.ndim - 2
    if numbers is None or rank < 1 or lhs.ndim != rhs.ndim:
        return False
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers)
    spatial = tuple(range(1, rank + 1))
    data = (0, rank + 1, *spatial)
    kernel = (rank + 1, rank, *range(rank))
    return (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (
        data,
        kernel,
        data,
    )


def _convolve(x, k, strides, pads, stretch, dilation, out, precision, accumulator):
    """Rows of inputs times a block Toeplitz kernel, summed over the leading taps.

    The arguments are those of `matmul_convolution`, checked and made explicit.
    """
    *taps, width, channels, features = k.shape
    rank = len(out)
    *outer, last = range(1, rank + 1)
    stride, span = strides[-1], (width - 1) * dilation[-1] + 1
    # Windows that do not overlap gain nothing from blocks.
    block = 1 if span <= stride else min(_xla.CONVOLUTION_BLOCK, out[-1])
    step = block * stride
    window = (block - 1) * stride + span
    pieces, blocks = -(-window // step), -(-out[-1] // block)

    # Pad (and stretch) once; the last axis to whole blocks, cut or filled at its end.
    config = [(low, high, s - 1) for (low, high), s in zip(pads, stretch, strict=True)]
    size = (x.shape[last] - 1) * stretch[-1] + 1
    low = pads[-1][0]
    length = (blocks + pieces - 1) * step
    config[-1] = (low, length - low - size, stretch[-1] - 1)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])

    # Overlapping windows along the last axis, from neighbouring blocks.
    x = x.reshape(*x.shape[:last], length // step, step * channels)
    rows = jnp.concatenate(
        [
            lax.slice_in_dim(x, p, p + blocks, axis=last)[
                ..., : min(step, window - p * step) * channels
            ]
            for p in range(pieces)
        ],
        axis=-1,
    )
    toeplitz = jnp.stack(
        [
            lax.pad(
                k,
                jnp.zeros((), k.dtype),
                [(0, 0, 0)] * (rank - 1)
                + [(j * stride, window - span - j * stride, dilation[-1] - 1)]
                + [(0, 0, 0)] * 2,
            )
            for j in range(block)
        ],
        axis=-2,
    ).reshape(*taps, window * channels, block * features)

    def shifted(array, axis, tap):
        start = tap * dilation[axis - 1]
        stop = start + (out[axis - 1] - 1) * strides[axis - 1] + 1
        return lax.slice_in_dim(array, start, stop, strides[axis - 1], axis=axis)

    # The last outer axis goes into the rows too, the others are summed over.
    if outer:
        near = outer.pop()
        rows = jnp.concatenate(
            [shifted(rows, near, tap) for tap in range(taps[-1])], axis=-1
        )
        toeplitz = toeplitz.reshape(*taps[:-1], -1, block * features)
    total = None
    for index in itertools.product(*(range(taps[axis - 1]) for axis in outer)):
        part = rows
        for axis, tap in zip(outer, index, strict=True):
            part = shifted(part, axis, tap)
        term = lax.dot(
            part.reshape(-1, part.shape[-1]),
            toeplitz[index],
            precision=precision,
            preferred_element_type=accumulator,
        )
        total = term if total is None else total + term
    assert total is not None
    y = total.reshape(x.shape[0], *out[:-1], blocks * block, features)
    return lax.slice_in_dim(y, 0, out[-1], axis=last)
