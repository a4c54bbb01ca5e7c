"""Along the axis of the classes: the entry of a label, sums, broadcasts.

Channels are last. If they are few, a loop over positions with the channels written out
is what compilers vectorise. Above `_xla.WRITTEN_OUT` channels, the channel axis is a
vector axis of its own.
"""

import functools

import jax.numpy as jnp

from headwise import _xla
from headwise.typing import Array


def channels_of(x: Array) -> list[Array]:
    """The channels, one after the other."""
    return [x[..., c] for c in range(x.shape[-1])]


def over_channels(combine: str, x: Array) -> Array:
    """The "max" or the "sum" of the channels, [B, *S]."""
    if x.shape[-1] > _xla.WRITTEN_OUT:
        return jnp.max(x, -1) if combine == "max" else jnp.sum(x, -1)
    add = jnp.maximum if combine == "max" else jnp.add
    return functools.reduce(add, channels_of(x))


def at(labels: Array, x: Array, written_out: int = _xla.WRITTEN_OUT) -> Array:
    """Of x [B, *S, C] the channel of each label; 0 where it is no class."""
    if x.shape[-1] > written_out:
        place = jnp.clip(labels, 0, x.shape[-1] - 1)[..., None]
        picked = jnp.take_along_axis(x, place, -1, mode="promise_in_bounds")[..., 0]
        return jnp.where(labels >= 0, picked, 0)
    nothing = jnp.zeros_like(x[..., 0])
    return functools.reduce(
        lambda picked, c: jnp.where(labels == c, x[..., c], picked),
        range(x.shape[-1]),
        nothing,
    )


def is_label(labels: Array, channels: int) -> Array:
    """[B, *S, C] whether it is the label; fused into its use, never stored."""
    return labels[..., None] == jnp.arange(channels).reshape(
        (1,) * labels.ndim + (channels,)
    )


def spread(of_class: Array | None, like: Array) -> Array:
    """[B, C] as [B, 1.., C], to go with [B, *S, C]."""
    if of_class is None:
        return jnp.zeros_like(like)
    batch, channels = of_class.shape
    of_class = of_class.reshape(batch, *(1,) * (like.ndim - 2), channels)
    return jnp.broadcast_to(of_class, like.shape)


def of_label(labels: Array, of_class: Array | None, like: Array) -> Array:
    """[B, *S] of [B, C] the entry of each label; 0 where it is no class."""
    few = like.shape[-1] <= _xla.WRITTEN_OUT
    if few or of_class is None:
        return at(labels, spread(of_class, like))
    picked = at(labels.reshape(len(labels), -1), of_class[:, None])
    return picked.reshape(labels.shape)
