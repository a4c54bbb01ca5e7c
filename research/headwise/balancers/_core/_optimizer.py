"""The optimiser of numbers that a balancer learns itself, one a head."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise.balancers._core import _masked
from headwise.typing import Array

_STEEP = 1e18
"""Slopes are kept within it, so that Adam's squares stay in float32."""


def given_or(
    optimizer: optax.GradientTransformation | None,
    default: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """The optimiser that was given, if any; raises TypeError if it is none."""
    if optimizer is None:
        return default
    if not callable(getattr(optimizer, "update", None)):
        raise TypeError(
            "optimizer: expected an optax.GradientTransformation or None, got "
            f"{type(optimizer).__name__}"
        )
    return optimizer


def descend(
    optimizer: optax.GradientTransformation,
    slope: Array,
    parameter: Array,
    state: Any,
    present: Array,
) -> tuple[Array, Any]:
    """One step of the balancer's own optimiser on one number a head.

    Absent heads keep their number and what the optimiser remembers of them; what it
    remembers of no head alone, such as its count, stays if all are absent.
    """
    slope = jnp.clip(_masked.zero_absent(slope, present), -_STEEP, _STEEP)
    step, moved = optimizer.update(slope, state, parameter)

    def keep_absent(new: Array, old: Array) -> Array:
        of_heads = jnp.shape(new) == parameter.shape
        return jnp.where(present if of_heads else jnp.any(present), new, old)

    moved = jax.tree.map(keep_absent, moved, state)
    new = jnp.asarray(optax.apply_updates(parameter, step))
    return keep_absent(new, parameter), moved
