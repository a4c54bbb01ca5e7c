"""How operations that move, sum and multiply entries pass on sets of heads.

A rule takes an equation and the sets of its operands' entries, arrays with the axes of
the operands, and gives those of its outputs::

    [2, 1] sets of x [2, 3]  ->  sum over axis 1  ->  [2] sets: those of each row
    [1, 3] sets of x [2, 3]  ->  sum over axis 1  ->  [1] set: the union of all three

What is not listed here is answered by `_dependence`, on the safe side.

Example:
    >>> from headwise.gradients import _movements
    >>> program = jax.make_jaxpr(lambda x: jnp.sum(x, 1))(jnp.ones((2, 3)))
    >>> (eqn,) = program.jaxpr.eqns
    >>> print(*_movements.MOVEMENTS["reduce_sum"](eqn, np.array([[0b01], [0b10]])))
    [1 2]
    >>> print(*_movements.MOVEMENTS["reduce_sum"](eqn, np.array([[0b01, 0b10, 0b10]])))
    [3]
"""

import itertools
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise.gradients import _head_sets


def shapes(atoms: Sequence[Any]) -> list:
    """Shapes of variables and literals; None for what is no array."""
    return [getattr(atom.aval, "shape", None) for atom in atoms]


def _broadcast(eqn: Any, array: np.ndarray) -> list:
    axes = enumerate(eqn.params["broadcast_dimensions"])
    return [_head_sets.move_axes(array, axes, len(eqn.params["shape"]))]


def _reduce(eqn: Any, array: np.ndarray) -> list:
    axes = tuple(eqn.params["axes"])
    return [_head_sets.join_along(array, axes).squeeze(axes)]


def _reshape(eqn: Any, array: np.ndarray) -> list:
    shape, new_shape = eqn.invars[0].aval.shape, eqn.params["new_sizes"]
    order = eqn.params["dimensions"] or range(len(shape))
    array, shape = array.transpose(order), [shape[axis] for axis in order]
    # Axes between two common boundaries of the row-major order are reshaped together;
    # where nothing varies along them before, nothing varies after.
    ends = sorted({*np.cumprod(shape)} & {*np.cumprod(new_shape)})
    old, new = (
        np.searchsorted(ends, np.cumprod([1, *sizes])[:-1], "right")
        for sizes in (shape, new_shape)
    )
    varying = {block for block, n in zip(old, array.shape) if n > 1}
    wide, after = (
        [n if block in varying else 1 for block, n in zip(blocks, sizes)]
        for blocks, sizes in ((old, shape), (new, new_shape))
    )
    if math.prod(wide) * array.itemsize > _head_sets.LARGEST:
        return [_head_sets.move_axes(array, [], len(after))]
    return [np.broadcast_to(array, wide).reshape(after)]


def _slice(eqn: Any, array: np.ndarray) -> list:
    p = eqn.params
    strides = p["strides"] or [1] * array.ndim
    for axis, bounds in enumerate(zip(p["start_indices"], p["limit_indices"], strides)):
        array = _head_sets.take(array, axis, np.arange(*bounds))
    return [array]


def _split(eqn: Any, array: np.ndarray) -> list:
    axis = eqn.params["axis"]
    ends = np.cumsum([0, *eqn.params.get("sizes", [1] * len(eqn.outvars))])
    parts = [
        _head_sets.take(array, axis, np.arange(*pair))
        for pair in itertools.pairwise(ends)
    ]
    return [p.squeeze(axis) for p in parts] if "sizes" not in eqn.params else parts


def _concatenate(eqn: Any, *arrays: np.ndarray) -> list:
    if eqn.primitive.name == "stack":
        axis, sizes = eqn.params["axis"], [1] * len(arrays)
        arrays = tuple(np.expand_dims(array, axis) for array in arrays)
    else:
        axis = eqn.params["dimension"]
        sizes = [shape[axis] for shape in shapes(eqn.invars)]
    ends = np.cumsum([0, *sizes])
    spans = [np.arange(*pair) for pair in itertools.pairwise(ends)]
    return [
        _head_sets.join_arrays(
            *(_head_sets.put(a, axis, at, ends[-1]) for a, at in zip(arrays, spans))
        )
    ]


def _pad(eqn: Any, array: np.ndarray, fill: np.ndarray) -> list:
    lengths = zip(*shapes([eqn.invars[0], eqn.outvars[0]]), strict=True)
    for axis, (n, length) in enumerate(lengths):
        low, high, between = eqn.params["padding_config"][axis]
        if low or high or between:
            places = low + np.arange(n) * (between + 1)
            array = _head_sets.put(array, axis, places, length)
    return [_head_sets.join_arrays(array, fill)]


