"""The linearised model, cut where the heads part.

One forward pass gives a linear program from the parameters' tangents to the tangents of
the values. Every equation of it leads to some set of heads. Equations that lead to one
head alone are that head's *private* part, what leads to two or more is *shared*, and
the arrays that pass from the shared into the private parts are the *features*. The cut
needs no annotation: it is read off the program, through nested calls of jit.

The backward pass of a head is then: its private part, from the value to the features,
and the shared part, from the features to the parameters. The private parts are
disjoint, so that all of them together cost one backward pass.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from headwise import _numerics
from headwise.gradients import _dependence
from headwise.typing import Array
from headwise.typing import PyTree

Var = Any
"""A variable of the linear program; it names an array, its tangent and cotangent."""


class Linear(NamedTuple):
    """A model linearised at some parameters."""

    names: tuple[str, ...]
    """The heads, sorted."""
    params: tuple[Var, ...]
    """The leaves of the parameters, in their order."""
    values: tuple[Var | None, ...]
    """Of each head; None where no parameter reaches it."""
    ones: tuple[Array, ...]
    """The cotangent of each head's value in its own gradient."""
    leaves: tuple[Array, ...]
    """The parameters."""
    equations: tuple[Any, ...]
    """All that is linear and leads to a head, in order."""
    groups: tuple[int, ...]
    """For every equation, the bit set of heads that its results lead to when what an
    equation takes is taken to lead where any of its results does. Sets never grow from
    an equation to those that use it, so that parts can be cut by them."""
    known: Mapping[Var, Array]
    """What the forward pass has kept."""
    heads: Mapping[Var, int]
    """The bit set of heads that a variable leads to."""

    @property
    def has_batched_products(self) -> bool:
        """Is there a product of stacks of matrices in the shared part?"""
        return any(_batched_product(eqn) for eqn in self._shared())

    @property
    def largest_factor(self) -> int:
        """Entries of the largest parameter that the shared part multiplies as it is."""
        params = set(self.params)
        factors = (
            v.aval.size
            for eqn in self._shared()
            if eqn.primitive.name == "dot_general"
            for v in variables(eqn.invars)
            if v in params
        )
        return max(factors, default=0)

    def _shared(self) -> list[Any]:
        pairs = zip(self.equations, self.groups, strict=True)
        return [eqn for eqn, group in pairs if group.bit_count() > 1]


def _batched_product(eqn: Any) -> bool:
    if eqn.primitive.name == "dot_general":
        return bool(eqn.params["dimension_numbers"][1][0])
    return any(
        _batched_product(inner)
        for program in core.jaxprs_in_params(eqn.params)
        for inner in program.eqns
    )


def linearize(
    plain: Callable[..., tuple[dict, Any]], params: PyTree, *args: Any, **kwargs: Any
) -> tuple[dict[str, Array], Any, Linear]:
    """Values, aux and the linear program of a checked values_fn, in one forward pass.

    Args:
        plain: of `_head_grads.with_aux`.
        params: pytree of floating arrays.
        args, kwargs: the further arguments of `plain`.
    """
    values, tangents, aux = jax.linearize(
        lambda p: plain(p, *args, **kwargs), params, has_aux=True
    )
    leaves, structure = jax.tree.flatten(params)

    def flat(*leaves: Array) -> list[Array]:
        return jax.tree.leaves(tangents(jax.tree.unflatten(structure, leaves)))

    program = jax.make_jaxpr(flat)(*leaves)
    return values, aux, _analysed(values, leaves, program)


