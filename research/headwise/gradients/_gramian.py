"""Inner products of the head gradients: lengths, angles, conflicts."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import _trees
from headwise.typing import Array
from headwise.typing import PyTree

PAIRWISE_SIZE = 2**16
PAIRWISE_HEADS = 16
"""Gradients at least so long, of at most so many heads, are multiplied pair by pair."""


def rows_by_leaf(grads: Mapping[str, PyTree]) -> list[list[Array]]:
    """The head gradients leaf by leaf, each a list over the sorted names."""
    names = _checks.head_names("grads", grads)
    leaves = [jax.tree.leaves(grads[name]) for name in names]
    for name, found in zip(names, leaves, strict=True):
        if _trees.structure(grads[name]) != _trees.structure(grads[names[0]]):
            raise ValueError(
                f"grads: expected the same structure for every head; {name!r} and "
                f"{names[0]!r} differ"
            )
        for a, b in zip(found, leaves[0], strict=True):
            if jnp.shape(a) != jnp.shape(b):
                raise ValueError(
                    f"grads: {name!r} has a leaf of shape {jnp.shape(a)} where "
                    f"{names[0]!r} has {jnp.shape(b)}"
                )
    return [[jnp.asarray(g) for g in heads] for heads in zip(*leaves, strict=True)]


def products(rows: Sequence[Array], reached: Sequence[int] | None = None) -> Array:
    """H arrays of one shape -> [H, H] inner products, at least float32.

    Only those of the heads `reached` are read; the others are known to be 0.

    Long ones are multiplied pair by pair: nothing is copied, every product is summed
    in full precision, and arrays that are split over devices stay where they are.
    """
    dtype = _numerics.accumulator(*rows)
    heads = len(rows)
    if reached is not None and len(reached) < heads:
        part = products([rows[h] for h in reached]) if reached else 0.0
        at = jnp.ix_(jnp.asarray(reached), jnp.asarray(reached)) if reached else ...
        return jnp.zeros((heads, heads), dtype).at[at].set(part)
    few = rows[0].size < PAIRWISE_SIZE or heads > PAIRWISE_HEADS
    if few and not any(map(_numerics.has_sharding_type, rows)):
        matrix = jnp.stack([jnp.ravel(row) for row in rows]).astype(dtype)
        precision = lax.Precision.HIGHEST
        return jnp.matmul(matrix, matrix.conj().T, precision=precision).real
    gram = [[jnp.zeros(())] * heads for _ in rows]
    for i in range(heads):
        for j in range(i, heads):
            gram[i][j] = gram[j][i] = inner(rows[i], rows[j], dtype)
    return jnp.stack([jnp.stack(line) for line in gram])


def inner(a: Array, b: Array, dtype: Any) -> Array:
    """Re <a, b> over all entries, summed in `dtype`."""
    return jnp.sum((a.astype(dtype) * b.astype(dtype).conj()).real)


def gramian(grads: Mapping[str, PyTree]) -> Array:
    """Inner products of the head gradients over all parameters.

    ``gram[i, j] = <grads[names[i]], grads[names[j]]>``, names in sorted order.

    Args:
        grads: {name: pytree}, as `hw.head_grads` returns.

    Returns:
        [H, H], symmetric; float32 (also for bfloat16 gradients), float64 if a leaf is.

    Raises:
        ValueError: the gradients differ in structure or shapes.

    Example:
        >>> grads = {"y1": {"b": 3.0, "c": 4.0}, "y2": {"b": 2.0, "c": 0.0}}
        >>> print(hw.gramian(grads))
        [[25.  6.]
         [ 6.  4.]]
    """
    return jnp.asarray(sum(products(rows) for rows in rows_by_leaf(grads)))


def cosines(gram: Array) -> Array:
    """Cosine of the angle between every two head gradients.

    ``cos[i, j] = gram[i, j] / sqrt(gram[i, i] * gram[j, j])``; negative means that the
    heads conflict. A zero gradient has cosine 0 to all, itself included.

    Args:
        gram: [..., H, H].

    Returns:
        [..., H, H] in [-1, 1].

    Raises:
        ValueError: `gram` is not square.

    Example:
        >>> print(hw.cosines(jnp.array([[25.0, -6.0], [-6.0, 4.0]])))
        [[ 1.  -0.6]
         [-0.6  1. ]]
    """
    gram = jnp.asarray(gram)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2]:
        raise ValueError(f"gram: expected [..., H, H], got shape {gram.shape}")
    norms = jnp.sqrt(jnp.diagonal(gram, axis1=-2, axis2=-1))
    # Two divisions: the product of two small norms would underflow.
    rows = _numerics.safe_divide(gram, norms[..., :, None], 0.0)
    return jnp.clip(_numerics.safe_divide(rows, norms[..., None, :], 0.0), -1.0, 1.0)


def of_rows(rows: Sequence[Sequence[Array]]) -> Array:
    """[H, H] from a list of arrays for each head."""
    return jnp.asarray(sum(products(leaf) for leaf in zip(*rows, strict=True)))
