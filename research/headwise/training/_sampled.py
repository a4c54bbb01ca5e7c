"""Steps that are no update: with `optax.MultiSteps` most move no parameter.

In which steps contributions are sampled, then, and averages taken.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise.typing import Array


def period(contributions: bool | int) -> int:
    """How many steps apart contributions are wanted: 1 for True, 0 for never."""
    if isinstance(contributions, bool):
        return int(contributions)
    return _checks.nonnegative_int("contributions", contributions)


def as_step(every: int, step: Array, before: Any, after: Any) -> Array:
    """A number of a step for a monitor of that period, which samples multiples of it.

    It is the step itself. With `optax.MultiSteps`, which moves the parameters in some
    steps only, a sample that is due waits for the next of these.

    Args:
        every: the period, at least 2.
        step: int scalar, counted from 0.
        before, after: states of the optimiser around this step.
    """
    moved = moves(before, after)
    if moved is None:
        return step
    waited = jnp.max(jnp.stack([jnp.asarray(b.mini_step) for b in _waiting(before)]))
    due = step // every != (step - waited.astype(step.dtype) - 1) // every
    return jnp.where(moved & due, 0, 1)


def moves(before: Any, after: Any) -> Array | None:
    """Whether an `optax.MultiSteps` made its update between two states of an optimiser.

    None where there is none in it.
    """
    pairs = list(zip(_waiting(before), _waiting(after), strict=True))
    if not pairs:
        return None
    return jnp.any(jnp.stack([b.gradient_step != a.gradient_step for b, a in pairs]))


def _waiting(state: Any) -> list[optax.MultiStepsState]:
    """The parts of an optimiser's state that gather gradients for an update to come."""
    parts = jax.tree.leaves(state, is_leaf=_gathers)
    return [part for part in parts if _gathers(part)]


def _gathers(part: Any) -> bool:
    return isinstance(part, optax.MultiStepsState)
