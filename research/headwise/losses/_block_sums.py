"""Sums over the positions, block by block: sums of long rows would lose counts.

Several sums are taken side by side in one pass; sums with factors are products of
matrices where compilers are slow at them.
"""

import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _numerics
from headwise import _xla
from headwise.losses import _class_axis
from headwise.typing import Array


def _block(positions: int) -> int:
    """Length of the blocks that are summed first: a divisor, or a power of 2."""
    if positions <= _xla.SUMMED_BLOCK:
        return positions
    largest = max(k for k in range(1, _xla.SUMMED_BLOCK + 1) if positions % k == 0)
    return largest if largest >= 32 else _xla.SUMMED_BLOCK // 2


def _blocks_of(positions: Array, x: Array) -> Array:
    """[B, *S, ...] -> [B, blocks, positions of a block, ...]."""
    batch, count = positions.shape[0], math.prod(positions.shape[1:])
    rest = x.shape[positions.ndim :]
    block = _block(count)
    x = x.reshape(batch, count, *rest)
    if count % block:
        x = jnp.pad(x, ((0, 0), (0, -count % block)) + ((0, 0),) * len(rest))
    return x.reshape(batch, -1, block, *rest)


def _is_fused(x: Array) -> bool:
    """Whether a sum over positions may be left to the compiler, factors and all.

    Those for CPUs are 50 times slower at that than at a product of matrices.
    """
    return not _xla.sums_by_products(x)


@jax.custom_jvp
def totals(arrays: Sequence[Array]) -> list[Array]:
    """The sums over all but the first axis, in one pass."""
    if _numerics.has_sharding_type(arrays[0]):
        return [jnp.sum(x, tuple(range(1, x.ndim))) for x in arrays]

    def add(one: tuple, other: tuple) -> tuple:
        return tuple(map(operator.add, one, other))

    zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
    blocks = tuple(_blocks_of(x, x) for x in arrays)
    partial = lax.reduce(blocks, zeros, add, (2,))
    return [jnp.sum(x, 1) for x in partial]


@totals.defjvp
def _totals_jvp(primals: tuple, tangents: tuple) -> tuple[list, list]:
    (arrays,), (tangents,) = primals, tangents
    return totals(arrays), [jnp.sum(t, tuple(range(1, t.ndim))) for t in tangents]


def weighted_sums(weights: Array, x: Array) -> Array:
    """[B, C] sums of weights [B, *S] times x [B, *S, C]."""
    if _is_fused(x):
        return jnp.sum(weights[..., None] * x, tuple(range(1, weights.ndim)))
    w = _blocks_of(weights, weights)
    parts = jnp.einsum("bnk,bnkc->bnc", w, _blocks_of(weights, x), precision="highest")
    return jnp.sum(parts, 1)


def along_channels(x: Array, of_class: Array | None) -> Array:
    """[B, *S] sums over the channels of x [B, *S, C] times what is [B, C]."""
    if of_class is None:
        return jnp.zeros_like(x[..., 0])
    if _is_fused(x):
        return jnp.sum(x * _class_axis.spread(of_class, x), -1)
    flat = x.reshape(len(x), -1, x.shape[-1])
    sums = jnp.einsum("bnc,bc->bn", flat, of_class, precision="highest")
    return sums.reshape(x.shape[:-1])


def sums_by_label(x: Array, labels: Array, channels: int) -> Array:
    """[B, C] sums of x [B, *S] over the positions with each label.

    On CPUs one scatter into a row for every block of every example; what has no class
    has a channel of its own.
    """
    if _is_fused(labels):
        mine = jnp.where(_class_axis.is_label(labels, channels), x[..., None], 0)
        return jnp.sum(mine, tuple(range(1, labels.ndim)))
    place = _blocks_of(labels, jnp.where(labels < 0, channels, labels))
    batch, blocks, _ = place.shape
    row = jnp.arange(batch * blocks, dtype=jnp.int32).reshape(batch, blocks, 1)
    place = (row * (channels + 1) + place).reshape(-1)
    parts = jnp.zeros(batch * blocks * (channels + 1), x.dtype)
    values = _blocks_of(labels, x).reshape(-1)
    parts = parts.at[place].add(values, mode="promise_in_bounds")
    return jnp.sum(parts.reshape(batch, blocks, -1), 1)[:, :channels]
