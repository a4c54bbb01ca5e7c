"""Sets of heads: one for a variable, one for each entry of an array, all there are.

A set is an int used as a bit set: head h, in sorted order of the names, is bit h. It
costs nothing to join, compare and hash, and for up to 20 heads it is an index too.
Heads 0 and 2, and what they share with heads 1 and 2::

    0b101 | 0b110 = 0b111,    0b101 & 0b110 = 0b100

Where heads share an array (stacked losses, concatenated channels) its entries lead to
different sets. Then there is an array of sets, with as many axes as the program's
array, and of length 1 along the axes where nothing varies: a set for each channel costs
the same for every size of image.

Example:
    >>> from headwise.gradients import _head_sets
    >>> _head_sets.members(0b101)
    [0, 2]
    >>> per_channel = np.array([[0b01, 0b10]])          # of an array [100, 2]
    >>> _head_sets.union([per_channel, 0b100])
    7
    >>> _head_sets.join([per_channel, 0b100])
    array([[5, 6]])
"""

import functools
import math
from collections.abc import Iterable

import numpy as np

LARGEST = 2**18
"""Bytes of the largest array of sets; with up to 8 heads an entry takes one. Sets that
vary over more entries are joined along the longest axes: too much, never too little."""

Sets = int | np.ndarray
"""One set for all entries, or an array of at least two different ones."""


# One set.


def single(head: int) -> int:
    """The set of one head."""
    return 1 << head


def members(heads: int) -> list[int]:
    """The heads in a set, ascending."""
    return [h for h in range(int(heads).bit_length()) if heads >> h & 1]


def subsets(heads: int) -> np.ndarray:
    """All subsets of a set, [2^size], the empty one first."""
    sets = np.zeros(1, np.int64)
    for h in members(heads):
        sets = np.concatenate([sets, sets | single(h)])
    return sets


# A set for each entry of an array.


def union(sets: Iterable[Sets]) -> int:
    """All heads of all entries."""
    total = 0
    for s in sets:
        total |= s if isinstance(s, int) else int(np.bitwise_or.reduce(s, None))
    return total


def join(sets: Iterable[Sets]) -> Sets:
    """The union entry by entry, of arrays that broadcast together."""
    sets = list(sets)
    whole = union(s for s in sets if isinstance(s, int))
    mixed = list({id(s): s for s in sets if not isinstance(s, int)}.values())
    if not mixed or (len(mixed) == 1 and not whole):
        return mixed[0] if mixed else whole
    return simplest(join_arrays(*mixed, as_array(whole, 0)))


def as_array(sets: Sets, ndim: int) -> np.ndarray:
    """One set as an array with axes of length 1; an array as it is."""
    if isinstance(sets, int):  # NumPy's type is that of objects beyond 64 heads
        return np.full((1,) * ndim, sets, np.min_scalar_type(sets))
    return sets


def simplest(array: np.ndarray) -> Sets:
    """Shortens axes along which nothing varies; a single set becomes an int."""
    if array.size == 0:
        return 0
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return int(array.item()) if array.size == 1 else array


def join_arrays(*arrays: np.ndarray) -> np.ndarray:
    """The union entry by entry; too large a result is joined along its longest axis."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    if math.prod(shape) * np.result_type(*arrays).itemsize > LARGEST:
        longest = [int(np.argmax(shape))]
        return join_arrays(*(join_along(a, longest) if a.ndim else a for a in arrays))
    return functools.reduce(np.bitwise_or, arrays)


def join_along(array: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    """The union over axes, which keep length 1."""
    return np.bitwise_or.reduce(array, tuple(axes), keepdims=True)


def move_axes(array: np.ndarray, axes: Iterable[tuple], ndim: int) -> np.ndarray:
    """Puts axes, (axis, place), into a result; the union over all others."""
    places = dict(sorted(axes, key=lambda pair: pair[1]))
    others = [axis for axis in range(array.ndim) if axis not in places]
    shape = [1] * ndim
    for axis, place in places.items():
        shape[place] = array.shape[axis]
    return join_along(array, others).transpose((*places, *others)).reshape(shape)


def take(array: np.ndarray, axis: int, entries: np.ndarray) -> np.ndarray:
    """Entries along an axis, of which one stands for all if nothing varies."""
    return array.take(entries, axis) if array.shape[axis] > 1 else array


def put(array: np.ndarray, axis: int, places: np.ndarray, length: int) -> np.ndarray:
    """Into an axis of that length, whose other entries lead to no head."""
    rows = np.moveaxis(array, axis, 0)
    shape = (length, *rows.shape[1:])
    if math.prod(shape) * array.itemsize > LARGEST:
        return join_along(array, [axis])
    inside = (places >= 0) & (places < length)
    result = np.zeros(shape, array.dtype)
    result[places[inside]] = rows[inside] if len(rows) > 1 else rows
    return np.moveaxis(result, 0, axis)