def _analysed(
    values: dict[str, Array], leaves: Sequence[Array], program: Any
) -> Linear:
    inputs, results, equations, constants = _inlined(program)
    linear = set(inputs)
    ours, other = [], []
    for eqn in equations:
        if any(v in linear for v in variables(eqn.invars)):
            linear.update(eqn.outvars)
            ours.append(eqn)
        else:
            other.append(eqn)
    heads: dict[Var, int] = {}
    coarse: dict[Var, int] = {}
    for h, v in enumerate(results):
        if not isinstance(v, core.Literal) and v in linear:
            heads[v] = coarse[v] = heads.get(v, 0) | 1 << h
    kept, groups = [], []
    for eqn in reversed(ours):
        group = _union(coarse.get(v, 0) for v in eqn.outvars)
        if not group:
            continue
        kept.append(eqn)
        groups.append(group)
        for v, outputs in users(eqn):
            if v in linear:
                reached = _union(heads.get(out, 0) for out in outputs)
                heads[v] = heads.get(v, 0) | reached
                coarse[v] = coarse.get(v, 0) | group
    kept.reverse()
    groups.reverse()
    needed = {v for eqn in kept for v in variables(eqn.invars)} - linear
    return Linear(
        names=tuple(values),
        params=tuple(inputs),
        values=tuple(None if v not in heads else v for v in map(_key, results)),
        ones=tuple(jnp.ones_like(value) for value in values.values()),
        leaves=tuple(leaves),
        equations=tuple(kept),
        groups=tuple(groups),
        known=_evaluate(other, constants, needed),
        heads=heads,
    )


def _union(sets: Iterable[int]) -> int:
    total = 0
    for each in sets:
        total |= each
    return total


def _key(atom: Any) -> Any:
    return None if isinstance(atom, core.Literal) else atom


def struct(v: Var) -> jax.ShapeDtypeStruct:
    """Shape, dtype and what its type says of sharding, for a transposition."""
    sharding = getattr(v.aval, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    known = {} if mesh is None or mesh.empty else {"sharding": sharding}
    return jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype, **known)


def zeros(v: Var) -> Array:
    """Zeros of the variable's shape and type, differing between the same devices."""
    found = jnp.zeros(v.aval.shape, v.aval.dtype)
    axes = tuple(sorted(_numerics.varying_axes(v.aval)))
    return lax.pcast(found, axes, to="varying") if axes else found


def nbytes(v: Var) -> int:
    """Size of the array that a variable names."""
    return v.aval.size * v.aval.dtype.itemsize


def variables(atoms: Iterable[Any]) -> list[Var]:
    """The distinct variables among them, in order."""
    return list(dict.fromkeys(v for v in atoms if not isinstance(v, core.Literal)))


def users(eqn: Any) -> list[tuple[Var, list[Var]]]:
    """Each variable that an equation takes, with the outputs that depend on it."""
    inputs, outputs = variables(eqn.invars), list(eqn.outvars)
    if len(outputs) == 1:
        return [(v, outputs) for v in inputs]
    found = _dependence.dependence(
        _jaxpr(inputs, outputs, [eqn]), [1 << i for i in range(len(inputs))]
    )
    return [
        (v, [out for out, on in zip(outputs, found, strict=True) if on >> i & 1])
        for i, v in enumerate(inputs)
    ]


def _jaxpr(inputs: list[Var], outputs: Sequence[Var], equations: Any) -> Any:
    effects = frozenset().union(*(eqn.effects for eqn in equations))
    info = core.DebugInfo(
        "linear program", "values_fn", ("",) * len(inputs), ("",) * len(outputs)
    )
    return core.Jaxpr((), inputs, list(outputs), list(equations), effects, info)


def function(inputs: Any, outputs: Any, equations: Any) -> Callable[..., list]:
    jaxpr = _jaxpr(inputs, outputs, equations)
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))


def _evaluate(
    equations: Sequence[Any], known: Mapping[Var, Array], needed: Iterable[Var]
) -> dict[Var, Array]:
    """The needed variables of a program in which everything is known."""
    result = {v: known[v] for v in needed if v in known}
    outputs = [v for v in needed if v not in known]
    if outputs:
        arrays = function(list(known), outputs, equations)(*known.values())
        result |= zip(outputs, arrays, strict=True)
    return result


def _is_plain_call(eqn: Any) -> bool:
    """A call of jit that asks for no sharding, so that it may be written out."""
    if eqn.primitive.name not in ("jit", "pjit"):
        return False
    asked = (*eqn.params["in_shardings"], *eqn.params["out_shardings"])
    return all(type(sharding).__name__ == "UnspecifiedValue" for sharding in asked)


def _inlined(program: Any) -> tuple[list, list, list, dict[Var, Array]]:
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
