"""Soft skeletons of masks, from erosions and openings by windows of three."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from headwise.typing import Array

Pick = Callable[[Array, Array], Array]

# A `where` on one comparison has a cheaper gradient than jnp.minimum, which looks for
# ties; of equal entries the first has it.


def _lesser(a: Array, b: Array) -> Array:
    return jnp.where(a <= b, a, b)


def _greater(a: Array, b: Array) -> Array:
    return jnp.where(a >= b, a, b)


def _pool(array: Array, axis: int, pick: Pick) -> Array:
    """The pick of each entry and its two neighbours along an axis, of the same shape.

    Outside the array there is nothing to pick. Taken from the picks of pairs: on CPUs
    the gradient is more than twice as fast as that of `lax.reduce_window`, and seven
    times as fast as that of three shifted arrays.
    """
    n = array.shape[axis]
    if n == 1:
        return array

    def cut(x: Array, start: int, stop: int) -> Array:
        return lax.slice_in_dim(x, start, stop, axis=axis)

    pairs = pick(cut(array, 0, n - 1), cut(array, 1, n))
    inner = pick(cut(pairs, 0, n - 2), cut(pairs, 1, n - 1))
    return lax.concatenate([cut(pairs, 0, 1), inner, cut(pairs, n - 2, n - 1)], axis)


def _filled(array: Array, where: Array | None, value: float) -> Array:
    if where is None:
        return array
    return jnp.where(where, array, jnp.full_like(array, value))


def _erode(array: Array, where: Array | None) -> Array:
    """The least entry of a cross: three entries along each spatial axis."""
    full = _filled(array, where, jnp.inf)
    least = _pool(full, 1, _lesser)
    for axis in range(2, array.ndim - 1):
        least = _lesser(least, _pool(full, axis, _lesser))
    return _filled(least, where, 0.0)


def _dilate(array: Array, where: Array | None) -> Array:
    """The greatest entry of a box: three entries a side."""
    array = _filled(array, where, -jnp.inf)
    for axis in range(1, array.ndim - 1):
        array = _pool(array, axis, _greater)
    return _filled(array, where, 0.0)


def soft_skeleton(array: Array, where: Array | None, iterations: int) -> Array:
    """Soft skeletons of masks [B, *S, C]: what erosions leave and openings lose.

    Masked positions lie outside, like those beyond the border: they take part in no
    pooling, and their own skeleton is 0.
    """

    def peel(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        skeleton, array = carry
        eroded = _erode(array, where)
        edge = jax.nn.relu(array - _dilate(eroded, where))
        return (skeleton + jax.nn.relu(edge - skeleton * edge), eroded), None

    # A loop, not unrolled: compiles in less than half of the time, runs no slower.
    start = (jnp.zeros_like(array), array)
    return lax.scan(peel, start, None, length=iterations + 1)[0][0]
