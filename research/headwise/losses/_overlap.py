"""The three sums that every region loss is made of, and what may vary in them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import _reduction
from headwise.typing import Array

Smooth = float | Array | tuple[float | Array, float | Array]


class Overlap(NamedTuple):
    """Sums over the positions that count: [B, C], or [C] over the batch too."""

    both: Array
    """sum of p * t"""
    preds: Array
    """sum of p, or of p squared"""
    targets: Array
    """sum of t, or of t squared"""
    volume: Array
    """sum of t"""


def one_hot_targets(preds: Array, targets: Array) -> Array:
    """Targets shaped like preds; integer labels [B, *S] become one-hot.

    A label outside 0..C-1 belongs to no class: its row is all zero.
    """
    if targets.shape == preds.shape:
        return targets
    if jnp.issubdtype(targets.dtype, jnp.integer) and (
        targets.shape == preds.shape[:-1]
    ):
        if preds.shape[-1] == 1:
            raise ValueError(
                "targets: integer labels need two or more channels in preds, got "
                f"preds {preds.shape}; for one foreground channel give targets "
                f"{preds.shape} in [0, 1]"
            )
        return jax.nn.one_hot(targets, preds.shape[-1])
    raise ValueError(
        f"targets: expected one-hot or soft {preds.shape} like preds, or integer "
        f"labels {preds.shape[:-1]}; got {targets.dtype} {targets.shape}"
    )


def align_where(where: Array, preds: Array) -> Array:
    """The mask, broadcastable to preds: [B, *S] gets a channel axis."""
    where = jnp.asarray(where)
    if where.dtype != bool:
        raise TypeError(f"where: expected bool, got {where.dtype}")
    return _reduction.align("where", where, preds.shape)


def overlap(
    preds: Array,
    targets: Array,
    where: Array | None,
    activation: Callable[[Array], Array] | None,
    squared: bool,
    background: bool,
    over_batch: bool,
) -> Overlap:
    """Checks the arguments that the region losses share and takes the sums."""
    preds, targets = jnp.asarray(preds), jnp.asarray(targets)
    if preds.ndim < 2:
        raise ValueError(f"preds: expected [B, *S, C], got shape {preds.shape}")
    if not jnp.issubdtype(preds.dtype, jnp.floating):
        raise TypeError(f"preds: expected floating values, got {preds.dtype}")
    if not background and preds.shape[-1] < 2:
        raise ValueError(
            f"background=False drops channel 0 of {preds.shape[-1]}: none is left"
        )
    if activation is not None and not callable(activation):
        raise TypeError(
            "activation: expected a callable such as jax.nn.softmax, got "
            f"{activation!r}"
        )
    targets = one_hot_targets(preds, targets)
    dtype = _numerics.accumulator(preds)
    p, t = preds.astype(dtype), targets.astype(dtype)
    if where is not None:
        where = align_where(where, preds)
    if activation is not None:
        if where is not None:
            # Hidden before the activation as well: a NaN at a masked position then
            # reaches neither the value nor the gradient. Where some channels of a
            # position count, a softmax needs the logits of the others too.
            spared = jnp.any(where, -1, keepdims=True) & ~jnp.isnan(p)
            p = jnp.where(where | spared, p, 0)
        p = activation(p)
    if where is not None:
        p = jnp.where(where, p, 0)
        t = jnp.where(where, t, 0)
    if not background:
        p, t = p[..., 1:], t[..., 1:]
    axes = tuple(range(0 if over_batch else 1, p.ndim - 1))
    volume = jnp.sum(t, axes)
    return Overlap(
        both=jnp.sum(p * t, axes),
        preds=jnp.sum(p * p if squared else p, axes),
        targets=jnp.sum(t * t, axes) if squared else volume,
        volume=volume,
    )


def smoothing(smooth: Smooth) -> tuple[float | Array, float | Array]:
    """What is added to the numerator and to the denominator."""
    if isinstance(smooth, tuple):
        if len(smooth) != 2:
            raise ValueError(
                "smooth: expected a float or (numerator, denominator), got "
                f"{len(smooth)} entries"
            )
        return smooth
    return smooth, smooth


def distance(numerator: Array, denominator: Array, smooth: Smooth) -> Array:
    """1 - (numerator + s_n) / (denominator + s_d); 0 where that is 0 / 0."""
    above, below = smoothing(smooth)
    return 1.0 - _numerics.safe_divide(numerator + above, denominator + below, 1.0)


def class_weights_for(
    class_weights: Array | None, channels: int, background: bool
) -> Array | None:
    """The weights [C] of the channels that are left; the background has one too."""
    if class_weights is None:
        return None
    class_weights = jnp.asarray(class_weights)
    if class_weights.shape != (channels,):
        raise ValueError(
            f"class_weights: expected one entry a channel, shape ({channels},) "
            f"(background included), got {class_weights.shape}"
        )
    return class_weights if background else class_weights[1:]
