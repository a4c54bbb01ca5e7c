"""The upper level: variables behind the weights, one for every head, and their step."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from headwise import _checks
from headwise import gradients
from headwise.training import _bilevel
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def stacked(values: dict[str, Array]) -> Array:
    """[H] in the order of the dict."""
    return jnp.stack(list(values.values()))


def graded(
    values_fn: ValuesFn, params: PyTree
) -> tuple[dict[str, Array], dict[str, PyTree], np.ndarray]:
    """Values and gradients by head, and [H] which heads move a parameter at all.

    One that moves none has a gradient of 0 wherever it is. To a method of least norm
    that is the best combination there is, and nobody would be served.
    """
    plain = gradients.with_aux(values_fn, False)
    values, _, backward = gradients.linearize(plain, params)
    structure = jax.tree.structure(params)
    rows = [jax.tree.unflatten(structure, row) for row in backward.rows()]
    moves = np.array([any(flags) for flags in backward.reaches()])
    return values, dict(zip(backward.names, rows, strict=True)), moves


class Upper(NamedTuple):
    """State of a method."""

    variables: Array
    """[H] weights or logits."""
    optimizer: Any
    shares: Array
    """[H] how much each head's validation value counts (FORUM: averaged λ)."""


def check_upper(method: str, problem: _bilevel.BilevelProblem, upper: Upper) -> None:
    """Raises ValueError unless the state is of as many heads as the values."""
    if upper.variables.shape != (len(problem.values),):
        raise ValueError(
            f"{method}: expected {upper.variables.shape[0]} heads, those of the state, "
            f"got {_checks.listing(problem.values)}"
        )


def descended(
    optimizer: optax.GradientTransformation, slopes: Array, upper: Upper
) -> Upper:
    """One step of the upper optimiser; none where a slope is not finite."""
    slopes = slopes.astype(upper.variables.dtype)
    finite = jnp.all(jnp.isfinite(slopes))
    safe = jnp.where(finite, slopes, jnp.zeros_like(slopes))
    updates, state = optimizer.update(safe, upper.optimizer, upper.variables)
    variables = jnp.asarray(optax.apply_updates(upper.variables, updates))
    moved = upper._replace(variables=variables, optimizer=state)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, upper)
