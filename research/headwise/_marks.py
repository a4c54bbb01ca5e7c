"""Masks that a program carries: what counts is written down where it is known.

A loss that masks knows which positions count. Whoever takes its mean may stand far off,
with functions in between that tell nothing: a `def`, `jax.jit`, a loss made of losses.
So a loss leaves its mask in the traced program, under a name, where it is an identity
that compilers drop; `read` finds it there, whatever stands between.

Example:
    >>> from headwise import _marks
    >>> def loss(p, t):
    ...     return jax.jit(lambda p, t: jnp.where(_marks.mark(t != 9), p, 0))(p, t)
    >>> print(*_marks.read(loss, jnp.ones(3), jnp.array([1, 9, 2])))
    [ True False  True]
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from headwise import _traced
from headwise.typing import Array
from headwise.typing import PyTree

_NAME = "headwise: these count"


def mark(mask: Array) -> Array:
    """The mask itself; whoever reads the program finds it."""
    marked: Array = checkpoint_name(mask, _NAME)
    return marked


def read(function: Callable[..., PyTree], *args: PyTree) -> list[Array]:
    """The masks that `function(*args)` marks, as arrays; nothing else is computed.

    None of a function that cannot be traced: who calls it is told why.

    Raises:
        ValueError: one is inside of a loop or branch, where it has no value of its own.
    """
    try:
        program = _traced.traced(function, *args).program
    except Exception:
        return []
    return _of_program(program, jax.tree.leaves(args))


def _of_program(program: core.ClosedJaxpr, args: Sequence[Any]) -> list[Array]:
    holders = [eqn for eqn in program.jaxpr.eqns if _holds(eqn)]
    if not holders:
        return []
    known = _evaluated(program, args, [v for eqn in holders for v in eqn.invars])
    masks: list[Array] = []
    for eqn in holders:
        inputs = [
            v.val if isinstance(v, core.Literal) else known[v] for v in eqn.invars
        ]
        if _is_mark(eqn):
            masks += inputs
        else:
            masks += _of_program(_program_in(eqn), inputs)
    return masks


def _is_mark(eqn: Any) -> bool:
    return eqn.primitive.name == "name" and eqn.params["name"] == _NAME


def _holds(eqn: Any) -> bool:
    """Whether it is a mark, or has one in a program inside of it."""
    inside = core.jaxprs_in_params(eqn.params)
    return _is_mark(eqn) or any(_holds(e) for jaxpr in inside for e in jaxpr.eqns)


def _program_in(eqn: Any) -> core.ClosedJaxpr:
    """The program that an equation calls once, with its inputs as they are."""
    kinds = core.Jaxpr | core.ClosedJaxpr
    programs = [value for value in eqn.params.values() if isinstance(value, kinds)]
    outside = [v.aval.shape for v in eqn.invars]
    if len(programs) == 1 and eqn.primitive.name != "scan":
        (program,) = programs
        if isinstance(program, core.Jaxpr):
            program = core.ClosedJaxpr(program, ())
        if [v.aval.shape for v in program.jaxpr.invars] == outside:
            return program
    raise ValueError(
        "a loss leaves out what does not count (`ignore`, `where`) inside of "
        f"{eqn.primitive.name!r}, from where it cannot be told for means; take a "
        "keyword-only `where`, or give the mask as `where`"
    )


def _evaluated(
    program: core.ClosedJaxpr, args: Sequence[Any], atoms: Sequence[Any]
) -> Mapping[Any, Array]:
    """The variables among the atoms, by the equations that they need."""
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.constvars, program.consts, strict=True))
    known |= zip(jaxpr.invars, args, strict=True)
    wanted = list(dict.fromkeys(v for v in atoms if not isinstance(v, core.Literal)))
    outputs = [v for v in wanted if v not in known]
    needed, equations = set(outputs), []
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            equations.append(eqn)
            needed.update(v for v in eqn.invars if not isinstance(v, core.Literal))
    inputs = [v for v in known if v in needed]
    info = core.DebugInfo("masks", "loss", ("",) * len(inputs), ("",) * len(outputs))
    effects = frozenset().union(*(eqn.effects for eqn in equations))
    part = core.Jaxpr((), inputs, outputs, equations[::-1], effects, info)
    run = core.jaxpr_as_fun(core.ClosedJaxpr(part, ()))
    return known | dict(zip(outputs, run(*[known[v] for v in inputs]), strict=True))
