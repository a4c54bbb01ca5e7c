"""Which outputs of a traced program depend on which inputs.

A set of inputs is an int used as a bit set, and an array is one thing: what depends on
one entry of it depends on all. Up to that the answer is exact through jit, remat,
custom derivatives, scan and cond, whose programs are entered. Loops of unknown length,
mutable references and unknown primitives that hold a program of another shape are
answered on the safe side: dependent.
"""

from collections.abc import Sequence
from typing import Any

from jax.extend import core


def _jaxpr(program: Any) -> Any:
    return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program


def _is_program(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _is_reference(atom: Any) -> bool:
    return hasattr(atom.aval, "inner_aval")


def dependence(jaxpr: Any, inputs: Sequence[int]) -> list[int]:
    """The set that each output depends on, given the set of each input."""
    jaxpr = _jaxpr(jaxpr)
    known: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> int:
        return 0 if isinstance(atom, core.Literal) else known.get(atom, 0)

    for eqn in jaxpr.eqns:
        sets = [read(atom) for atom in eqn.invars]
        references = [atom for atom in eqn.invars if _is_reference(atom)]
        if references:  # written or read, here or in a nested program
            found = [_union(sets)] * len(eqn.outvars)
            known.update(dict.fromkeys(references, _union(sets)))
        else:
            found = _of_equation(eqn, sets)
        known.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _union(sets: Sequence[int]) -> int:
    total = 0
    for each in sets:
        total |= each
    return total


def _of_equation(eqn: Any, sets: list[int]) -> list[int]:
    if not any(sets):
        return [0] * len(eqn.outvars)
    name = eqn.primitive.name
    if name == "scan":
        return _scan(eqn, sets)
    if name == "while":
        return _while(eqn.params, sets)
    if name == "cond":
        branches = [dependence(b, sets[1:]) for b in eqn.params["branches"]]
        # Which branch runs depends on the index; it carries no gradient, but a
        # program may be asked for plain data flow too.
        return [sets[0] | _union(found) for found in zip(*branches, strict=True)]
    programs = [value for value in eqn.params.values() if _is_program(value)]
    for program in programs:
        inner = _jaxpr(program)
        fits = len(inner.invars) == len(sets) and (
            len(inner.outvars) == len(eqn.outvars)
        )
        if fits:
            return dependence(inner, sets)
    return [_union(sets)] * len(eqn.outvars)


def _scan(eqn: Any, sets: list[int]) -> list[int]:
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
    carry = sets[consts : consts + carries]
    stacked = [0] * (len(eqn.outvars) - carries)
    seen: dict[tuple[int, ...], int] = {}
    step, length = 0, eqn.params["length"]
    while step < length:
        if tuple(carry) in seen:  # it repeats: skip all whole periods
            period = step - seen[tuple(carry)]
            length = step + (length - step) % period
            seen = {}
            continue
        seen[tuple(carry)] = step
        found = dependence(program, sets[:consts] + carry + sets[consts + carries :])
        carry = found[:carries]
        stacked = [a | b for a, b in zip(stacked, found[carries:], strict=True)]
        step += 1
    return carry + stacked


def _while(params: dict, sets: list[int]) -> list[int]:
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    carry = sets[of_cond + of_body :]
    while True:
        inputs = sets[of_cond : of_cond + of_body] + carry
        found = dependence(params["body_jaxpr"], inputs)
        stop = dependence(params["cond_jaxpr"], sets[:of_cond] + carry)[0]
        grown = [old | new | stop for old, new in zip(carry, found, strict=True)]
        if grown == carry:
            return grown
        carry = grown
