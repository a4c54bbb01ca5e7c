"""Inner products of long arrays."""

import functools
import operator
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _numerics
from headwise import _xla
from headwise.typing import Array
from headwise.typing import PyTree

_FEW = 4
"""Rows whose weighted sum is written out, and fuses with what is done with it."""


def products(
    rows: Array | Sequence[Array], reached: Sequence[int] | None = None
) -> Array:
    """H arrays of one shape, or a stack of them -> [H, H] inner products.

    At least float32. Only those of the heads `reached` are read; the others are known
    to be 0.

    Long ones are multiplied pair by pair: nothing is copied, every product is summed
    in full precision, and arrays that are split over devices stay where they are.
    """
    heads = len(rows)
    if isinstance(rows, Array) and reached is None:
        return _of_matrix(jnp.reshape(rows, (heads, -1)), _numerics.accumulator(rows))
    dtype = _numerics.accumulator(*rows)
    if reached is not None and len(reached) < heads:
        part = products([rows[h] for h in reached]) if reached else 0.0
        at = jnp.ix_(jnp.asarray(reached), jnp.asarray(reached)) if reached else ...
        return jnp.zeros((heads, heads), dtype).at[at].set(part)
    pairwise = _xla.multiplies_pairwise(rows[0].size, heads)
    if not pairwise and not any(map(_numerics.has_sharding_type, rows)):
        return _of_rows(list(rows), dtype)
    gram = [[jnp.zeros(())] * heads for _ in rows]
    for i in range(heads):
        for j in range(i, heads):
            gram[i][j] = gram[j][i] = inner(rows[i], rows[j], dtype)
    return jnp.stack([jnp.stack(line) for line in gram])


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _of_rows(rows: list[Array], dtype: Any) -> Array:
    lines = [lax.reshape(row.astype(dtype), (1, row.size)) for row in rows]
    return _of_matrix(lax.concatenate(lines, 0), dtype)


def _of_matrix(matrix: Array, dtype: Any) -> Array:
    matrix = matrix.astype(dtype)
    precision = lax.Precision.HIGHEST
    return jnp.matmul(matrix, matrix.conj().T, precision=precision).real


def of_each(batch: Array) -> Array:
    """L stacks, [L, H, ...] -> [L, H, H] inner products in each, at least float32."""
    matrices = jnp.reshape(batch, (*batch.shape[:2], -1))
    matrices = matrices.astype(_numerics.accumulator(batch))
    turned = jnp.swapaxes(matrices.conj(), 1, 2)
    return jnp.matmul(matrices, turned, precision=lax.Precision.HIGHEST).real


def cross(rows: Array | Sequence[Array], others: Array | Sequence[Array]) -> Array:
    """H and K arrays of one shape, or two stacks -> [H, K] inner products.

    At least float32.
    """
    if isinstance(rows, Array) and isinstance(others, Array):
        dtype = _numerics.accumulator(rows, others)
        a, b = (jnp.reshape(x, (len(x), -1)).astype(dtype) for x in (rows, others))
        return jnp.matmul(a, b.conj().T, precision=lax.Precision.HIGHEST).real
    dtype = _numerics.accumulator(*rows, *others)
    lines = [jnp.stack([inner(a, b, dtype) for b in others]) for a in rows]
    return jnp.stack(lines)


def along(rows: Sequence[Array], u: Array, reached: Sequence[int]) -> Array:
    """H arrays of one shape -> [H] inner products with u, at least float32.

    Only those of the heads `reached` are read; the others are known to be 0.
    """
    dtype = _numerics.accumulator(*rows)
    mine = [rows[h] for h in reached]
    of_heads = [jnp.zeros((), dtype).real] * len(rows)
    if mine and _xla.reduces_together(u):
        terms = [(g.astype(dtype) * u.astype(dtype).conj()).real for g in mine]
        sums = [jnp.sum(x) for x in _reduced_together(terms, 0.0, operator.add)]
    elif not mine or u.size >= _xla.PAIRWISE_SIZE or _numerics.has_sharding_type(u):
        sums = [inner(g, u, dtype) for g in mine]
    else:
        matrix = jnp.stack([jnp.ravel(g) for g in mine]).astype(dtype)
        u = jnp.ravel(u).astype(dtype).conj()
        sums = list(jnp.matmul(matrix, u, precision=lax.Precision.HIGHEST).real)
    for h, x in zip(reached, sums, strict=True):
        of_heads[h] = x
    return jnp.stack(of_heads)


