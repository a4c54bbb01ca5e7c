"""Programs that make batches on the device: so many as a stack, or one alone."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from headwise import _hosts
from headwise import _xla
from headwise.training import _chunks


class Traced(NamedTuple):
    """A function of the step as a program."""

    kind: _chunks.Kind
    room: int
    """1: nothing is stacked, `apart` makes each."""
    run: Callable[..., list[Any]]
    alone: Callable[..., list[Any]]
    arrays: list[Any]

    def stacked(self, first: int, number: int) -> list[Any]:
        """The batches of so many steps, on the device."""
        return self.run(np.int32(first), np.int32(number), self.arrays)

    def one(self, t: int) -> Any:
        """The batch of a step, as it is in a stack."""
        if self.room == 1:
            return self.apart(t)
        return self._batch(_FIRST(self.stacked(t, 1)))

    def apart(self, t: int) -> Any:
        """The batch of a step by a program of its own, which stacks nothing."""
        return self._batch(self.alone(np.int32(t), self.arrays))

    def _batch(self, leaves: list[Any]) -> Any:
        rows = zip(self.kind.types, leaves, strict=True)
        leaves = [x.item() if like.weak_type else x for like, x in rows]
        return jax.tree.unflatten(self.kind.structure, leaves)


def made(
    program: core.ClosedJaxpr, text: str, structure: Any, most: int
) -> Traced | str:
    """The programs of one that makes a batch of a step, or in words why not.

    Args:
        program: of a step; what it gives are the leaves of a batch.
        text: that says which program it is, but for the arrays that it holds.
        structure: of a batch.
        most: of so many steps at a time.
    """
    likes = tuple(
        jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype, weak_type=v.aval.weak_type)
        for v in program.jaxpr.outvars
    )
    if any(jnp.issubdtype(x.dtype, jax.dtypes.extended) for x in likes):
        return "it gives keys"
    if any(x.weak_type and x.shape for x in likes):
        return "it gives arrays of a type that gives way"
    if program.effects:
        return "it has effects"
    arrays = [jnp.asarray(x) for x in program.consts]
    room = _chunks.rows(likes, most)
    why = None
    if _xla.slow_in_loops(program):
        why = "convolutions are slow in loops"
    elif any(len(_chunks.devices(x)) > 1 for x in arrays):
        why = "it takes arrays on several devices"
    elif room < 2:
        why = "they take too much memory"
    if why is not None:
        if not _hosts.several():
            return why
        room = 1  # one by one, and yet a program: what it makes is of all processes

    jaxpr = program.jaxpr  # without its arrays, which are not to be kept alive

    def alone(t: Any, arrays: list[Any]) -> list[Any]:
        return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, arrays))(t)

    def run(first: Any, number: Any, arrays: list[Any]) -> list[Any]:
        function = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, arrays))

        def body(i: Any, made: list[Any]) -> list[Any]:
            row = function(first + i)
            return [
                lax.dynamic_update_index_in_dim(x, new, i, 0)
                for x, new in zip(made, row, strict=True)
            ]

        empty = [jnp.zeros((room, *x.shape), x.dtype) for x in likes]
        return lax.fori_loop(0, number, body, empty)

    kind = _chunks.Kind(structure, likes, (False,) * len(likes))
    stacks, one = (
        _compiled(program, text, function, room)
        for function, room in ((run, room), (alone, None))
    )
    return Traced(kind, room, stacks, one, arrays)


_FIRST = jax.jit(lambda stacked: [x[0] for x in stacked])
_COMPILED: dict[Any, Callable[..., list[Any]]] = {}
"""Programs by what they are, so that a function that was written anew compiles no more;
the newest few."""


def _compiled(
    program: core.ClosedJaxpr, text: str, run: Callable, room: int | None
) -> Callable:
    if len(constants(program)) > len(program.consts):  # some are part of the program
        return jax.jit(run)
    likes = tuple(map(str, program.in_avals + program.out_avals))
    key = text, likes, room
    _COMPILED[key] = _COMPILED.pop(key) if key in _COMPILED else jax.jit(run)
    while len(_COMPILED) > 16:
        del _COMPILED[next(iter(_COMPILED))]
    return _COMPILED[key]


def constants(program: Any) -> list[Any]:
    """Arrays that a program holds, those of programs inside of it too."""
    found = list(getattr(program, "consts", ()))
    if program is None:
        return found
    for equation in program.eqns:
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if isinstance(inner, core.Jaxpr | core.ClosedJaxpr):
                    found += constants(inner)
    return found
