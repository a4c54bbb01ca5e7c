"""Losses for depth maps: scale-invariant log error, berHu, matching of gradients."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _regression
from headwise.typing import Array

_SMALLEST = 1e-6  # metres or whatever the unit: log(p) and 1 / p stay finite


def _all_but_the_batch(array: Array) -> tuple[int, ...]:
    return tuple(range(1, array.ndim))


@_reduction.values_per("example")
def scale_invariant_log(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    variance_focus: float | Array = 0.5,
    log_space: bool = False,
    root: bool = False,
) -> Array:
    """Scale-invariant error of log depth (SILog), one value an example.

    With d = log p - log t at the n positions that count and lambda =
    `variance_focus`::

        loss = Σ d² / n - lambda (Σ d / n)²

    lambda = 0 is the mean squared log error, lambda = 1 the variance of d, to which
    one factor on all predictions makes no difference.

    Conventions: a target depth of 0 (or less) means missing, and does not count. The
    loss is computed as var(d) + (1 - lambda) mean(d)², which is the same and never
    negative. Eigen et al. train with lambda = 0.5. BTS and AdaBins use 0.85, take the
    root and multiply by 10: `variance_focus=0.85, root=True` and a weight of 10.

    Args:
        preds: [B, *S] floating (an axis of channels counts as one more), depth > 0;
            less than 1e-6 counts as 1e-6 and has no gradient. bfloat16 and float16
            are computed in float32.
        targets: of the same shape, depth; not its logarithm, also with `log_space`.
        where: bool, True where a position counts: [B], [B, *S] or any prefix; axes
            of length 1 broadcast.
        variance_focus: lambda in [0, 1]. May be traced.
        log_space: preds are the logarithm of depth, any real values.
        root: take the square root; its gradient is 0 where the loss is 0.

    Returns:
        [B] in [0, inf), float32 or float64. An example in which nothing counts has
        loss 0 and zero gradient.

    Raises:
        ValueError: shapes differ (both are printed) or the mask does not fit.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> p, t = jnp.array([[2.0, 4.0, 9.0]]), jnp.array([[1.0, 2.0, 0.0]])
        >>> loss = hw.losses.scale_invariant_log(p, t)  # d = log 2 twice: log² 2 / 2
        >>> print(f"{loss[0]:.4f}")
        0.2402

    References:
        Eigen, Puhrsch and Fergus, "Depth map prediction from a single image using a
        multi-scale deep network", NeurIPS 2014; Lee et al., "From big to small"
        (BTS), 2019.
    """
    _checks.fraction("variance_focus", variance_focus)
    _checks.boolean("log_space", log_space)
    _checks.boolean("root", root)
    pair = _inputs.regression(preds, targets, where)
    axes = _all_but_the_batch(pair.preds)
    valid = pair.valid & (pair.targets > 0)
    logs = pair.preds
    if not log_space:
        logs = jnp.log(jnp.maximum(jnp.where(valid, logs, 1), _SMALLEST))
    d = jnp.where(valid, logs - jnp.log(jnp.where(valid, pair.targets, 1)), 0)
    mean = _reduction.mean(d, valid, axes)
    around = jnp.expand_dims(mean, axes)
    spread = jnp.where(valid, d - jnp.broadcast_to(around, d.shape), 0)
    variance = _reduction.mean(spread * spread, valid, axes)
    loss = variance + (1 - variance_focus) * mean * mean
    if not root:
        return loss
    positive = loss > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, loss, 1)), 0)


@_reduction.values_per("entry")
def berhu(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    threshold: float | Array | None = None,
    fraction: float | Array = 0.2,
    over_batch: bool = False,
) -> Array:
    """Reverse Huber loss, one value an entry: absolute near 0, squared further out.

    With x = p - t, for every entry that counts::

        loss = |x|                  where |x| <= c
        loss = (x² + c²) / (2 c)    elsewhere
        c = fraction · max |x| over the entries of the example that count

    Conventions: c is a constant for the gradient. The paper takes the maximum over
    the batch (`over_batch=True`); the default takes one an example, so that no
    example depends on another. Both values and slopes meet at |x| = c.

    Args:
        preds: [B, *S] or [B, *S, C] floating, any real values. bfloat16 and float16
            are computed in float32.
        targets: of the same shape. Mask missing depth: `where=targets > 0`.
        where: bool, True where an entry counts: [B], [B, *S] or any prefix, or the
            shape of preds; axes of length 1 broadcast.
        threshold: c > 0, a float or scalar array, in place of the rule. May be
            traced.
        fraction: in (0, 1]. May be traced.
        over_batch: take the maximum over the batch too.

    Returns:
        Shape of preds, in [0, inf), float32 or float64. Masked entries are 0 with
        zero gradient, and so is x = 0.

    Raises:
        ValueError: shapes differ (both are printed) or the mask does not fit.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> p, t = jnp.array([[1.0, 5.0, 10.0]]), jnp.zeros((1, 3))
        >>> print(hw.losses.berhu(p, t))  # c = 2: 1, (25 + 4) / 4, (100 + 4) / 4
        [[ 1.    7.25 26.  ]]

    References:
        Laina et al., "Deeper depth prediction with fully convolutional residual
        networks", 3DV 2016.
    """
    if threshold is not None:
        _checks.positive("threshold", threshold)
    _checks.positive("fraction", fraction)
    _checks.fraction("fraction", fraction)
    _checks.boolean("over_batch", over_batch)
    pair = _inputs.regression(preds, targets, where)
    size = _regression.magnitude(pair.preds - pair.targets)
    if threshold is None:
        axes = None if over_batch else _all_but_the_batch(size)
        largest = jax.lax.stop_gradient(jnp.max(size, axes, keepdims=True, initial=0))
        threshold = jnp.asarray(fraction, size.dtype) * largest
    c = jnp.broadcast_to(jnp.asarray(threshold, size.dtype), size.shape)
    outer = _numerics.safe_divide(size * size + c * c, 2 * c, 0.0)
    return jnp.where(size <= c, size, outer)


def _steps(residual: Array, valid: Array, axis: int) -> Array:
    """[B]: mean absolute difference of neighbours along an axis; both must count."""
    size = residual.shape[axis]
    low = jax.lax.slice_in_dim(valid, 0, size - 1, axis=axis)
    pairs = low & jax.lax.slice_in_dim(valid, 1, size, axis=axis)
    step = jnp.where(pairs, _regression.magnitude(jnp.diff(residual, axis=axis)), 0)
    return _reduction.mean(step, pairs, _all_but_the_batch(step))


@_reduction.values_per("example")
def gradient_matching(
    preds: Array, targets: Array, *, where: Array | None = None, scales: int = 4
) -> Array:
    """Multi-scale matching of spatial gradients, one value an example.

    With R = p - t, and R_k every 2ᵏ-th position of it along each spatial axis::

        loss = Σ_k Σ_a mean |R_k(i + 1 along a) - R_k(i)|    k = 0 .. scales - 1

    the mean being over the pairs of neighbours that both count. An axis and scale
    without such a pair adds 0. A constant added to all predictions makes no
    difference.

    Conventions: R is the plain difference. MegaDepth uses log depth: give the
    logarithms of both and `where=depth > 0`. MiDaS uses inverse depth after aligning
    scale and shift. Both divide by the number of positions that count, here it is the
    number of pairs; without mask the two differ by (n - 1) / n along an axis of n.

    Args:
        preds: [B, *S] floating, any number of spatial axes; an axis of channels of
            length 1 may follow and changes nothing. bfloat16 and float16 are
            computed in float32.
        targets: of the same shape.
        where: bool, True where a position counts: [B], [B, *S] or any prefix; axes
            of length 1 broadcast.
        scales: 1 or more.

    Returns:
        [B] in [0, inf), float32 or float64. An example in which no pair counts has
        loss 0 and zero gradient.

    Raises:
        ValueError: shapes differ (both are printed), the mask does not fit, or
            `scales` is less than 1.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> p, t = jnp.array([[0.0, 1.0, 3.0]]), jnp.zeros((1, 3))
        >>> print(hw.losses.gradient_matching(p, t, scales=2))  # (1 + 2) / 2 + 3
        [4.5]

    References:
        Li and Snavely, "MegaDepth", CVPR 2018; Ranftl et al., "Towards robust
        monocular depth estimation" (MiDaS), TPAMI 2022.
    """
    scales = _checks.positive_int("scales", scales)
    pair = _inputs.regression(preds, targets, where)
    residual, valid = pair.preds - pair.targets, pair.valid
    axes = _all_but_the_batch(residual)
    loss = jnp.zeros_like(residual, shape=residual.shape[:1])
    for scale in range(scales):
        every = (slice(None), *[slice(None, None, 2**scale)] * len(axes))
        r, v = residual[every], valid[every]
        loss = loss + sum(_steps(r, v, a) for a in axes if r.shape[a] > 1)
    return loss
