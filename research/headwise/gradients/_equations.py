"""Variables and equations of traced programs: what there is to know and do with them.

A program of JAX is a list of equations `outputs = primitive(inputs)`. Here calls of jit
are written out, so that every equation of a model lies open, some of them are made a
function again, and parameters are evaluated of them. What the equations of a linearised
model mean, and where they are cut, is not known here.

Example:
    >>> from headwise.gradients import _equations
    >>> nested = jax.make_jaxpr(lambda x: 2 * jax.jit(lambda y: y + 1)(x))(3.0)
    >>> [eqn.primitive.name for eqn in nested.jaxpr.eqns]
    ['jit', 'mul']
    >>> inputs, outputs, equations, _ = _equations.written_out(nested)
    >>> [eqn.primitive.name for eqn in equations]
    ['add', 'mul']
    >>> print(*_equations.function(inputs, outputs, equations)(jnp.array(3.0)))
    8.0
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import jax
from jax.extend import core

from headwise import _numerics
from headwise.gradients import _dependence
from headwise.gradients import _head_sets
from headwise.typing import Array

Var: TypeAlias = Any
"""A variable of a program; it names an array, its tangent and cotangent."""


def struct(v: Var) -> jax.ShapeDtypeStruct:
    """Shape, dtype and what its type says of sharding, for a transposition."""
    sharding = getattr(v.aval, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    known = {} if mesh is None or mesh.empty else {"sharding": sharding}
    return jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype, **known)


def zeros(v: Var) -> Array:
    """Zeros of the variable's shape and type, differing between the same devices."""
    return _numerics.full(v.aval, 0)


def nbytes(v: Var) -> int:
    """Size of the array that a variable names."""
    return v.aval.size * v.aval.dtype.itemsize


def is_literal(atom: Any) -> bool:
    """A number that is written in the program."""
    return isinstance(atom, core.Literal)


def variables(atoms: Iterable[Any]) -> list[Var]:
    """The distinct variables among them, in order."""
    return list(dict.fromkeys(v for v in atoms if not isinstance(v, core.Literal)))


def users(eqn: Any) -> list[tuple[Var, list[Var]]]:
    """Each variable that an equation takes, with the outputs that depend on it."""
    inputs, outputs = variables(eqn.invars), list(eqn.outvars)
    if len(outputs) == 1:
        return [(v, outputs) for v in inputs]
    sets = _dependence.dependence(
        _jaxpr(inputs, outputs, [eqn]),
        [_head_sets.single(i) for i in range(len(inputs))],
    )
    return [
        (v, [out for out, on in zip(outputs, sets, strict=True) if on >> i & 1])
        for i, v in enumerate(inputs)
    ]


def _jaxpr(inputs: list[Var], outputs: Sequence[Var], equations: Any) -> Any:
    effects = frozenset().union(*(eqn.effects for eqn in equations))
    info = core.DebugInfo(
        "linear program", "values_fn", ("",) * len(inputs), ("",) * len(outputs)
    )
    return core.Jaxpr((), inputs, list(outputs), list(equations), effects, info)


def function(inputs: Any, outputs: Any, equations: Any) -> Callable[..., list]:
    """The equations as a function of arrays for `inputs`."""
    jaxpr = _jaxpr(inputs, outputs, equations)
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))


def evaluate(
    equations: Sequence[Any], known: Mapping[Var, Array], needed: Sequence[Var]
) -> dict[Var, Array]:
    """The needed variables of a program in which everything is known."""
    result = {v: known[v] for v in needed if v in known}
    outputs = [v for v in needed if v not in known]
    if outputs:
        arrays = function(list(known), outputs, equations)(*known.values())
        result |= zip(outputs, arrays, strict=True)
    return result


def written_out(program: Any) -> tuple[list, list, list, dict[Var, Array]]:
    """Inputs, outputs, equations and constants, with calls of jit written out."""
    constants = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    equations = []
    fresh = core.gensym()

    def write_out(jaxpr: Any, name: dict[Var, Any]) -> list[Any]:
        def named(atom: Any) -> Any:
            return atom if isinstance(atom, core.Literal) else name[atom]

        for eqn in jaxpr.eqns:
            inputs = [named(v) for v in eqn.invars]
            if _is_plain_call(eqn):
                inner = eqn.params["jaxpr"]
                inside = dict(zip(inner.jaxpr.invars, inputs, strict=True))
                for v, constant in zip(
                    inner.jaxpr.constvars, inner.consts, strict=True
                ):
                    inside[v] = fresh(v.aval)
                    constants[inside[v]] = constant
                outputs = write_out(inner.jaxpr, inside)
            else:
                outputs = [fresh(v.aval) for v in eqn.outvars]
                equations.append(eqn.replace(invars=inputs, outvars=outputs))
            name.update(zip(eqn.outvars, outputs, strict=True))
        return [named(v) for v in jaxpr.outvars]

    same = {v: v for v in (*program.jaxpr.constvars, *program.jaxpr.invars)}
    results = write_out(program.jaxpr, same)
    return list(program.jaxpr.invars), results, equations, constants


def _is_plain_call(eqn: Any) -> bool:
    """A call of jit that asks for no sharding, so that it may be written out."""
    if eqn.primitive.name not in ("jit", "pjit"):
        return False
    asked = (*eqn.params["in_shardings"], *eqn.params["out_shardings"])
    return all(type(sharding).__name__ == "UnspecifiedValue" for sharding in asked)
