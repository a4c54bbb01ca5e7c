"""What every loss on channels does first: checks, targets, masks, activation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import _reduction
from headwise.typing import Array

Activation = Callable[[Array], Array] | None


class Arrays(NamedTuple):
    """Predictions and targets that fit each other, 0 where nothing counts."""

    preds: Array
    """[B, *S, C] after the activation, float32 or float64"""
    targets: Array
    """[B, *S, C] one-hot or soft, of the same dtype"""
    where: Array | None
    """bool that broadcasts to preds: [B, *S, 1] or [B, *S, C] (or 1 for an axis)"""


def are_labels(preds: Array, targets: Array) -> bool:
    """Whether the targets are integer labels [B, *S] of preds [B, *S, C]."""
    return (
        targets.shape == preds.shape[:-1]
        and targets.shape != preds.shape
        and jnp.issubdtype(targets.dtype, jnp.integer)
    )


def check_not_empty(preds: Array) -> None:
    """Raises if there is no example, no position or no channel: nothing has a mean."""
    if 0 in preds.shape:
        raise ValueError(f"preds: expected no axis of length 0, got {preds.shape}")


def check_preds(preds: Array) -> None:
    """Raises unless preds are floating, [B, *S, C], with something in them."""
    if preds.ndim < 2:
        raise ValueError(f"preds: expected [B, *S, C], got shape {preds.shape}")
    if not jnp.issubdtype(preds.dtype, jnp.floating):
        raise TypeError(f"preds: expected floating values, got {preds.dtype}")
    check_not_empty(preds)


def check_activation(activation: Activation) -> None:
    """Raises unless it is None or a callable; names of activations are not taken."""
    if activation is not None and not callable(activation):
        raise TypeError(
            "activation: expected a callable such as jax.nn.softmax, got "
            f"{activation!r}"
        )


def check_background(preds: Array, background: bool) -> None:
    """Raises if background=False leaves no channel."""
    if not background and preds.shape[-1] < 2:
        raise ValueError(
            f"background=False drops channel 0 of {preds.shape[-1]}: none is left"
        )


def check_targets(preds: Array, targets: Array) -> None:
    """Raises unless targets are shaped like preds or are integer labels."""
    if targets.shape == preds.shape:
        return
    if not are_labels(preds, targets):
        raise ValueError(
            f"targets: expected one-hot or soft {preds.shape} like preds, or integer "
            f"labels {preds.shape[:-1]}; got {targets.dtype} {targets.shape}"
        )
    if preds.shape[-1] == 1:
        raise ValueError(
            "targets: integer labels need two or more channels in preds, got "
            f"preds {preds.shape}; for one foreground channel give targets "
            f"{preds.shape} in [0, 1]"
        )


def one_hot_targets(preds: Array, targets: Array) -> Array:
    """Targets shaped like preds; integer labels [B, *S] become one-hot.

    A label outside 0..C-1 belongs to no class: its row is all zero.
    """
    check_targets(preds, targets)
    if targets.shape == preds.shape:
        return targets
    return jax.nn.one_hot(targets, preds.shape[-1])


def align_where(where: Array, preds: Array) -> Array:
    """The mask, broadcastable to preds: [B, *S] gets a channel axis."""
    where = jnp.asarray(where)
    if where.dtype != bool:
        raise TypeError(f"where: expected bool, got {where.dtype}")
    return _reduction.align("where", where, preds.shape)


def mask(
    preds: Array, targets: Array, where: Array | None, ignore: int | None
) -> Array | None:
    """Which entries count, broadcastable to preds: `where`, without `ignore`."""
    if where is not None:
        where = align_where(where, preds)
    if ignore is None:
        return where
    if not are_labels(preds, targets):
        raise ValueError(
            f"ignore: expected integer labels {preds.shape[:-1]} as targets, got "
            f"{targets.dtype} {targets.shape}"
        )
    kept = (targets != ignore)[..., None]
    return kept if where is None else where & kept


def hidden(preds: Array, where: Array) -> Array:
    """Preds with 0 where nothing counts, fit for an activation.

    A NaN at a masked position then reaches neither the value nor the gradient. Where
    some channels of a position count, a softmax needs the logits of the others too.
    """
    spared = jnp.any(where, -1, keepdims=True) & ~jnp.isnan(preds)
    return jnp.where(where | spared, preds, 0)


def prepare(
    preds: Array,
    targets: Array,
    where: Array | None = None,
    ignore: int | None = None,
    activation: Activation = None,
    background: bool = True,
) -> Arrays:
    """Checks the arguments that the losses share and makes the arrays fit.

    Args:
        preds: [B, *S, C] floating.
        targets: [B, *S, C], or integer labels [B, *S].
        where: None, or bool from the batch on: [B], [B, *S], [B, *S, C] or with 1s.
        ignore: a label whose positions do not count.
        activation: applied to preds, or None.
        background: False drops channel 0, after the activation.

    Raises:
        ValueError, TypeError: they do not fit; names what was expected and what came.
    """
    preds, targets = jnp.asarray(preds), jnp.asarray(targets)
    check_preds(preds)
    check_background(preds, background)
    check_activation(activation)
    check_targets(preds, targets)
    where = mask(preds, targets, where, ignore)
    dtype = _numerics.accumulator(preds)
    p, t = preds.astype(dtype), one_hot_targets(preds, targets).astype(dtype)
    if activation is not None:
        p = activation(p if where is None else hidden(p, where))
    if where is not None:
        p, t = jnp.where(where, p, 0), jnp.where(where, t, 0)
    if not background:
        p, t = p[..., 1:], t[..., 1:]
        if where is not None and where.shape[-1] > 1:
            where = where[..., 1:]
    return Arrays(p, t, where)


def class_weights_for(
    class_weights: Array | None, preds: Array, background: bool = True
) -> Array | None:
    """The weights [C] of the channels that are left; the background has one too."""
    if class_weights is None:
        return None
    class_weights, channels = jnp.asarray(class_weights), jnp.shape(preds)[-1]
    if class_weights.shape != (channels,):
        raise ValueError(
            f"class_weights: expected one entry a channel, shape ({channels},) "
            f"(background included), got {class_weights.shape}"
        )
    return class_weights if background else class_weights[1:]


def weigh_classes(
    values: Array, class_weights: Array | None, preds: Array, background: bool = True
) -> Array:
    """Values whose last axis are the classes, times the weights of these."""
    weights = class_weights_for(class_weights, preds, background)
    return (
        values if weights is None else values * jnp.broadcast_to(weights, values.shape)
    )
