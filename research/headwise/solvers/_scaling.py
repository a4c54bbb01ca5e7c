"""Problems in units in which they can be solved, and answers shared out."""

import functools
import operator

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.solvers import _linear_system
from headwise.typing import Array


def as_problem(
    matrix: Array, linear: Array, names: tuple[str, str] = ("matrix", "linear")
) -> tuple[Array, Array]:
    """Both in the dtype to solve in; raises ValueError for wrong shapes."""
    first, second = names
    matrix, linear = _checks.array(first, matrix), _checks.array(second, linear)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{first}: expected [H, H], got shape {matrix.shape}")
    if linear.shape != matrix.shape[:1]:
        raise ValueError(
            f"{second}: expected shape {matrix.shape[:1]}, got {linear.shape}"
        )
    dtype = _numerics.accumulator(matrix)
    return matrix.astype(dtype), linear.astype(dtype)


def bound(argument: str, given: Array | float, like: Array) -> Array:
    """[H] of a scalar or [H]."""
    given = _checks.array(argument, given)
    if given.shape not in ((), like.shape):
        raise ValueError(
            f"{argument}: expected a scalar or shape {like.shape}, got {given.shape}"
        )
    return jnp.broadcast_to(given.astype(like.dtype), like.shape)


def flags(present: Array | None, heads: int) -> Array:
    """[H] bool of the heads that count; all of them for None."""
    if present is None:
        return jnp.ones(heads, bool)
    present = _checks.array("present", present)
    if present.shape != (heads,):
        raise ValueError(f"present: expected shape ({heads},), got {present.shape}")
    return present.astype(bool)


def unit_diagonal(matrix: Array) -> tuple[Array, Array, Array]:
    """The matrix in units of its diagonal: (unit, lengths, rows that are not zero)."""
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0.0))
    active = lengths > 0
    lengths = jnp.where(active, lengths, jnp.ones_like(lengths))
    # Two divisions: a product of lengths would leave the range of float32.
    unit = (matrix / lengths[:, None]) / lengths[None, :]
    squared = jnp.diagonal(matrix)
    equal = (matrix == squared[:, None]) & (matrix == squared[None, :])
    unit = jnp.where(equal, 1.0, unit)  # so that equal variables have equal rows
    both = active[:, None] & active[None, :]
    identity = jnp.eye(len(lengths), dtype=matrix.dtype)
    unit = jnp.where(both, unit, 0.0) * (1 - identity) + identity
    return unit, lengths, active


def share_equally(x: Array, *rows: Array) -> Array:
    """[H] with the mean of x over those variables whose rows, [H, K] each, are equal.

    Apart, so that rows that are the same for many problems are compared once.
    """
    same = [jnp.all(r[:, None, :] == r[None, :, :], axis=2) for r in rows]
    equal = functools.reduce(operator.and_, same).astype(x.dtype)
    return _linear_system.product(equal, x) / jnp.sum(equal, axis=1)
