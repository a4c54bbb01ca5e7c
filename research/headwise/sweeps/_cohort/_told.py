"""What a step told: its report in few arrays, and whether its program goes on."""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _packing
from headwise.typing import Array


class Told(NamedTuple):
    """What a step told."""

    packed: dict[str, Array]
    """Its report."""
    fine: Array
    """bool []: whether the program goes on."""
    bad: Array
    """bool [H]: heads whose value is not finite."""
    counts: Array
    """bool [H]: heads whose weight is not 0."""


def told(report: Any) -> Told:
    """By `finite`, if a report has it; else by `values`; else by all of it."""
    known = report if isinstance(report, Mapping) else {}
    values, weights = known.get("values"), known.get("weights")
    by_head = values if isinstance(values, Mapping) else {}
    of_weights = weights if isinstance(weights, Mapping) else {}
    names = sorted(by_head)
    bad = [~_finite(by_head[h]) for h in names]
    counts = [jnp.any(array(of_weights.get(h, 1.0)) != 0) for h in names]
    if "finite" in known:
        fine = jnp.all(known["finite"])
    else:
        fine = _finite(report if values is None else values)
    return Told(
        packed=_packing.packed(jax.tree.leaves(numbers(report))),
        fine=fine,
        bad=jnp.stack(bad) if names else jnp.zeros((0,), bool),
        counts=jnp.stack(counts) if names else jnp.zeros((0,), bool),
    )


def heads(report: Any) -> tuple[str, ...]:
    """Those that it has values of."""
    values = report.get("values") if isinstance(report, Mapping) else None
    return tuple(sorted(values)) if isinstance(values, Mapping) else ()


def _finite(tree: Any) -> Array:
    found = jnp.ones((), bool)
    for x in jax.tree.leaves(tree):
        if jnp.issubdtype(x.dtype, jnp.inexact):
            found &= jnp.all(jnp.isfinite(x))
    return found


def numbers(report: Any) -> Any:
    """Arrays of numbers alone: keys as what they are made of."""
    return jax.tree.map(_number, report)


def _number(x: Array) -> Array:
    """A key as its numbers."""
    key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if key else x


def array(x: Any) -> Array:
    """An array that keeps its dtype in the company of others."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return x
    return lax.convert_element_type(x, x.dtype)
