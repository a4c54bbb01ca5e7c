"""The optimiser of numbers that a balancer learns itself, one a head."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.typing import Array

LIMIT = 14.0
"""Learned logs of weights are kept within it: e^14 is 1.2e6, as `_masked.LARGEST`."""

STEEP = 100.0
"""Slopes of learned logs are kept within it; at rest they are 0, and 1 away at most.

Adam remembers the square of a slope for a thousand steps and moves the less meanwhile.
From the limits to rest, at values of 1/2, `adam(1e-2)` takes 5,400 steps from a large
weight (18,000 without) and 10,400 from a small one (more than 30,000).
"""

_STEEP = 1e18
"""Slopes are kept within it, so that Adam's squares stay in float32."""


def given_or(
    optimizer: optax.GradientTransformation | None,
    default: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """The optimiser that was given, if any; raises TypeError if it is none."""
    _checks.optimizer("optimizer", optimizer, optional=True)
    return default if optimizer is None else optimizer


def descend(
    optimizer: optax.GradientTransformation,
    slope: Array,
    parameter: Array,
    state: Any,
    present: Array,
    *,
    steep: float = _STEEP,
) -> tuple[Array, Any]:
    """One step of the balancer's own optimiser on one number a head.

    Absent heads keep their number and what the optimiser remembers of them; what it
    remembers of no head alone, such as its count, stays if all are absent.

    Args:
        optimizer: of the numbers.
        slope: [H], any for absent heads.
        parameter: [H].
        state: the optimiser's.
        present: [H] bool.
        steep: slopes are kept within it.
    """
    slope = jnp.clip(_masked.zero_absent(slope, present), -steep, steep)
    slope = slope.astype(parameter.dtype)
    # Optimisers mix dtypes, which a strict user may have forbidden for his own arrays.
    with jax.numpy_dtype_promotion("standard"):
        step, moved = optimizer.update(slope, state, parameter)
        new = jnp.asarray(optax.apply_updates(parameter, step))

    def keep_absent(new: Array, old: Array) -> Array:
        of_heads = jnp.shape(new) == parameter.shape
        return jnp.where(present if of_heads else jnp.any(present), new, old)

    return keep_absent(new, parameter), jax.tree.map(keep_absent, moved, state)


def descend_log(
    optimizer: optax.GradientTransformation,
    slope: Array,
    log: Array,
    state: Any,
    present: Array,
) -> tuple[Array, Any]:
    """One step on logs of weights, which stay within `LIMIT`."""
    log, moved = descend(optimizer, slope, log, state, present, steep=STEEP)
    return jnp.clip(log, -LIMIT, LIMIT), moved