def _dot(eqn: Any, left: np.ndarray, right: np.ndarray) -> list:
    summed, batch = eqn.params["dimension_numbers"]
    free_left, free_right = (
        [axis for axis in range(array.ndim) if axis not in (*gone, *kept)]
        for array, gone, kept in zip((left, right), summed, batch)
    )
    ndim = len(batch[0]) + len(free_left) + len(free_right)
    places = [*range(len(batch[0])), *range(ndim - len(free_right), ndim)]
    left = _head_sets.move_axes(left, zip([*batch[0], *free_left], range(ndim)), ndim)
    return [
        _head_sets.join_arrays(
            left,
            _head_sets.move_axes(right, zip([*batch[1], *free_right], places), ndim),
        )
    ]


def _conv(eqn: Any, left: np.ndarray, right: np.ndarray) -> list:
    p, (of_left, of_right, out) = eqn.params, eqn.params["dimension_numbers"]
    # The batch comes from the left, unless groups part it; the features from the right,
    # where those of a group see the left's features of that group, here all of them.
    batch = [(of_left[0], out[0])] if p["batch_group_count"] == 1 else []
    left = _head_sets.move_axes(left, batch, left.ndim)
    return [
        _head_sets.join_arrays(
            left, _head_sets.move_axes(right, [(of_right[0], out[1])], right.ndim)
        )
    ]


def _read(eqn: Any, array: np.ndarray, *index: np.ndarray) -> list:
    """Windows, read from unknown places."""
    windows = eqn.outvars[0].aval.shape
    read = _head_sets.move_axes(array, _covered(eqn, windows), len(windows))
    return [
        _head_sets.join_arrays(read, _head_sets.as_array(_head_sets.union(index), 0))
    ]


def _write(eqn: Any, array: np.ndarray, *others: np.ndarray) -> list:
    """Windows, written to unknown places, joined with what was there."""
    at = 1 if eqn.primitive.name == "dynamic_update_slice" else 2
    windows, index = others[at - 1], others[: at - 1] + others[at:]
    axes = [(mine, axis) for axis, mine in _covered(eqn, eqn.invars[at].aval.shape)]
    return [
        _head_sets.join_arrays(
            array,
            _head_sets.move_axes(windows, axes, array.ndim),
            _head_sets.as_array(_head_sets.union(index), 0),
        )
    ]


def _covered(eqn: Any, windows: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of an axis that each window covers whole and its place in the windows."""
    shape = eqn.invars[0].aval.shape
    axes, places = [*range(len(shape))], [*range(len(shape))]
    if "dimension_numbers" in eqn.params:  # of a gather or a scatter
        places, gone, _, batch, _ = eqn.params["dimension_numbers"]
        axes = [axis for axis in axes if axis not in (*gone, *batch)]
    pairs = zip(axes, places, strict=True)
    return [(axis, at) for axis, at in pairs if shape[axis] == windows[at]]


_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp complex conj
convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor
ge gt imag integer_pow is_finite le lgamma log log1p log2 logistic lt max min mul name
ne neg nextafter not one_minus_square or polynomial pow real reduce_precision rem round
rsqrt select_n sharding_constraint sign sin sinh sqrt square stop_gradient sub tan tanh
xor
"""
ELEMENTWISE = frozenset(_NAMES.split())
"""Each entry of a result depends on the entries at its place."""

MOVEMENTS: dict[str, Callable[..., Sequence[np.ndarray]]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "device_put": lambda eqn, *arrays: arrays,
    "dot_general": _dot,
    "dynamic_slice": _read,
    "dynamic_update_slice": _write,
    "gather": _read,
    "optimization_barrier": lambda eqn, *arrays: arrays,
    "pad": _pad,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_prod": _reduce,
    "reduce_sum": _reduce,
    "reshape": _reshape,
    "rev": lambda eqn, array: [np.flip(array, eqn.params["dimensions"])],
    "scatter": _write,
    "scatter-add": _write,
    "slice": _slice,
    "split": _split,
    "squeeze": lambda eqn, array: [array.squeeze(eqn.params["dimensions"])],
    "stack": _concatenate,
    "transpose": lambda eqn, array: [array.transpose(eqn.params["permutation"])],
    "unstack": _split,
}
"""By primitive: (equation, sets of each operand) -> sets of each output."""
MIXING = ("concatenate", "device_put", "optimization_barrier", "pad", "stack")
"""These give their results different sets even where each operand has one."""
