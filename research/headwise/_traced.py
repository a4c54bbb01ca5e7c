"""Functions traced once and run as often as wanted."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from headwise.typing import PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """The program that a function was traced to; Python runs no more when it is called.

    Made by `traced`; called with arguments of the same structure, shapes and dtypes.
    """

    program: core.ClosedJaxpr
    shape: PyTree
    """Of the result: a pytree of `jax.ShapeDtypeStruct`."""

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
