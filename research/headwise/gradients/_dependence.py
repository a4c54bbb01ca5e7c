"""Which outputs of a traced program depend on which inputs.

Every input is given a set, of heads say, and every variable gets the union of the sets
of what it depends on. So the gradients of two parameters, as functions of the heads'
cotangents::

    a: f32[] b: f32[]            {0}, {1}
    c = a * 2                    {0}          gradient of the first parameter
    d = a + b                    {0, 1}       gradient of the second: both heads move it

Most arrays have one set for all entries; where heads share an array it has a set for
each entry (`_head_sets`).

The answer is exact, entry by entry, through slices, pads, concatenation, reshapes,
elementwise operations, reductions and matrix products (`_movements`), and through jit,
remat, custom derivatives and cond, whose programs are entered. Convolutions keep batch
and channels apart, indexing all axes but those indexed, scans all but the scanned one
(`_control_flow`). The rest is answered on the safe side, dependent: an array has one
set behind every operation that is not listed, in carries that still change after some
steps of a scan, and behind loops of unknown length, mutable references and unknown
primitives that hold a program of another shape.

Example:
    >>> from headwise.gradients import _dependence
    >>> program = jax.make_jaxpr(lambda a, b: (2 * a, a + b))(1.0, 1.0)
    >>> _dependence.dependence(program, [0b01, 0b10])
    [1, 3]
    >>> stacked = jax.make_jaxpr(lambda a, b: jnp.stack([a, a + b]))(1.0, 1.0)
    >>> print(*_dependence.entrywise(stacked, [0b01, 0b10]))          # entry by entry
    [1 3]
    >>> first = jax.make_jaxpr(lambda a, b: jnp.stack([a, a + b])[0])(1.0, 1.0)
    >>> _dependence.dependence(first, [0b01, 0b10])
    [1]
"""

from collections.abc import Sequence
from typing import Any

from jax.extend import core

from headwise.gradients import _control_flow
from headwise.gradients import _head_sets
from headwise.gradients import _movements
from headwise.gradients._head_sets import Sets


def dependence(program: Any, inputs: Sequence[int]) -> list[int]:
    """The set that each output depends on, given the set of each input."""
    return [_head_sets.union([sets]) for sets in entrywise(program, inputs)]


def entrywise(program: Any, inputs: Sequence[Sets]) -> list[Sets]:
    """The same entry by entry, given the sets of each input's entries."""
    jaxpr = _jaxpr(program)
    known: dict[Any, Sets] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Sets:
        return 0 if isinstance(atom, core.Literal) else known.get(atom, 0)

    for eqn in jaxpr.eqns:
        sets = [read(atom) for atom in eqn.invars]
        references = [atom for atom in eqn.invars if hasattr(atom.aval, "inner_aval")]
        outputs: Sequence[Sets]
        if references:  # written or read, here or in a nested program
            outputs = [_head_sets.union(sets)] * len(eqn.outvars)
            known.update(dict.fromkeys(references, _head_sets.union(sets)))
        else:
            outputs = _of_equation(eqn, sets)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _jaxpr(program: Any) -> Any:
    return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program


def _of_equation(eqn: Any, sets: list[Sets]) -> Sequence[Sets]:
    """By the rule of its primitive, by the program inside it, or all inputs in one.

    In this order, since a primitive with a rule may hold a program too (scan).
    """
    name, whole = eqn.primitive.name, [_head_sets.union(sets)] * len(eqn.outvars)
    if not any(whole):
        return whole
    if name in _control_flow.CONTROL:
        return _control_flow.CONTROL[name](eqn, sets, entrywise)
    for value in eqn.params.values():
        if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
            inner = _jaxpr(value)
            inside = [_movements.shapes(v) for v in (inner.invars, inner.outvars)]
            outside = [_movements.shapes(v) for v in (eqn.invars, eqn.outvars)]
            if inside == outside:
                return entrywise(value, sets)
            if [*map(len, inside)] == [*map(len, outside)]:
                return dependence(value, [_head_sets.union([s]) for s in sets])
    if name in _movements.ELEMENTWISE:
        return [_head_sets.join(sets)]
    uniform = all(isinstance(s, int) for s in sets)
    if name not in _movements.MOVEMENTS or (uniform and name not in _movements.MIXING):
        return whole
    arrays = [
        _head_sets.as_array(s, len(shape))
        for s, shape in zip(sets, _movements.shapes(eqn.invars), strict=True)
    ]
    moved = _movements.MOVEMENTS[name](eqn, *arrays)
    return [_head_sets.simplest(array) for array in moved]
