"""Functions traced once and run as often as wanted, or for many rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend import core

from headwise import _numerics
from headwise.typing import Array
from headwise.typing import PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """The program that a function was traced to; Python runs no more when it is called.

    Made by `traced`; called with arguments of the same structure, shapes and dtypes.
    """

    program: core.ClosedJaxpr
    shape: PyTree
    """Of the result: a pytree of `jax.ShapeDtypeStruct`."""

    @property
    def types(self) -> PyTree:
        """Of the result, with what they say of devices."""
        return jax.tree.unflatten(
            jax.tree.structure(self.shape), self.program.out_avals
        )

    def __call__(self, *args: PyTree) -> Any:
        results = core.jaxpr_as_fun(self.program)(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(self.shape), results)


def traced(function: Callable[..., PyTree], *args: PyTree) -> Traced:
    """The program of `function(*args)`: arrays to arrays, whatever it closes over.

    For a function that is needed several times in one trace: as a shape and as a branch
    of `lax.cond` or a body of `lax.scan`, or for several batches of one shape. Tracing
    it each time would run all of its Python each time.
    """
    return Traced(*jax.make_jaxpr(function, return_shape=True)(*args))


def branches(*programs: Traced) -> list[Callable[..., Any]]:
    """The programs as branches of `lax.cond`, which have to agree in their types.

    Inside of `jax.shard_map` a result of one branch may differ between devices where
    that of another does not. Such a result is made to differ in all, and no other one.
    """
    pairs = zip(*(program.program.out_avals for program in programs), strict=True)
    axes = [frozenset().union(*map(_numerics.varying_axes, types)) for types in pairs]

    def branch(program: Traced) -> Callable[..., Any]:
        def run(*args: PyTree) -> Any:
            leaves, structure = jax.tree.flatten(program(*args))
            leaves = list(map(_numerics.varying, leaves, axes))
            return jax.tree.unflatten(structure, leaves)

        return run

    return list(map(branch, programs))


def mapped(
    function: Callable[[list[Array]], list[Array]], rows: list[Array], at_once: int
) -> list[Array]:
    """The function of every row of some arrays, stacked: so many rows at a time.

    One by one where an operation of it has no rule for stacks (`ragged_dot`).
    """
    number = len(rows[0])
    blocks = -(-number // at_once)
    size = -(-number // blocks)  # as equal as may be
    if size == 1:
        return lax.map(function, rows)
    try:
        if blocks == 1:
            return jax.vmap(function)(rows)
        return lax.map(function, rows, batch_size=size)
    except NotImplementedError:
        return lax.map(function, rows)
