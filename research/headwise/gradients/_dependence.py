"""Which outputs of a traced program depend on which inputs.

A set of inputs is an int used as a bit set. Most arrays have one set for all entries;
where heads share an array (stacked losses, concatenated channels) it has an array of
sets, with the axes of the program's array, of length 1 where nothing varies: a set for
each channel costs the same for every size of image.

The answer is exact, entry by entry, through slices, pads, concatenation, reshapes,
elementwise operations, reductions and matrix products, and through jit, remat, custom
derivatives and cond, whose programs are entered. Convolutions keep batch and channels
apart, indexing all axes but those indexed, scans all but the scanned one. The rest is
answered on the safe side, dependent: sets that vary over too many entries (`_LIMIT`)
are joined along the longest axes, and an array has one set behind every operation that
is not listed here, in carries that still change after `_STEPS` steps of a scan, and
behind loops of unknown length, mutable references and unknown primitives that hold a
program of another shape.
"""

import functools
import itertools
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core

_LIMIT = 2**18
"""Bytes of the largest array of sets; with up to 8 inputs an entry takes one."""

_STEPS = 32
"""Steps of a scan whose carries are followed entry by entry."""

Sets = int | np.ndarray
"""One set for all entries, or an array of at least two different ones."""


def dependence(program: Any, inputs: Sequence[int]) -> list[int]:
    """The set that each output depends on, given the set of each input."""
    return [_union([sets]) for sets in entrywise(program, inputs)]


def entrywise(program: Any, inputs: Sequence[Sets]) -> list[Sets]:
    """The same entry by entry, given the sets of each input's entries."""
    jaxpr = _jaxpr(program)
    known: dict[Any, Sets] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Sets:
        return 0 if isinstance(atom, core.Literal) else known.get(atom, 0)

    for eqn in jaxpr.eqns:
        sets = [read(atom) for atom in eqn.invars]
        references = [atom for atom in eqn.invars if hasattr(atom.aval, "inner_aval")]
        if references:  # written or read, here or in a nested program
            found: Sequence[Sets] = [_union(sets)] * len(eqn.outvars)
            known.update(dict.fromkeys(references, _union(sets)))
        else:
            found = _of_equation(eqn, sets)
        known.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _jaxpr(program: Any) -> Any:
    return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program


def _shapes(atoms: Sequence[Any]) -> list:
    return [getattr(atom.aval, "shape", None) for atom in atoms]


def _of_equation(eqn: Any, sets: list[Sets]) -> Sequence[Sets]:
    name, whole = eqn.primitive.name, [_union(sets)] * len(eqn.outvars)
    if not any(whole):
        return whole
    if name in _CONTROL:
        return _CONTROL[name](eqn, sets)
    for value in eqn.params.values():
        if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
            inner = _jaxpr(value)
            inside = [_shapes(inner.invars), _shapes(inner.outvars)]
            outside = [_shapes(eqn.invars), _shapes(eqn.outvars)]
            if inside == outside:
                return entrywise(value, sets)
            if [*map(len, inside)] == [*map(len, outside)]:
                return dependence(value, [_union([s]) for s in sets])
    if name in _ELEMENTWISE:
        return [_join(sets)]
    uniform = all(isinstance(s, int) for s in sets)
    if name not in _MOVEMENTS or (uniform and name not in _MIXING):
        return whole
    arrays = [_array(s, len(shape)) for s, shape in zip(sets, _shapes(eqn.invars))]
    return [_settle(array) for array in _MOVEMENTS[name](eqn, *arrays)]


# Sets.


def _union(sets: Iterable[Sets]) -> int:
    total = 0
    for s in sets:
        total |= s if isinstance(s, int) else int(np.bitwise_or.reduce(s, None))
    return total


def _join(sets: Iterable[Sets]) -> Sets:
    """The union entry by entry."""
    sets = list(sets)
    whole = _union(s for s in sets if isinstance(s, int))
    mixed = list({id(s): s for s in sets if not isinstance(s, int)}.values())
    if not mixed or (len(mixed) == 1 and not whole):
        return mixed[0] if mixed else whole
    return _settle(_or(*mixed, _array(whole, 0)))


def _array(sets: Sets, ndim: int) -> np.ndarray:
    if isinstance(sets, int):  # NumPy's type is that of objects beyond 64 heads
        return np.full((1,) * ndim, sets, np.min_scalar_type(sets))
    return sets


def _settle(array: np.ndarray) -> Sets:
    """Shortens axes along which nothing varies; a single set becomes an int."""
    if array.size == 0:
        return 0
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return int(array.item()) if array.size == 1 else array


