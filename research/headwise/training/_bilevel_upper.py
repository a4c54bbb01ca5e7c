"""The upper level: variables behind the weights, one for every head, and their step."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from headwise import _checks
from headwise import _means
from headwise import _numerics
from headwise import balancers
from headwise import gradients
from headwise.training import _bilevel
from headwise.training import _extra_args
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def stacked(values: dict[str, Array]) -> Array:
    """[H] in the order of the dict, at least float32."""
    row = jnp.stack(list(values.values()))
    return row.astype(_numerics.accumulator(row))


def with_data(values: dict[str, Array]) -> Array:
    """[H] bool, in the order of the dict: which heads have data in this batch."""
    here = _means.tally_of(values).here(values)
    return jnp.ones(len(values), bool) if here is None else here


def graded(
    values_fn: ValuesFn, params: PyTree
) -> tuple[dict[str, Array], dict[str, PyTree], np.ndarray]:
    """Values and gradients by head, and [H] which heads move a parameter at all.

    One that moves none has a gradient of 0 wherever it is. To a method of least norm
    that is the best combination there is, and nobody would be served.
    """
    plain = gradients.with_aux(_means.with_tally(values_fn, False), True)
    values, (_, tally), backward = gradients.linearize(plain, params)
    structure = jax.tree.structure(params)
    rows = [jax.tree.unflatten(structure, row) for row in backward.rows()]
    moves = np.array([any(flags) for flags in backward.reaches()])
    values = _means.together(values, tally)
    return values, dict(zip(backward.names, rows, strict=True)), moves


class Upper(NamedTuple):
    """State of a method."""

    names: balancers.Names
    variables: Array
    """[H] weights or logits."""
    optimizer: Any
    shares: Array
    """[H] how much each head's validation value counts (FORUM: averaged λ)."""


def check_upper(method: str, problem: _bilevel.BilevelProblem, upper: Any) -> None:
    """Raises unless the state is the method's and about the heads of the values."""
    names = balancers.Names.in_state(method, upper)
    _checks.same_names(f"{method}: values", names, problem.values)


def descended(
    optimizer: optax.GradientTransformation, slopes: Array, upper: Upper
) -> Upper:
    """One step of the upper optimiser; none where a slope is not finite."""
    slopes = slopes.astype(upper.variables.dtype)
    finite = jnp.all(jnp.isfinite(slopes))
    safe = jnp.where(finite, slopes, jnp.zeros_like(slopes))
    updates, state = _extra_args.mixing(
        optimizer, safe, upper.optimizer, upper.variables
    )
    variables = jnp.asarray(optax.apply_updates(upper.variables, updates))
    moved = upper._replace(variables=variables, optimizer=state)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, upper)
