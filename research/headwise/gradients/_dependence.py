"""Which outputs of a traced program depend on which inputs.

A set of inputs is an int used as a bit set. Nested programs are entered, so that the
answer is exact through jit, remat, custom derivatives, scan, while and cond; an
unknown primitive that holds a program of another shape counts as fully connected.
"""

from collections.abc import Sequence
from typing import Any

from jax.extend import core


def _jaxpr(program: Any) -> Any:
    return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program


def _is_program(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def dependence(jaxpr: Any, inputs: Sequence[int]) -> list[int]:
    """The set that each output depends on, given the set of each input."""
    jaxpr = _jaxpr(jaxpr)
    known: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> int:
        return 0 if isinstance(atom, core.Literal) else known.get(atom, 0)

    for eqn in jaxpr.eqns:
        sets = [read(atom) for atom in eqn.invars]
        for variable, found in zip(eqn.outvars, _of_equation(eqn, sets), strict=True):
            known[variable] = found
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
        return _scan(eqn.params, sets)
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


def _scan(params: dict, sets: list[int]) -> list[int]:
    consts, carries = params["num_consts"], params["num_carry"]
    carry = sets[consts : consts + carries]
    while True:
        found = dependence(
            params["jaxpr"], sets[:consts] + carry + sets[consts + carries :]
        )
        grown = [old | new for old, new in zip(carry, found[:carries], strict=True)]
        if grown == carry:
            return grown + found[carries:]
        carry = grown


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
