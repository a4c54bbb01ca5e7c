"""What every metric does first: checks, masks, and sums that keep their digits."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _reduction
from headwise.typing import Array


def are_labels(preds: Array, targets: Array) -> bool:
    """Whether targets are integer labels [B, *S] of preds [B, *S, C]."""
    return targets.shape == preds.shape[:-1] and jnp.issubdtype(
        targets.dtype, jnp.integer
    )


def members(labels: Array, classes: int) -> Array:
    """Masks [B, *S, C] of integer labels [B, *S]."""
    numbers = jnp.arange(classes, dtype=labels.dtype)
    return labels[..., None] == numbers.reshape((1,) * labels.ndim + (classes,))


def both(preds: Array, targets: Array) -> tuple[Array, Array]:
    """Both as arrays; raises TypeError for what is none."""
    return _checks.array("preds", preds), _checks.array("targets", targets)


def check_floating(preds: Array, ndim: int, shape: str) -> None:
    """Raises unless preds are floating with at least so many axes."""
    if preds.ndim < ndim:
        raise ValueError(f"preds: expected {shape}, got shape {preds.shape}")
    if not jnp.issubdtype(preds.dtype, jnp.floating):
        raise TypeError(f"preds: expected floating values, got {preds.dtype}")


def check_same(preds: Array, targets: Array) -> None:
    """Raises unless both have one shape."""
    if preds.shape != targets.shape:
        raise ValueError(
            f"targets: expected the shape of preds {preds.shape}, got {targets.shape}"
        )


def valid(where: Array | None, shape: tuple[int, ...]) -> Array:
    """The mask, aligned from the batch on, in full; all True for None."""
    if where is None:
        return jnp.ones(shape, bool)
    where = _checks.array("where", where)
    if where.dtype != bool:
        raise TypeError(f"where: expected bool, got {where.dtype}")
    return jnp.broadcast_to(_reduction.align("where", where, shape), shape)


def not_ignored(preds: Array, targets: Array, ignore: int) -> Array:
    """[B, *S]: the positions whose label is another one; targets must be labels."""
    _checks.label("ignore", ignore)
    if not are_labels(preds, targets):
        raise ValueError(
            f"ignore: expected integer labels {preds.shape[:-1]} as targets, got "
            f"{targets.dtype} {targets.shape}"
        )
    return targets != ignore


def check_background(background: bool, channels: int) -> None:
    """Raises if background=False leaves no channel."""
    _checks.boolean("background", background)
    if not background and channels < 2:
        raise ValueError(
            f"background=False drops channel 0 of {channels}: none is left"
        )


def floating() -> jnp.dtype:
    """The dtype of sums that are handed out: float32, or float64 with 64 bits."""
    return jnp.result_type(float)


def count(flags: Array, axes: tuple[int, ...] | None = None) -> Array:
    """How many are True, counted in integers and then rounded once."""
    return jnp.sum(flags, axes, dtype=jnp.result_type(int)).astype(floating())


def total(values: Array) -> Array:
    """The sum of all values, one axis at a time from the last.

    One running sum in float32 stops growing at 2²⁴ values of a size; partial sums
    along axes, few of which have more than some thousand entries, do not.
    """
    values = values.astype(floating())
    while values.ndim:
        values = jax.lax.optimization_barrier(jnp.sum(values, -1))
    return values
