"""Blocks of one array, cut out at places that differ from head to head.

The columns of one output are slices with other starts. In a stack of heads the starts
are data: forward that is a slice at an index, and back comes a choice by index, which a
compiler fuses with what is around it. A scatter, which JAX would make of it, is slow.

Example:
    >>> from headwise.gradients import _blocks
    >>> x = jnp.arange(6.0).reshape(2, 3)
    >>> program = jax.make_jaxpr(lambda x: jax.lax.slice(x, (0, 1), (2, 2)))(x)
    >>> (eqn,) = program.jaxpr.eqns
    >>> block = _blocks.Block(eqn.invars[0], eqn.outvars[0], (0, 1), (1,), ())
    >>> back = jax.linear_transpose(lambda x: _blocks.cut(x, [jnp.int32(2)], block), x)
    >>> print(back(jnp.array([[5.0], [7.0]]))[0])
    [[0. 0. 5.]
     [0. 0. 7.]]
"""

import functools
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise import _linear_map
from headwise.gradients._equations import Var
from headwise.typing import Array


class Block(NamedTuple):
    """A slice whose starts are data."""

    operand: Var
    out: Var
    first: tuple[int, ...]
    """The starts of the first head."""
    axes: tuple[int, ...]
    """Along which the starts differ between heads."""
    starts: tuple[Var, ...]
    """Of these axes."""

    @property
    def outvars(self) -> list[Var]:
        """As an equation has them."""
        return [self.out]


def cut(x: Array, starts: Sequence[Array], block: Block) -> Array:
    """A slice, of which back goes a choice by index: quick in a stack of heads."""
    shape, sizes = x.shape, block.out.aval.shape
    if not block.axes:
        ends = [s + n for s, n in zip(block.first, sizes, strict=True)]
        return lax.slice(x, block.first, ends)

    def forward(known: list[Array], tangents: list[Array]) -> list[Array]:
        return [lax.dynamic_slice(tangents[0], _at(block, known), sizes)]

    def backward(known: list[Array], cotangents: list[Any]) -> list[Any]:
        (ct,) = cotangents
        if ct is None:
            return [None]
        if any(sizes[axis] > 1 for axis in block.axes):
            zeros = jnp.zeros(shape, ct.dtype)
            return [lax.dynamic_update_slice(zeros, ct, _at(block, known))]
        fixed = [
            (0, 0, 0) if i in block.axes else (low, shape[i] - low - sizes[i], 0)
            for i, low in enumerate(block.first)
        ]
        ct = lax.pad(ct, jnp.zeros((), ct.dtype), fixed)
        here = [
            lax.broadcasted_iota(start.dtype, shape, axis) == start
            for axis, start in zip(block.axes, known, strict=True)
        ]
        chosen = here[0]
        for more in here[1:]:
            chosen = chosen & more
        ct = jnp.broadcast_to(ct, shape)
        return [jnp.where(chosen, ct, jnp.zeros_like(ct))]

    return _linear_map.linear_map(forward, backward, list(starts), [x])[0]


def cut_rows(
    x: Array, axis: int | None, starts: np.ndarray, shape: tuple[int, ...]
) -> tuple[Array, int | None]:
    """[heads, *shape]: of each head a block of its row, or of what all have.

    Args:
        x: [heads, ...], or without heads if `axis` is None.
        axis: 0 or None, as `jax.vmap` has it.
        starts: [heads, axes].
        shape: of a block.
    """
    heads, first, steps = len(starts), starts[0], np.diff(starts, axis=0)
    differ = np.flatnonzero((starts != first).any(0))
    if not len(differ):
        block = functools.partial(lax.slice, start_indices=first)
        ends = [s + n for s, n in zip(first, shape, strict=True)]
        block = functools.partial(block, limit_indices=ends)
        return (block(x) if axis is None else jax.vmap(block)(x)), axis
    at = int(differ[0])
    if axis is None and len(differ) == 1 and (steps[:, at] == shape[at]).all():
        # One after the other: a larger block, turned.
        whole = tuple(n * heads if i == at else n for i, n in enumerate(shape))
        x = lax.slice(x, first, [s + n for s, n in zip(first, whole, strict=True)])
        x = x.reshape(*shape[:at], heads, *shape[at:])
        return jnp.moveaxis(x, at, 0), 0

    def at_start(x: Array, start: Array) -> Array:
        return lax.dynamic_slice(x, list(start), shape)

    return jax.vmap(at_start, (axis, 0))(x, jnp.asarray(starts)), 0


def put_back(terms: Array, starts: Sequence[Array], block: Block) -> Array:
    """Σ of the blocks of all heads, each at its place in the whole array."""
    shape = block.operand.aval.shape

    def all_of(x: Array) -> Array:
        return jax.vmap(
            lambda *at: lax.dynamic_slice(x, _at(block, at), terms.shape[1:])
        )(*starts)

    x = jax.ShapeDtypeStruct(shape, terms.dtype)
    (total,) = jax.linear_transpose(all_of, x)(terms)
    return total.astype(block.operand.aval.dtype)


def _at(block: Block, starts: Sequence[Array]) -> list[Any]:
    at: list[Any] = [np.int32(start) for start in block.first]
    for axis, start in zip(block.axes, starts, strict=True):
        at[axis] = start
    return at
