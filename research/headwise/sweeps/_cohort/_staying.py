"""Which arrays of a state stay broken: what is not finite in them once is so for good.

Of these a look after many steps tells whether any step broke them. Read off the step's
program: such an array comes out as itself plus, minus or times something, element by
element, as parameters, averages and moments of optimisers do.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core

Kept = frozenset[int]
"""Which arrays a value follows: it is not finite wherever one of them is not."""

_NONE: Kept = frozenset()
_EITHER = {"add", "add_any", "sub", "mul"}
"""Not finite where one side is not: infinity times 0 is NaN."""
_FIRST = {
    *("div", "neg", "abs", "square", "copy", "copy_p", "reduce_precision"),
    "convert_element_type",
}
_CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
}


def staying(program: core.ClosedJaxpr, arrays: int) -> tuple[bool, ...]:
    """For each of the first arrays of a step whether what breaks in it stays so.

    Args:
        program: of a step, whose first inputs are a state, as its first outputs are.
        arrays: how many.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from headwise.sweeps._cohort import _staying
        >>> def step(w, average, largest, last):
        ...     return w - 0.1 * w, 0.9 * average + w, jnp.maximum(largest, 1.0), w
        >>> _staying.staying(jax.make_jaxpr(step)(1.0, 1.0, 1.0, 1.0), 4)
        (True, True, False, False)
    """
    own = [
        frozenset({i}) if i < arrays and _inexact(x.aval) else _NONE
        for i, x in enumerate(program.jaxpr.invars)
    ]
    out = _kept(program.jaxpr, own)[:arrays]
    return tuple(
        i in kept or not _inexact(x.aval)
        for i, (kept, x) in enumerate(zip(out, program.jaxpr.outvars, strict=False))
    )


def _kept(jaxpr: core.Jaxpr, given: Sequence[Kept]) -> list[Kept]:
    """What each result of a program follows, where its inputs follow what is given."""
    known: dict[Any, Kept] = dict(zip(jaxpr.invars, given, strict=True))

    def of(x: Any) -> Kept:
        return _NONE if isinstance(x, core.Literal) else known.get(x, _NONE)

    for equation in jaxpr.eqns:
        found = _through(equation, [of(x) for x in equation.invars])
        known.update(zip(equation.outvars, found, strict=True))
    return [of(x) for x in jaxpr.outvars]


def _through(equation: core.JaxprEqn, given: list[Kept]) -> list[Kept]:
    """What the results of one operation follow."""
    name, params = equation.primitive.name, equation.params
    if not any(given):
        return [_NONE] * len(equation.outvars)
    inner = list(core.jaxprs_in_params(params))
    if name in _CALLS and len(inner) == 1 and len(inner[0].invars) == len(given):
        return _kept(inner[0], given)
    if name == "cond":
        branches = [_kept(branch, given[1:]) for branch in inner]
        return [frozenset.intersection(*kept) for kept in zip(*branches, strict=True)]
    if name == "optimization_barrier":
        return given
    if name in _EITHER | _FIRST or name == "select_n":
        out: Any = equation.outvars[0].aval
        like = [
            kept if _alike(x.aval, out) else _NONE  # element by element
            for kept, x in zip(given, equation.invars, strict=True)
        ]
        if name == "select_n":
            return [frozenset.intersection(*like[1:])]
        return [_NONE.union(*(like if name in _EITHER else like[:1]))]
    return [_NONE] * len(equation.outvars)


def _alike(aval: Any, out: Any) -> bool:
    return aval.shape == out.shape and _inexact(aval) and _inexact(out)


def _inexact(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.inexact)
