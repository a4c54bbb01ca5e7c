"""The linearised model: which of its equations leads to which heads.

One forward pass gives a linear program from the parameters' tangents to the tangents of
the values. Every equation of it leads to some set of heads. That is read off the
program, through nested calls of jit, and needs no annotation. Of

    h = 5 A,  loss1 = C h,  loss2 = D h    at A = 2, C = 3, D = 7, so that h = 10

the linear program is, with the heads that each line leads to::

    dh = 5 dA                     {loss1, loss2}
    dloss1 = 10 dC + 3 dh         {loss1}           (three equations)
    dloss2 = 10 dD + 7 dh         {loss2}           (three equations)

and 5, 10, 3, 7 are what the forward pass has kept.

Example:
    >>> from headwise.gradients import _linear
    >>> def plain(p):
    ...     h = 5.0 * p["A"]
    ...     return {"loss1": p["C"] * h, "loss2": p["D"] * h}, None
    >>> _, _, linear = _linear.linearize(plain, {"A": 2.0, "C": 3.0, "D": 7.0})
    >>> print(linear.names, sorted(linear.groups))
    ('loss1', 'loss2') [1, 1, 1, 2, 2, 2, 3]
    >>> print([linear.heads[v] for v in linear.params])         # of A, C and D
    [3, 1, 2]
"""

import types
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from headwise import _numerics
from headwise.gradients import _equations
from headwise.gradients import _head_sets
from headwise.gradients._equations import Var
from headwise.typing import Array
from headwise.typing import PyTree


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
    """For every equation, the set of heads that its results lead to when what an
    equation takes is taken to lead where any of its results does. Sets never grow from
    an equation to those that use it, so that parts can be cut by them."""
    known: Mapping[Var, Array]
    """What the forward pass has kept, and what is computed of that alone."""
    kept: Mapping[Var, Array]
    """All of the former, the constants of the program first."""
    forward: tuple[Any, ...]
    """The equations of the latter."""
    heads: Mapping[Var, int]
    """The set of heads that a variable leads to."""
    rows: Mapping[tuple[Var, ...], Array] = types.MappingProxyType({})
    """[heads, ...] of known variables of many heads, where they were computed so."""

    @property
    def is_placed(self) -> bool:
        """Do types of arrays say where they lie?"""
        known = (v.aval for v in self.known)
        return any(map(_numerics.is_placed, (*map(jax.typeof, self.leaves), *known)))

    @property
    def has_batched_products(self) -> bool:
        """Is there a product of stacks of matrices in the shared part?"""
        return any(_is_batched_product(eqn) for eqn in self._shared())

    @property
    def largest_factor(self) -> int:
        """Entries of the largest parameter that the shared part multiplies as it is."""
        params = set(self.params)
        factors = (
            v.aval.size
            for eqn in self._shared()
            if eqn.primitive.name == "dot_general"
            for v in _equations.variables(eqn.invars)
            if v in params
        )
        return max(factors, default=0)

    def rows_of(self, variables: tuple[Var, ...]) -> Array:
        """[heads, ...]: of each head a variable that is known."""
        if variables in self.rows:
            return self.rows[variables]
        each = [lax.expand_dims(self.known[v], (0,)) for v in variables]
        return lax.concatenate(each, 0)

    def _shared(self) -> list[Any]:
        pairs = zip(self.equations, self.groups, strict=True)
        return [eqn for eqn, group in pairs if group.bit_count() > 1]


def _is_batched_product(eqn: Any) -> bool:
    if eqn.primitive.name == "dot_general":
        return bool(eqn.params["dimension_numbers"][1][0])
    return any(
        _is_batched_product(inner)
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
        *args, **kwargs: the further arguments of `plain`.
    """
    values, aux, program = run(plain, params, *args, **kwargs)
    return values, aux, analysed(values, jax.tree.leaves(params), program)


def run(
    plain: Callable[..., tuple[dict, Any]], params: PyTree, *args: Any, **kwargs: Any
) -> tuple[dict[str, Array], Any, core.ClosedJaxpr]:
    """Values, aux, and the program from tangents of leaves to those of the values.

    The constants of the program are what the forward pass has kept.
    """
    values, tangents, aux = jax.linearize(
        lambda p: plain(p, *args, **kwargs), params, has_aux=True
    )
    leaves, structure = jax.tree.flatten(params)

    def flat(*leaves: Array) -> list[Array]:
        return jax.tree.leaves(tangents(jax.tree.unflatten(structure, leaves)))

    return values, aux, jax.make_jaxpr(flat)(*leaves)


def _refuse_references(equations: Sequence[Any]) -> None:
    """Raises where an equation tells others by what it writes, not by its results."""
    for eqn in equations:
        if any(hasattr(v.aval, "inner_aval") for v in (*eqn.invars, *eqn.outvars)):
            raise ValueError(
                "values_fn: expected new arrays on the way from the parameters to the "
                "values, got one that is written in place (jax.new_ref); use "
                "x.at[...].set(...), or jax.jacrev for such a model"
            )


def analysed(
    values: dict[str, Array], leaves: Sequence[Array], program: core.ClosedJaxpr
) -> Linear:
    """Parts the program into what is linear and what is known, and follows the heads.

    Equations are visited from the values up to the parameters, since what an equation
    leads to is known when all that uses its results has been seen.

    Args:
        values: of the heads.
        leaves: the parameters.
        program: of `run`.
    """
    inputs, results, equations, constants = _equations.written_out(program)
    _refuse_references(equations)
    linear = set(inputs)
    ours, other = [], []
    for eqn in equations:
        if any(v in linear for v in _equations.variables(eqn.invars)):
            linear.update(eqn.outvars)
            ours.append(eqn)
        else:
            other.append(eqn)
    heads: dict[Var, int] = {}
    coarse: dict[Var, int] = {}
    for h, v in enumerate(results):
        if not isinstance(v, core.Literal) and v in linear:
            heads[v] = coarse[v] = heads.get(v, 0) | _head_sets.single(h)
    kept, groups = [], []
    for eqn in reversed(ours):
        group = _head_sets.union(coarse.get(v, 0) for v in eqn.outvars)
        if not group:
            continue
        kept.append(eqn)
        groups.append(group)
        for v, outputs in _equations.users(eqn):
            if v in linear:
                reached = _head_sets.union(heads.get(out, 0) for out in outputs)
                heads[v] = heads.get(v, 0) | reached
                coarse[v] = coarse.get(v, 0) | group
    kept.reverse()
    groups.reverse()
    taken = _equations.variables(v for eqn in kept for v in eqn.invars)
    variables = [None if isinstance(v, core.Literal) else v for v in results]
    return Linear(
        names=tuple(values),
        params=tuple(inputs),
        values=tuple(None if v not in heads else v for v in variables),
        ones=tuple(jnp.ones_like(value) for value in values.values()),
        leaves=tuple(leaves),
        equations=tuple(kept),
        groups=tuple(groups),
        known=_equations.evaluate(
            other, constants, [v for v in taken if v not in linear]
        ),
        kept=constants,
        forward=tuple(other),
        heads=heads,
    )
