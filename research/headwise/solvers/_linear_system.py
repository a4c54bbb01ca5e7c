"""Symmetric systems of a few unknowns, solved without leaving the compiled step."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _xla
from headwise.typing import Array

dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
"""Accelerators would round the factors to fewer bits than the answers need."""


def ridge(unit: Array) -> float:
    """What keeps a singular matrix of unit diagonal solvable."""
    return 25 * float(jnp.finfo(unit.dtype).eps)


def solve_free(
    unit: Array, right: Array, free: Array, ridged: Array | bool = False
) -> Array:
    """Solves for the free variables, the others being 0; also where it is singular.

    A ridge keeps singular matrices solvable; one step of refinement takes its effect
    out again where they are not, unless the system with the ridge is what is `ridged`
    for. `right` is [H] or [H, K].
    """
    identity = jnp.eye(unit.shape[0], dtype=unit.dtype)
    both = free[:, None] & free[None, :]
    inner = jnp.where(both, unit, identity)
    solve = solver(inner + ridge(unit) * identity)
    right = jnp.where(free if right.ndim == 1 else free[:, None], right, 0.0)
    x = solve(right)
    refined = x + solve(right - product(inner, x))
    return refined if ridged is False else jnp.where(ridged, x, refined)


def solver(matrix: Array) -> Callable[[Array], Array]:
    """matrix⁻¹ @, for a symmetric, positive definite matrix.

    Few heads: by the inverse of the Cholesky factor from one elimination, which stays
    in one fused loop, free of LAPACK, whose batched calls can wait for each other for
    ever when several are under way on few cores (XLA on CPU, jax 0.10). More: LU.
    """
    heads = matrix.shape[0]
    if heads > _xla.SWEPT_HEADS:
        factors = jax.scipy.linalg.lu_factor(matrix)
        return functools.partial(jax.scipy.linalg.lu_solve, factors)
    index = jnp.arange(heads)
    least = jnp.finfo(matrix.dtype).eps

    def eliminate(k: Array, rows: Array) -> Array:
        row = rows[k] / jnp.sqrt(jnp.maximum(rows[k, k], least))
        column = jnp.where(index > k, row[:heads], 0.0)  # symmetric, so also rows below
        return jnp.where(
            (index == k)[:, None], row[None, :], rows - column[:, None] * row[None, :]
        )

    start = jnp.concatenate([matrix, jnp.eye(heads, dtype=matrix.dtype)], axis=1)
    inverse = lax.fori_loop(0, heads, eliminate, start)[:, heads:]
    return lambda right: product(inverse.T, product(inverse, right))


def product(matrix: Array, x: Array) -> Array:
    """The matrix times x; of few heads as a sum of products.

    XLA on CPU fuses a `dot` of that size with what stands around it; with jax 0.12 some
    programs then solved wrongly by a percent (`min_norm` of 16 conflicting heads).
    """
    if x.shape[0] > _xla.SWEPT_HEADS:
        return dot(matrix, x)
    factors = matrix if x.ndim == 1 else matrix[:, :, None]
    return jnp.sum(factors * x[None], axis=1)
