"""Arithmetic over the heads that are there, as if the others did not exist."""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise import _numerics
from headwise.balancers import _types
from headwise.typing import Array

_LARGE = 1e38
"""Logits are kept within it, so that no difference of two leaves float32."""

_STEEP = 1e18
"""Slopes are kept within it, so that Adam's squares stay in float32."""


def read(balancer: str, heads: int, signals: _types.Signals) -> tuple[Array, Array]:
    """Values [H] as float32 data, 1 for absent heads, and which heads are there.

    A head whose value is not finite counts as absent, as one whose gradient is not.
    """
    _types.check_heads(balancer, heads, signals)
    values = jax.lax.stop_gradient(jnp.asarray(signals.values, jnp.float32))
    present = _types.presence(signals) & jnp.isfinite(values)
    return jnp.where(present, values, 1.0), present


def zero_absent(x: Array, present: Array) -> Array:
    """The entries, with 0 for absent heads, also where the entry is NaN."""
    return jnp.where(present, x, jnp.zeros_like(x))


def count(present: Array) -> Array:
    """How many heads are there, as float32."""
    return jnp.sum(present.astype(jnp.float32))


def total(x: Array, present: Array) -> Array:
    """Sum over the heads that are there."""
    return jnp.sum(zero_absent(x, present))


def highest(x: Array, present: Array) -> Array:
    """Largest entry of the heads that are there; a least number if there is none."""
    return jnp.max(jnp.where(present, x, -_LARGE))


def log_sum_exp(x: Array, present: Array) -> Array:
    """Log of the sum of exp(x) over the heads that are there."""
    shift = jax.lax.stop_gradient(highest(x, present))
    # The inner `where` keeps the derivative finite at absent heads.
    shifted = jnp.where(present, x, shift) - shift
    summed = total(jnp.exp(shifted), present)
    return shift + jnp.log(jnp.where(jnp.any(present), summed, 1.0))


def softmax(logits: Array, present: Array) -> Array:
    """Softmax over the heads that are there, 0 elsewhere."""
    logits = jnp.clip(logits, -_LARGE, _LARGE)
    shifted = jnp.where(present, logits - highest(logits, present), 0.0)
    return normalized(jnp.exp(shifted), present)


def normalized(x: Array, present: Array) -> Array:
    """Divided by the sum over the heads that are there, 0 elsewhere."""
    x = zero_absent(x, present)
    return _numerics.safe_divide(x, jnp.broadcast_to(jnp.sum(x), x.shape), 0.0)


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
    slope = jnp.clip(zero_absent(slope, present), -_STEEP, _STEEP)
    step, moved = optimizer.update(slope, state, parameter)

    def keep_absent(new: Array, old: Array) -> Array:
        of_heads = jnp.shape(new) == parameter.shape
        return jnp.where(present if of_heads else jnp.any(present), new, old)

    moved = jax.tree.map(keep_absent, moved, state)
    new = jnp.asarray(optax.apply_updates(parameter, step))
    return keep_absent(new, parameter), moved


def check_number(
    argument: str, got: Any, expected: str, fits: Callable[[Any], bool]
) -> None:
    """Raises ValueError if a plain number does not fit; a traced one is not read."""
    if isinstance(got, numbers.Real) and not fits(got):
        raise ValueError(f"{argument}: expected {expected}, got {got}")


def check_positive(argument: str, got: Any) -> None:
    """Raises ValueError if a plain number is not positive."""
    check_number(argument, got, "a positive number", lambda number: number > 0)


def check_count(argument: str, got: Any) -> None:
    """Raises ValueError unless it is a positive int."""
    if not isinstance(got, int) or got < 1:
        raise ValueError(f"{argument}: expected a positive int, got {got!r}")
