"""The backward passes of many heads: stacks of those that are alike, and the others.

Of few heads, or where none are alike, nothing here happens.

Example:
    >>> from headwise.gradients import _linear, _many_heads
    >>> def plain(p):
    ...     return {f"y{h:02}": (h + 1.0) * p[h] for h in range(16)}, None
    >>> _, _, linear = _linear.linearize(plain, jnp.ones(16))
    >>> rows = _many_heads.rows(linear, "auto", None)
    >>> print([leaf.arrays.shape for leaf in rows.leaves], rows[1][0][:3])
    [(16, 16)] [0. 2. 0.]
"""

from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from headwise import _rows
from headwise import _trees
from headwise import _xla
from headwise.gradients import _alike
from headwise.gradients import _cut
from headwise.gradients import _linear
from headwise.gradients import _stacks
from headwise.gradients import _tokens
from headwise.gradients._equations import Var
from headwise.gradients._transpose import Cotangents
from headwise.typing import Array


def rows(
    linear: _linear.Linear, method: str, flags: Sequence[bool] | None
) -> _rows.Rows | None:
    """The gradient of every head for every leaf; None where no heads are alike.

    Args:
        linear: the linearised model.
        method: "sequential", "batched" or "auto".
        flags: the leaves that are asked for; of others nothing reaches any.
    """
    convolutions = method == "batched" or _xla.loops_over_convolutions()
    stacks = _stacked(linear, private=False, convolutions=convolutions)
    if not stacks:
        return None
    params = linear.params
    chosen = params if flags is None else _trees.chosen(params, flags)
    pieces = _pieces(stacks, set(chosen), method)
    others = _others(linear, stacks)
    if others:
        cut = _cut.cut(linear, flags)
        for h, row in zip(others, cut.one_by_one(others), strict=True):
            _add(pieces, h, row)
    leaves = _rows.all_joined(pieces, params)
    return _rows.Rows(len(linear.names), leaves, linear.leaves)


def feature_rows(cut: _cut.Cut) -> _rows.Rows | None:
    """The same for every feature: the private parts alone."""
    stacks = _private(cut.linear)
    if not stacks:
        return None
    features = cut.features
    pieces = _pieces(stacks, set(features), "auto")
    others = _others(cut.linear, stacks)
    for h, start in enumerate(cut.starts(heads=others)):
        _add(pieces, h, start)
    leaves = _rows.all_joined(pieces, features)
    return _rows.Rows(len(cut.linear.names), leaves, [v.aval for v in features])


def weighted_starts(cut: _cut.Cut, weights: Sequence[Array]) -> list[Cotangents]:
    """For each of some weights [H], Σ weight * what comes out of the private parts."""
    stacks = _private(cut.linear)
    heads = _others(cut.linear, stacks) if stacks else None
    starts = cut.starts(ordered=True, heads=heads)
    sums = [_cut.weighted(mine, starts) for mine in weights]
    for stack in stacks:
        at = np.asarray(stack.heads)
        more = stack.weighted(*(jnp.asarray(mine)[at] for mine in weights))
        for total, of_stack in zip(sums, more, strict=True):
            _cut.add(total, of_stack)
    return sums


def _private(linear: _linear.Linear) -> list[_stacks.Stack]:
    convolutions = _xla.loops_over_convolutions()
    stacks = _stacked(linear, private=True, convolutions=convolutions)
    return [stack for stack in stacks if stack.stacked_nbytes <= _xla.KEPT_BYTES]


def _stacked(
    linear: _linear.Linear, *, private: bool, convolutions: bool
) -> list[_stacks.Stack]:
    """The stacks of many heads that are alike; none where arrays have sharding types.

    Args:
        linear: the linearised model.
        private: stack what leads to one head alone, not all that leads to it.
        convolutions: whether stacks may hold some.
    """
    if len(linear.names) < _xla.ALIKE_HEADS:
        return []
    if linear.is_placed:
        return []
    groups = _alike.alike(_alike.paths(linear, private), _xla.ALIKE_HEADS)
    return [
        _stacks.stack(linear, group)
        for group in groups
        if convolutions or not any(map(_convolves, group[0].steps))
    ]


def _convolves(step: Any) -> bool:
    return not isinstance(step, _tokens.Slice) and _xla.convolves(step)


def _others(linear: _linear.Linear, stacks: Sequence[_stacks.Stack]) -> list[int]:
    """Heads that are in no stack."""
    done = {h for stack in stacks for h in stack.heads}
    return [h for h in range(len(linear.names)) if h not in done]


def _pieces(
    stacks: Sequence[_stacks.Stack], variables: Collection[Var], method: str
) -> dict[Var, list[_rows.Leaf]]:
    """What the stacks give for these variables, in pieces of some heads each."""
    pieces: dict[Var, list[_rows.Leaf]] = {}
    own: dict[tuple[Var, ...], list[tuple[tuple[int, ...], Array]]] = {}
    for stack in stacks:
        heads = len(stack.heads)
        at_once = {"sequential": 1, "batched": heads}.get(
            method, _xla.heads_at_once(heads, stack.nbytes)
        )
        wanted = [any(v in variables for v in of_heads) for of_heads in stack.inputs]
        arrays = iter(stack.rows(at_once, wanted))
        for of_heads, on in zip(stack.inputs, wanted, strict=True):
            if on and len(set(of_heads)) == heads:
                own.setdefault(of_heads, []).append((stack.heads, next(arrays)))
            elif on:
                for v, leaf in _rows.spread(stack.heads, of_heads, next(arrays)):
                    pieces.setdefault(v, []).append(leaf)
    for of_heads, parts in own.items():
        for v, leaf in zip(of_heads, _rows.in_batch(parts), strict=True):
            pieces.setdefault(v, []).append(leaf)
    return pieces


def _add(
    pieces: dict[Var, list[_rows.Leaf]], head: int, cotangents: Cotangents
) -> None:
    for v, ct in cotangents.items():
        pieces.setdefault(v, []).append(_rows.Leaf((head,), [ct]))
