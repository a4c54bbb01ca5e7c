"""A program that carries, beside its state, the state's derivatives in the log weights.

One tangent a head goes through the training with the state, in the same steps. Integers
and keys of the state have no derivative and go along as they are.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from headwise import _records
from headwise import _scalars
from headwise._program import Program
from headwise.typing import Array
from headwise.typing import PyTree

_WRITTEN_OUT = 4
"""Up to so many heads a tangent each is written out in the program, whose common part
the compiler does once: twice as fast on a CPU as one program of stacked tangents."""


class Carried(NamedTuple):
    """The state of a program made by `carrying`."""

    state: PyTree
    tangents: list[Array]
    """[H, ...] of every floating leaf of the state: d leaf / d log weight."""


def carrying(program: Program, heads: Sequence[str]) -> Program:
    """The program with tangents: the same state step by step, and its derivatives.

    Returns:
        A program whose state is `Carried`, and whose `evaluate` gives {"values":
        {metric: }, "slopes": {head: {metric: }}, "reach": {head: }}: the metrics, their
        derivatives in the log weights, and the lengths of the tangents over that of the
        state.
    """

    def init(trial: Mapping[str, Any]) -> Carried:
        weights = {name: jnp.asarray(trial["weights"][name]) for name in heads}
        # d weight / d log weight is the weight: exactly 0 for one of 0.
        along = [
            weight * jnp.array([name == head for head in heads], weight.dtype)
            for name, weight in sorted(weights.items())  # as leaves of a dict are
        ]
        made, tangents, _ = _pushed(
            lambda weights: (program.init({**trial, "weights": weights}), None),
            weights,
            along,
        )
        return Carried(made, tangents)

    def step(
        carried: Carried, t: Array, *batch: Any
    ) -> tuple[Carried, Mapping[str, Any]]:
        state, tangents, report = _pushed(
            lambda x: program.step(x, t, *batch), *carried
        )
        return Carried(state, tangents), report

    def evaluate(carried: Carried) -> dict[str, Any]:
        names: list[str] = []

        def vector(state: PyTree) -> tuple[Array, None]:
            found = metrics(program, state)
            names[:] = found
            return jnp.stack([*map(_as_float, found.values())]), None

        values, (slopes,), _ = _pushed(vector, *carried)
        size = _lengths([x[None] for x in _floating(carried.state)])[0]
        reach = _lengths(carried.tangents) / jnp.where(size > 0, size, 1.0)
        return {
            "values": dict(zip(names, values, strict=True)),
            "slopes": {h: dict(zip(names, row)) for h, row in zip(heads, slopes)},
            "reach": dict(zip(heads, reach, strict=True)),
        }

    return Program(init, step, evaluate, program.batches)


def is_of_them(cause: str | None) -> bool:
    """Whether what broke first, in words, is a tangent."""
    return cause is not None and cause.startswith("the state's .tangents")


def metrics(program: Program, state: PyTree) -> dict[str, Array]:
    """The metrics by name, sorted; nested ones as `a/b`."""
    given = _scalars.scalars(program.evaluate(state))
    _records.check_metrics(given)
    return dict(sorted(flat(given).items()))


def without_derivative(program: Program, state: PyTree) -> dict[str, bool]:
    """Of each metric, whether no floating number of the state moves it smoothly.

    So it is with all that counts or compares, such as an accuracy: its derivative is 0
    wherever it has one.

    Args:
        program: as it was given.
        state: arrays or their types.
    """
    names: list[str] = []

    def slopes(state: PyTree, tangents: list[Array]) -> list[Array]:
        def values(state: PyTree) -> tuple[list[Array], None]:
            found = metrics(program, state)
            names[:] = found
            return [*map(_as_float, found.values())], None

        return _pushed(values, state, tangents)[1]

    likes = [jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for x in _floating(state)]
    jaxpr = jax.make_jaxpr(slopes)(state, likes).jaxpr
    moving = set(jaxpr.invars[len(jaxpr.invars) - len(likes) :])
    for equation in jaxpr.eqns:
        if any(isinstance(v, core.Var) and v in moving for v in equation.invars):
            moving.update(equation.outvars)
    still = [not (isinstance(v, core.Var) and v in moving) for v in jaxpr.outvars]
    return dict(zip(names, still, strict=True))


def _pushed(
    function: Callable[[PyTree], tuple[PyTree, Any]],
    tree: PyTree,
    tangents: list[Array],
) -> tuple[PyTree, list[Array], Any]:
    """`function(tree)`, with the tangents [H, ...] of the floating leaves of its first.

    The function itself is computed once, what is linear in the tangents H times.
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, x in enumerate(leaves) if _is_floating(x)]

    def of_floats(floats: list[Array]) -> tuple[list[Array], tuple[PyTree, Any]]:
        whole = dict(enumerate(leaves)) | dict(zip(places, floats, strict=True))
        result, more = function(jax.tree.unflatten(structure, whole.values()))
        result = jax.tree.map(jnp.asarray, result)
        return _floating(result), (result, more)

    floats = [jnp.asarray(leaves[i]) for i in places]

    def along(row: list[Array]) -> tuple[list[Array], tuple[PyTree, Any]]:
        _, moved, made = jax.jvp(of_floats, (floats,), (row,), has_aux=True)
        return moved, made

    count = len(tangents[0])
    if count > _WRITTEN_OUT:
        moved, (result, more) = jax.vmap(along, out_axes=(0, None))(tangents)
        return result, moved, more
    every = [along([x[i] for x in tangents]) for i in range(count)]
    _, (result, more) = every[0]
    rows = zip(*(moved for moved, _ in every), strict=True)
    return result, [jnp.stack(row) for row in rows], more


def _floating(tree: PyTree) -> list[Any]:
    return [x for x in jax.tree.leaves(tree) if _is_floating(x)]


def _is_floating(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _as_float(x: Any) -> Array:
    x = jnp.asarray(x)
    return x if _is_floating(x) else x.astype(jnp.result_type(float))


def _lengths(rows: list[Array]) -> Array:
    """[H]: the Euclidean lengths of trees whose leaves are [H, ...]."""
    squares = [jnp.sum(jnp.abs(x.reshape(len(x), -1)) ** 2, axis=1) for x in rows]
    return jnp.sqrt(sum(squares[1:], squares[0]))


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested metrics as {"a/b": value}."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = value
    return found
