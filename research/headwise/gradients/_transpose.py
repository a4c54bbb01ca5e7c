"""Equations of a linear program backwards: from cotangents of results to those taken.

JAX transposes. Here equations are chosen that the given results depend on, and what is
known is kept apart from what is linear. Backwards through `dh = 5 dA`, `dy = 3 dh`::

    cotangent 1 of dy   ->   5 * 3 * 1 = 15 of dA
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import jax

from headwise import _numerics
from headwise.gradients import _equations
from headwise.gradients._equations import Var
from headwise.typing import Array

Cotangents: TypeAlias = dict[Var, Array]
"""Of values, features or parameters: for one head, or a weighted sum over heads."""


def pullback(
    known: Mapping[Var, Array], equations: Sequence[Any]
) -> Callable[[Cotangents], Cotangents]:
    """Cotangents of results to those of what the equations take.

    Transposed once for every choice of results that cotangents are given for.
    """
    transposes: dict[tuple, tuple] = {}

    def pull(cotangents: Cotangents) -> Cotangents:
        outputs = tuple(cotangents)
        if outputs not in transposes:
            transposes[outputs] = _transposed(known, equations, outputs)
        inputs, reached, transpose = transposes[outputs]
        pulled = transpose(list(cotangents.values()))
        return {v: ct for v, ct in zip(inputs, pulled, strict=True) if v in reached}

    return pull


def program(
    known: Mapping[Var, Array], equations: Sequence[Any], outputs: tuple[Var, ...]
) -> tuple[list[Var], list[Var], Any]:
    """The transpose as a program; nothing is evaluated.

    Returns:
        What it knows and what it gives cotangents of, as variables, and the program:
        its arguments are what it knows and the cotangents of `outputs`.
    """
    kept, _ = _leading_to(equations, outputs)
    constants, inputs = _taken(known, kept)
    function = _equations.function([*constants, *inputs], outputs, kept)

    def backward(arrays: list[Array], cotangents: list[Array]) -> list[Array]:
        return _transpose(function, arrays, inputs)(cotangents)

    arrays = [known[v] for v in constants]
    cotangents = [_equations.zeros(v) for v in outputs]
    return constants, inputs, jax.make_jaxpr(backward)(arrays, cotangents)


def _transposed(
    known: Mapping[Var, Array], equations: Sequence[Any], outputs: tuple
) -> tuple[list, set, Callable]:
    """Inputs of the equations, which of them the outputs depend on, the transpose."""
    kept, reached = _leading_to(equations, outputs)
    constants, inputs = _taken(known, kept)
    function = _equations.function([*constants, *inputs], outputs, kept)
    arrays = [known[v] for v in constants]
    return inputs, reached, _transpose(function, arrays, inputs)


def _leading_to(
    equations: Sequence[Any], outputs: tuple[Var, ...]
) -> tuple[list[Any], set[Var]]:
    """The equations that lead to the outputs, and all variables that do."""
    reached, kept = set(outputs), []
    for eqn in reversed(equations):
        mine = reached & set(eqn.outvars)
        if mine:
            kept.append(eqn)
            reached |= {v for v, on in _equations.users(eqn) if mine & set(on)}
    return kept[::-1], reached


def _taken(
    known: Mapping[Var, Array], equations: Sequence[Any]
) -> tuple[list[Var], list[Var]]:
    """What the equations take from outside: what is known, and what is linear."""
    produced = {v for eqn in equations for v in eqn.outvars}
    taken = _equations.variables(v for eqn in equations for v in eqn.invars)
    inputs = [v for v in taken if v not in known and v not in produced]
    return [v for v in taken if v in known], inputs


def _transpose(
    function: Callable[..., list[Array]], arrays: list[Array], inputs: Sequence[Var]
) -> Callable[[list[Array]], tuple]:
    def forward(*tangents: Array) -> list[Array]:
        return function(*arrays, *tangents)

    if not any(_numerics.varying_axes(v.aval) for v in inputs):
        return jax.linear_transpose(forward, *map(_equations.struct, inputs))
    # `linear_transpose` takes no types that differ between devices.
    return jax.vjp(forward, *map(_equations.zeros, inputs))[1]
