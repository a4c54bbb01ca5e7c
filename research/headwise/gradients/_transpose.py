"""Equations of a linear program backwards: from cotangents of results to those taken.

JAX transposes. Here equations are chosen that the given results depend on, and what is
known is kept apart from what is linear. Backwards through `dh = 5 dA`, `dy = 3 dh`::

    cotangent 1 of dy   ->   5 * 3 * 1 = 15 of dA

Example:
    >>> from headwise.gradients import _linear, _transpose
    >>> plain = lambda A: ({"y": 3.0 * (5.0 * A)}, None)
    >>> _, _, linear = _linear.linearize(plain, 2.0)
    >>> pull = _transpose.pullback(linear.known, linear.equations)
    >>> pulled = pull({linear.values[0]: jnp.array(1.0)})
    >>> print(pulled[linear.params[0]])
    15.0
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
            transposes[outputs] = _of_outputs(known, equations, outputs)
        inputs, reached, transpose = transposes[outputs]
        pulled = transpose(list(cotangents.values()))
        return {v: ct for v, ct in zip(inputs, pulled, strict=True) if v in reached}

    return pull


def transposed(
    function: Callable[..., list[Array]], known: Sequence[Array], inputs: Sequence[Var]
) -> Callable[[list[Array]], Sequence[Array]]:
    """Cotangents of what a function gives to those of its arguments after `known`."""

    def forward(*tangents: Array) -> list[Array]:
        return function(*known, *tangents)

    if not any(_numerics.varying_axes(v.aval) for v in inputs):
        return jax.linear_transpose(forward, *map(_equations.struct, inputs))
    # A struct has no types that differ between devices.
    return jax.linear_transpose(forward, *map(_equations.zeros, inputs))


def _of_outputs(
    known: Mapping[Var, Array], equations: Sequence[Any], outputs: tuple
) -> tuple[list, set, Callable]:
    """Inputs of the equations, which of them the outputs depend on, the transpose."""
    kept, reached = _leading_to(equations, outputs)
    constants, inputs = _taken(known, kept)
    function = _equations.function([*constants, *inputs], outputs, kept)
    arrays = [known[v] for v in constants]
    return inputs, reached, transposed(function, arrays, inputs)


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
