"""Structural similarity as a loss, in any number of spatial dimensions."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _reduction
from headwise.losses import _inputs
from headwise.typing import Array


def _taps(window: str, size: int, sigma: float | Array, dtype: jnp.dtype) -> Array:
    """[size] weights that sum to 1."""
    if window == "uniform":
        return jnp.full(size, 1 / size, dtype)
    offsets = jnp.arange(size, dtype=dtype) - (size - 1) / 2
    taps = jnp.exp(-(offsets**2) / (2 * jnp.asarray(sigma, dtype) ** 2))
    return taps / jnp.sum(taps)


def _along(array: Array, taps: Array, axis: int) -> Array:
    """Weighted means over all windows along an axis, without padding.

    A product with a banded matrix. For the sizes of images and volumes this is faster
    than a convolution with one channel, to run and to compile.
    """
    n, size = array.shape[axis], taps.shape[0]
    place = jnp.arange(n)[:, None] - jnp.arange(n - size + 1)[None]
    band = jnp.zeros((n, n - size + 1), taps.dtype)
    for k in range(size):
        band = jnp.where(place == k, taps[k], band)
    means = jnp.tensordot(array, band, (axis, 0), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(means, -1, axis)


def _whole(valid: Array, size: int, axis: int) -> Array:
    """Which windows along an axis hold only what counts."""
    windows = valid.shape[axis] - size + 1
    whole = jax.lax.slice_in_dim(valid, 0, windows, axis=axis)
    for k in range(1, size):
        whole &= jax.lax.slice_in_dim(valid, k, k + windows, axis=axis)
    return whole


def _check_window(size: int, sides: tuple[int, ...]) -> int:
    size = _checks.positive_int("size", size)
    if size > min(sides):
        raise ValueError(
            f"size: expected a window of 1 to {min(sides)}, to fit in spatial axes "
            f"{sides}; got {size}"
        )
    return size


@_reduction.values_per("class")
def ssim(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    data_range: float | Array = 1.0,
    window: str = "gaussian",
    size: int = 11,
    sigma: float | Array = 1.5,
    k1: float | Array = 0.01,
    k2: float | Array = 0.03,
) -> Array:
    """Structural similarity loss 1 - SSIM, one value an example and channel.

    In each window, with weighted means m, variances v and covariance v_pt, and
    c_1 = (k1 data_range)², c_2 = (k2 data_range)²::

        SSIM = (2 m_p m_t + c_1) (2 v_pt + c_2)
               / ((m_p² + m_t² + c_1) (v_p + v_t + c_2))
        loss[b, c] = 1 - mean of SSIM over the windows that lie inside the image

    Conventions: as in the paper and MONAI, the variances divide by the sum of the
    weights (population), and there is no padding; scikit-image uses n / (n - 1) by
    default. Each channel stands alone, and channels are not averaged; MONAI averages
    them. With a mask a window counts only if all of its positions do.

    Args:
        preds: [B, *S, C] floating, one or more spatial axes. bfloat16 and float16 are
            computed in float32.
        targets: of the same shape.
        where: bool, True where a position counts: [B], [B, *S] or any prefix, or the
            shape of preds; axes of length 1 broadcast.
        data_range: largest minus smallest possible value: 1 for images in [0, 1], 255
            for 8 bits, 2 for [-1, 1]. It scales c_1 and c_2 and matters. May be
            traced.
        window: "gaussian" or "uniform".
        size: length of the window along every spatial axis.
        sigma: standard deviation of the gaussian window, in positions. May be traced.
        k1, k2: > 0. May be traced.

    Returns:
        [B, C], float32 or float64: 0 for equal images, about 1 for unrelated ones, at
        most 2 for non-negative images. 0 with zero gradient if no window counts.

    Raises:
        ValueError: shapes differ, the window is larger than the image, `window` is
            unknown, or the mask does not fit.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> t = jnp.zeros((1, 4, 4, 1))
        >>> loss = hw.losses.ssim(t + 1, t, window="uniform", size=3)
        >>> print(f"{loss[0, 0]:.4f}")  # v = 0: 1 - c_1 / (1 + c_1), c_1 = 0.0001
        0.9999

    References:
        Wang et al., "Image quality assessment: from error visibility to structural
        similarity", IEEE Transactions on Image Processing, 2004.
    """
    _checks.choice("window", ("gaussian", "uniform"), window)
    numbers = {"data_range": data_range, "sigma": sigma, "k1": k1, "k2": k2}
    for name, number in numbers.items():
        _checks.positive(name, number)
    pair = _inputs.regression(preds, targets, where, axes=_inputs.SPATIAL)
    p, t, where = pair
    size = _check_window(size, p.shape[1:-1])
    axes = tuple(range(1, p.ndim - 1))
    taps = _taps(window, size, sigma, p.dtype)
    # Variances do not depend on where 0 lies; near the mean they keep their digits.
    middle = jnp.broadcast_to(
        jax.lax.stop_gradient(jnp.mean(t, axes, keepdims=True)), p.shape
    )
    p, t = p - middle, t - middle
    maps = [p, t, p * p, t * t, p * t]
    for axis in axes:
        maps = [_along(m, taps, axis) for m in maps]
    m_p, m_t, pp, tt, pt = maps
    v_p, v_t, v_pt = pp - m_p * m_p, tt - m_t * m_t, pt - m_p * m_t
    middle = jnp.broadcast_to(middle[(slice(None), *[slice(1)] * len(axes))], m_p.shape)
    m_p, m_t = m_p + middle, m_t + middle
    c_1, c_2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    above = (2 * m_p * m_t + c_1) * (2 * v_pt + c_2)
    below = (m_p * m_p + m_t * m_t + c_1) * (v_p + v_t + c_2)
    distance = 1 - above / below
    if where is None:
        return jnp.mean(distance, axes)
    valid = jnp.broadcast_to(where, p.shape)
    for axis in axes:
        valid = _whole(valid, size, axis)
    return _reduction.mean(jnp.where(valid, distance, 0), valid, axes)