def nonzero(arrays: Sequence[Array]) -> list[Array]:
    """For each array whether it has an entry that is not 0, NaN included."""
    flags = [jnp.zeros((), bool)] * len(arrays)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, array in enumerate(arrays):
        if _xla.reduces_together(array):
            groups.setdefault(array.shape, []).append(i)
        else:
            flags[i] = jnp.any(array != 0)
    for same in groups.values():
        terms = [arrays[i] != 0 for i in same]
        ors = _reduced_together(terms, False, operator.or_)
        for i, x in zip(same, ors, strict=True):
            flags[i] = jnp.any(x)
    return flags


def _reduced_together(
    terms: Sequence[Array], zero: Any, combine: Callable[[Array, Array], Array]
) -> list[Array]:
    """Arrays of one shape, each reduced over its last axis, some of them in one loop.

    All that leads to the terms is in the loop too; reduced one by one they may be
    stored first.
    """
    if len(terms) > _xla.TOGETHER_ARRAYS:
        rest = _reduced_together(terms[_xla.TOGETHER_ARRAYS :], zero, combine)
        return _reduced_together(terms[: _xla.TOGETHER_ARRAYS], zero, combine) + rest
    alike = _numerics.alike(tuple(terms))
    zeros = _numerics.alike(tuple(jnp.asarray(zero, x.dtype) for x in alike), alike)
    last = (terms[0].ndim - 1,)
    return list(lax.reduce(alike, zeros, lambda a, b: tuple(map(combine, a, b)), last))


def weighted_sum(
    weights: Array | Sequence[Array], rows: Sequence[Array], reached: Sequence[int]
) -> Array:
    """Σ weight * row over the heads `reached`, summed in float32 at least.

    A head of weight 0 counts for nothing, even if its row is NaN.
    """
    if not len(reached):
        return jnp.zeros_like(rows[0])
    dtype = _numerics.accumulator(*rows)
    mine = [(weights[h], rows[h]) for h in reached]
    return _weighted_sum(mine, dtype).astype(jnp.result_type(*rows))


@functools.partial(
    jax.jit, static_argnums=1, inline=True
)  # Many leaves have the same shapes.
def _weighted_sum(pairs: list[tuple[Array, Array]], dtype: Any) -> Array:
    parts = [
        _numerics.drop_zero_weight(weight.astype(dtype), row.astype(dtype))
        for weight, row in pairs
    ]
    return sum(parts[1:], parts[0])


def of_stack(weights: Array, stack: Array) -> Array:
    """`weighted_sum` of the rows of one array, with a weight for each."""
    if len(stack) <= _FEW:
        terms = list(weighed(weights, stack))
        return sum(terms[1:], terms[0]).astype(stack.dtype)
    if not _xla.sums_by_products(stack):
        return jnp.sum(weighed(weights, stack), 0).astype(stack.dtype)
    dtype = _numerics.accumulator(stack)
    counted = jnp.reshape(weights != 0, (-1,) + (1,) * (stack.ndim - 1))
    rows = jnp.where(counted, stack.astype(dtype), 0)
    product = jnp.tensordot(weights.astype(dtype), rows, 1, precision="highest")
    return product.astype(stack.dtype)


def summed(stack: Array) -> Array:
    """Σ of the rows of one array, in float32 at least and then in its own dtype."""
    dtype = _numerics.accumulator(stack)
    if not _xla.sums_by_products(stack):
        return jnp.sum(stack, 0, dtype=dtype).astype(stack.dtype)
    ones = jnp.ones(len(stack), dtype)
    product = jnp.tensordot(ones, stack.astype(dtype), 1, precision="highest")
    return product.astype(stack.dtype)


def largest(stack: Array) -> Array:
    """The greatest of the rows of one array, entry by entry."""
    if len(stack) > _xla.PAIRWISE_HEADS or not _xla.sums_by_products(stack):
        return jnp.max(stack, 0)
    return functools.reduce(jnp.maximum, list(stack))


def weighed(weights: Array, stack: Array) -> Array:
    """Every row times its weight, 0 where that is 0; in float32 at least."""
    dtype = _numerics.accumulator(stack)
    column = jnp.reshape(weights, (-1,) + (1,) * (stack.ndim - 1))
    return _numerics.drop_zero_weight(column.astype(dtype), stack.astype(dtype))


def norm(tree: PyTree) -> Array:
    """Length of all leaves together, squared and summed in at least float32."""
    squares = [inner(x, x, _numerics.accumulator(x)) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares[1:], squares[0]))


def inner(a: Array, b: Array, dtype: Any) -> Array:
    """Re <a, b> over all entries, summed in `dtype`."""
    return jnp.sum((a.astype(dtype) * b.astype(dtype).conj()).real)
