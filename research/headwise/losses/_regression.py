"""Absolute, squared and Huber error, with a mask and safe in half precision."""

import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _reduction
from headwise.losses import _inputs
from headwise.typing import Array


def magnitude(x: Array) -> Array:
    """|x| with slope 0 at 0, where that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


@_reduction.values_per("entry")
def absolute_error(
    preds: Array, targets: Array, *, where: Array | None = None
) -> Array:
    """Absolute error, one value an entry: the loss behind MAE.

    For every entry i that counts::

        loss[i] = |p_i - t_i|

    Convention: the derivative at p = t is 0. optax has no such loss.

    Args:
        preds: [B, *S] or [B, *S, C] floating, any real values. bfloat16 and float16
            are computed in float32.
        targets: of the same shape.
        where: bool, True where an entry counts: [B], [B, *S] or any prefix, or the
            shape of preds; axes of length 1 broadcast.

    Returns:
        Shape of preds, in [0, inf), float32 or float64. Masked entries are 0 with
        zero gradient.

    Raises:
        ValueError: shapes differ (both are printed) or the mask does not fit.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> p, t = jnp.array([[1.0, 4.0]]), jnp.array([[3.0, 4.0]])
        >>> print(hw.losses.absolute_error(p, t))
        [[2. 0.]]
    """
    p, t, _ = _inputs.regression(preds, targets, where)
    return magnitude(p - t)


@_reduction.values_per("entry")
def squared_error(preds: Array, targets: Array, *, where: Array | None = None) -> Array:
    """Squared error, one value an entry: the loss behind MSE.

    For every entry i that counts::

        loss[i] = (p_i - t_i)²

    Convention: `optax.losses.squared_error`, without a factor of 1/2 (optax's
    `l2_loss` has it).

    Args:
        preds, targets, where: as in `absolute_error`.

    Returns:
        Shape of preds, in [0, inf), as `absolute_error`.

    Raises:
        ValueError, TypeError: as `absolute_error`.

    Example:
        >>> p, t = jnp.array([[1.0, 4.0]]), jnp.array([[3.0, 4.0]])
        >>> print(hw.losses.squared_error(p, t, where=jnp.array([[True, False]])))
        [[4. 0.]]
    """
    p, t, _ = _inputs.regression(preds, targets, where)
    return optax.losses.squared_error(p, t)


@_reduction.values_per("entry")
def huber(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    delta: float | Array = 1.0,
) -> Array:
    """Huber loss, one value an entry: squared near 0, absolute further out.

    With x = p - t, for every entry that counts::

        loss = x² / 2                    where |x| <= delta
        loss = delta (|x| - delta / 2)   elsewhere

    Convention: `optax.losses.huber_loss`, the form of the paper. "Smooth L1" of
    detection papers is this divided by delta.

    Args:
        preds, targets, where: as in `absolute_error`.
        delta: > 0, a float or scalar array. May be traced.

    Returns:
        Shape of preds, in [0, inf), as `absolute_error`. The gradient lies in
        [-delta, delta].

    Raises:
        ValueError, TypeError: as `absolute_error`.

    Example:
        >>> p, t = jnp.array([[1.0, 4.0]]), jnp.array([[0.5, 1.0]])
        >>> print(hw.losses.huber(p, t))  # 0.5² / 2 and 3 - 1 / 2
        [[0.125 2.5  ]]

    References:
        Huber, "Robust estimation of a location parameter", Annals of Mathematical
        Statistics, 1964.
    """
    _checks.positive("delta", delta)
    p, t, _ = _inputs.regression(preds, targets, where)
    return optax.losses.huber_loss(p, t, delta=delta)