def _or(*arrays: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    if math.prod(shape) * np.result_type(*arrays).itemsize > _LIMIT:
        longest = [int(np.argmax(shape))]
        return _or(*(_over(a, longest) if a.ndim else a for a in arrays))
    return functools.reduce(np.bitwise_or, arrays)


def _over(array: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    """The union over axes, which keep length 1."""
    return np.bitwise_or.reduce(array, tuple(axes), keepdims=True)


def _carry(array: np.ndarray, axes: Iterable[tuple], ndim: int) -> np.ndarray:
    """Puts axes, (axis, place), into a result; the union over all others."""
    places = dict(sorted(axes, key=lambda pair: pair[1]))
    others = [axis for axis in range(array.ndim) if axis not in places]
    shape = [1] * ndim
    for axis, place in places.items():
        shape[place] = array.shape[axis]
    return _over(array, others).transpose((*places, *others)).reshape(shape)


def _take(array: np.ndarray, axis: int, entries: np.ndarray) -> np.ndarray:
    return array.take(entries, axis) if array.shape[axis] > 1 else array


def _put(array: np.ndarray, axis: int, places: np.ndarray, length: int) -> np.ndarray:
    """Into an axis of that length, whose other entries depend on nothing."""
    rows = np.moveaxis(array, axis, 0)
    shape = (length, *rows.shape[1:])
    if math.prod(shape) * array.itemsize > _LIMIT:
        return _over(array, [axis])
    inside = (places >= 0) & (places < length)
    result = np.zeros(shape, array.dtype)
    result[places[inside]] = rows[inside] if len(rows) > 1 else rows
    return np.moveaxis(result, 0, axis)


# Control flow.


def _cond(eqn: Any, sets: list[Sets]) -> list[Sets]:
    branches = [entrywise(branch, sets[1:]) for branch in eqn.params["branches"]]
    # Which branch runs depends on the index; it carries no gradient, but a program may
    # be asked for plain data flow too.
    return [_join([sets[0], *found]) for found in zip(*branches, strict=True)]


def _scan(eqn: Any, sets: list[Sets]) -> list[Sets]:
    program = eqn.params["jaxpr"]
    inner = _jaxpr(program)
    # What is scanned over or stacked has one axis more outside; the parameters that
    # count constants and carries differ between versions of JAX.
    carries = sum(
        out.aval.ndim == body.aval.ndim
        for out, body in zip(eqn.outvars, inner.outvars, strict=True)
    )
    scanned = sum(
        out.aval.ndim > body.aval.ndim
        for out, body in zip(eqn.invars, inner.invars, strict=True)
    )
    consts = len(sets) - carries - scanned
    carry, rows = sets[consts : consts + carries], sets[consts + carries :]
    rows = [s if isinstance(s, int) else _settle(_over(s, [0])[0]) for s in rows]
    stacked: list[Sets] = [0] * (len(eqn.outvars) - carries)
    seen: dict[tuple, int] = {}
    step, length = 0, eqn.params["length"]
    while step < length:
        if step >= _STEPS:
            carry = [_union([s]) for s in carry]
        state = tuple(s if isinstance(s, int) else (s.shape, *s.flat) for s in carry)
        if state in seen:  # it repeats: skip all whole periods
            period = step - seen[state]
            length = step + (length - step) % period
            seen = {}
            continue
        seen[state] = step
        found = entrywise(program, sets[:consts] + carry + rows)
        carry = found[:carries]
        stacked = [_join(pair) for pair in zip(stacked, found[carries:], strict=True)]
        step += 1
    return carry + [s if isinstance(s, int) else s[None] for s in stacked]


def _while(eqn: Any, sets: list[Sets]) -> list[Sets]:
    whole = [_union([s]) for s in sets]
    of_cond, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry = whole[of_cond + of_body :]
    while True:
        inputs = whole[of_cond : of_cond + of_body] + carry
        found = dependence(eqn.params["body_jaxpr"], inputs)
        stop = dependence(eqn.params["cond_jaxpr"], whole[:of_cond] + carry)[0]
        grown = [old | new | stop for old, new in zip(carry, found, strict=True)]
        if grown == carry:
            return [*grown]
        carry = grown


# Data movement and sums: (equation, sets of its operands) -> sets of its outputs.


def _broadcast(eqn: Any, array: np.ndarray) -> list:
    axes = enumerate(eqn.params["broadcast_dimensions"])
    return [_carry(array, axes, len(eqn.params["shape"]))]


def _reduce(eqn: Any, array: np.ndarray) -> list:
    axes = tuple(eqn.params["axes"])
    return [_over(array, axes).squeeze(axes)]


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
    if math.prod(wide) * array.itemsize > _LIMIT:
        return [_carry(array, [], len(after))]
    return [np.broadcast_to(array, wide).reshape(after)]


def _slice(eqn: Any, array: np.ndarray) -> list:
    p = eqn.params
    strides = p["strides"] or [1] * array.ndim
    for axis, bounds in enumerate(zip(p["start_indices"], p["limit_indices"], strides)):
        array = _take(array, axis, np.arange(*bounds))
    return [array]


def _split(eqn: Any, array: np.ndarray) -> list:
    axis = eqn.params["axis"]
    ends = np.cumsum([0, *eqn.params.get("sizes", [1] * len(eqn.outvars))])
    parts = [_take(array, axis, np.arange(*pair)) for pair in itertools.pairwise(ends)]
    return [p.squeeze(axis) for p in parts] if "sizes" not in eqn.params else parts


def _concatenate(eqn: Any, *arrays: np.ndarray) -> list:
    if eqn.primitive.name == "stack":
        axis, sizes = eqn.params["axis"], [1] * len(arrays)
        arrays = tuple(np.expand_dims(array, axis) for array in arrays)
    else:
        axis = eqn.params["dimension"]
        sizes = [shape[axis] for shape in _shapes(eqn.invars)]
    ends = np.cumsum([0, *sizes])
    spans = [np.arange(*pair) for pair in itertools.pairwise(ends)]
    return [_or(*(_put(a, axis, at, ends[-1]) for a, at in zip(arrays, spans)))]


def _pad(eqn: Any, array: np.ndarray, fill: np.ndarray) -> list:
    lengths = zip(*_shapes([eqn.invars[0], eqn.outvars[0]]), strict=True)
    for axis, (n, length) in enumerate(lengths):
        low, high, between = eqn.params["padding_config"][axis]
        if low or high or between:
            places = low + np.arange(n) * (between + 1)
            array = _put(array, axis, places, length)
    return [_or(array, fill)]


def _dot(eqn: Any, left: np.ndarray, right: np.ndarray) -> list:
    summed, batch = eqn.params["dimension_numbers"]
    free_left, free_right = (
        [axis for axis in range(array.ndim) if axis not in (*gone, *kept)]
        for array, gone, kept in zip((left, right), summed, batch)
    )
    ndim = len(batch[0]) + len(free_left) + len(free_right)
    places = [*range(len(batch[0])), *range(ndim - len(free_right), ndim)]
    left = _carry(left, zip([*batch[0], *free_left], range(ndim)), ndim)
    return [_or(left, _carry(right, zip([*batch[1], *free_right], places), ndim))]


def _conv(eqn: Any, left: np.ndarray, right: np.ndarray) -> list:
    p, (of_left, of_right, out) = eqn.params, eqn.params["dimension_numbers"]
    # The batch comes from the left, unless groups part it; the features from the right,
    # where those of a group see the left's features of that group, here all of them.
    batch = [(of_left[0], out[0])] if p["batch_group_count"] == 1 else []
    left = _carry(left, batch, left.ndim)
    return [_or(left, _carry(right, [(of_right[0], out[1])], right.ndim))]


def _read(eqn: Any, array: np.ndarray, *index: np.ndarray) -> list:
    """Windows, read from unknown places."""
    windows = eqn.outvars[0].aval.shape
    read = _carry(array, _covered(eqn, windows), len(windows))
    return [_or(read, _array(_union(index), 0))]


def _write(eqn: Any, array: np.ndarray, *others: np.ndarray) -> list:
    """Windows, written to unknown places, joined with what was there."""
    at = 1 if eqn.primitive.name == "dynamic_update_slice" else 2
    windows, index = others[at - 1], others[: at - 1] + others[at:]
    axes = [(mine, axis) for axis, mine in _covered(eqn, eqn.invars[at].aval.shape)]
    return [_or(array, _carry(windows, axes, array.ndim), _array(_union(index), 0))]


def _covered(eqn: Any, windows: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of an axis that each window covers whole and its place in the windows."""
    shape = eqn.invars[0].aval.shape
    axes, places = [*range(len(shape))], [*range(len(shape))]
    if "dimension_numbers" in eqn.params:  # of a gather or a scatter
        places, gone, _, batch, _ = eqn.params["dimension_numbers"]
        axes = [axis for axis in axes if axis not in (*gone, *batch)]
    pairs = zip(axes, places, strict=True)
    return [(axis, at) for axis, at in pairs if shape[axis] == windows[at]]


_CONTROL = {"cond": _cond, "scan": _scan, "while": _while}

_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp complex conj
convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor
ge gt imag integer_pow is_finite le lgamma log log1p log2 logistic lt max min mul name
ne neg nextafter not one_minus_square or polynomial pow real reduce_precision rem round
rsqrt select_n sharding_constraint sign sin sinh sqrt square stop_gradient sub tan tanh
xor
"""
_ELEMENTWISE = frozenset(_NAMES.split())

_MOVEMENTS: dict[str, Callable[..., Sequence[np.ndarray]]] = {
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

_MIXING = ("concatenate", "device_put", "optimization_barrier", "pad", "stack")
"""These give their results different sets even where each operand has one."""
