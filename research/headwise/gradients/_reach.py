"""Which head reaches which parameter, read off a model that is linearised already.

Example:
    >>> from headwise.gradients import _linear, _reach
    >>> def plain(p):
    ...     both = jnp.stack([p["C"], p["D"]]) * p["A"]
    ...     return {"loss1": both[0], "loss2": both[1]}, None
    >>> _, _, linear = _linear.linearize(plain, {"A": 2.0, "C": 3.0, "D": 7.0})
    >>> print([linear.heads[v] for v in linear.params])     # they share an array
    [3, 3, 3]
    >>> _reach.reaches(linear)                              # told apart by its entries
    [[True, True, False], [True, False, True]]
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import core

from headwise.gradients import _dependence
from headwise.gradients import _equations
from headwise.gradients import _head_sets
from headwise.gradients import _linear
from headwise.gradients import _movements
from headwise.gradients import _transpose
from headwise.typing import Array

_NAMES = """
broadcast_in_dim checkpoint conv_general_dilated cumsum dot_general dynamic_slice gather
jit linear_map reduce_sum reduce_window_sum reshape rev slice split squeeze transpose
"""
_WHOLE = _movements.ELEMENTWISE.union(_NAMES.split())
"""Where each entry of a result depends on all that an operand depends on, if each entry
of that does. Not so where arrays are put together (concatenate, pad, scatter)."""


def reaches(linear: _linear.Linear) -> list[list[bool]]:
    """For each head, one flag a leaf of the parameters, as `routing` finds them.

    Where no arrays are put together on the way, the sets of heads are known: whatever
    entries a head looks at, each depends on all that the array does. Otherwise
    `linear.heads` would not tell apart heads that share an array (stacked losses).
    """
    if all(map(_passes_whole, linear.equations)):
        sets = [linear.heads.get(v, 0) for v in linear.params]
    else:
        sets = _entry_by_entry(linear)
    return [
        [bool(s & _head_sets.single(h)) for s in sets] for h in range(len(linear.names))
    ]


def _passes_whole(eqn: Any) -> bool:
    empty = any(getattr(v.aval, "size", 1) == 0 for v in eqn.outvars)
    programs = core.jaxprs_in_params(eqn.params)
    return (eqn.primitive.name in _WHOLE and not empty) and all(
        _passes_whole(inner) for program in programs for inner in program.eqns
    )


def _entry_by_entry(linear: _linear.Linear) -> list[int]:
    """The heads that reach each leaf.

    The linear program is transposed with a symbol for every head's cotangent; a head
    reaches a parameter whose gradient depends on its symbol. Nothing is evaluated.
    """
    heads = [h for h, v in enumerate(linear.values) if v is not None]
    outputs = [linear.values[h] for h in heads]
    taken = [*linear.known, *linear.params]
    forward = _equations.function(taken, outputs, linear.equations)

    def backward(cotangents: list[Array]) -> Sequence[Array]:
        known = list(linear.known.values())
        return _transpose.transposed(forward, known, linear.params)(cotangents)

    program = jax.make_jaxpr(backward)([linear.ones[h] for h in heads])
    return _dependence.dependence(program, [_head_sets.single(h) for h in heads])
