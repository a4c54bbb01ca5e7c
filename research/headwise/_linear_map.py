"""Linear maps that say themselves what their transpose is.

Derivatives are linear maps: forward mode runs them, reverse mode their transposes. JAX
finds a transpose operation by operation. Here it is given: one in fewer passes over
memory, or one that drops what must not go back. `jax.custom_vjp` does that at the price
of forward mode; `jax.custom_derivatives.linear_call` has no second derivative and no
`vmap`.

Example:
    >>> from headwise import _linear_map
    >>> def halved_on_the_way_back(x):                         # x -> 3 x, and 1.5 back
    ...     @jax.custom_jvp
    ...     def triple(x):
    ...         return 3.0 * x
    ...     @triple.defjvp
    ...     def jvp(primals, tangents):
    ...         moved = _linear_map.linear_map(
    ...             lambda known, tangents: [3.0 * t for t in tangents],
    ...             lambda known, cotangents: [1.5 * ct for ct in cotangents],
    ...             [],
    ...             tangents,
    ...         )
    ...         return triple(*primals), moved[0]
    ...     return triple(x)
    >>> print(jax.jacfwd(halved_on_the_way_back)(1.0))
    3.0
    >>> print(jax.jacrev(halved_on_the_way_back)(1.0))
    1.5
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad
from jax.interpreters import batching
from jax.interpreters import mlir

from headwise.typing import Array

Forward: TypeAlias = Callable[[list[Array], list[Array]], Sequence[Array]]
"""(known, tangents) -> tangents of the results."""
Backward: TypeAlias = Callable[[list[Array], list[Any]], Sequence[Array | None]]
"""(known, cotangents of the results) -> cotangents of the tangents; None is zero."""

_linear_map = core.Primitive("linear_map")
_linear_map.multiple_results = True


def linear_map(
    forward: Forward,
    backward: Backward,
    known: Sequence[Array],
    tangents: Sequence[Array],
) -> list[Array]:
    """`forward(known, tangents)`, linear in the tangents, with a transpose of its own.

    Args:
        forward: of arrays alone: it closes over nothing that is differentiated, mapped
            or traced.
        backward: what reverse mode runs. A cotangent is None where nothing comes back,
            and may be None where nothing goes on.
        known: what is not linear. Differentiated by the operations of `forward`, and by
            those of `backward` after a transposition.
        tangents: what is linear. Under `vmap` all of them are mapped if anything is, so
            that `backward` sees every example by itself and sums come last.

    Returns:
        The results of `forward`, in a list.
    """
    arrays = (*known, *tangents)

    def flat(*arrays: Array) -> Sequence[Array]:
        return forward(list(arrays[: len(known)]), list(arrays[len(known) :]))

    program = jax.make_jaxpr(flat)(*arrays)
    return _linear_map.bind(
        *arrays, program=program, backward=backward, known=len(known)
    )


def _run(*arrays: Array, program: Any, **_: Any) -> list[Array]:
    return core.jaxpr_as_fun(program)(*arrays)


def _jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, known: int, **params: Any
) -> tuple[list[Array], list[Array]]:
    """The map itself of what is linear, plus its derivative by what is known."""
    results = _linear_map.bind(*primals, known=known, **params)
    moving = [i for i in range(known) if type(tangents[i]) is not ad.Zero]
    total: list[Array] = []
    if any(type(t) is not ad.Zero for t in tangents[known:]):
        of_linear = map(ad.instantiate_zeros, tangents[known:])
        total = _linear_map.bind(*primals[:known], *of_linear, known=known, **params)
    if moving:

        def by_known(*some: Array) -> list[Array]:
            arrays = list(primals)
            for i, x in zip(moving, some, strict=True):
                arrays[i] = x
            return _run(*arrays, **params)

        at, along = ([row[i] for i in moving] for row in (primals, tangents))
        more = jax.jvp(by_known, at, along)[1]
        total = list(map(jnp.add, total, more)) if total else more
    return results, total


def _transpose(
    cotangents: Sequence[Any],
    *arrays: Any,
    backward: Backward,
    known: int,
    **_: Any,
) -> list[Any]:
    given = [None if type(ct) is ad.Zero else ct for ct in cotangents]
    pulled = backward(list(arrays[:known]), given)
    linear = zip(arrays[known:], pulled, strict=True)
    return [None] * known + [
        ad.Zero(x.aval) if ct is None else ct if ad.is_undefined_primal(x) else None
        for x, ct in linear
    ]


def _batched(
    arrays: Sequence[Array],
    axes: Sequence[int | None],
    *,
    program: Any,
    backward: Backward,
    known: int,
) -> tuple[list[Array], list[int]]:
    size = next(x.shape[a] for x, a in zip(arrays, axes) if a is not None)
    rows = [
        x if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(arrays, axes, strict=True)
    ]
    for i in range(known, len(rows)):
        if axes[i] is None:
            rows[i] = jnp.broadcast_to(rows[i], (size, *rows[i].shape))
    of_known = [None if axis is None else 0 for axis in axes[:known]]
    run = core.jaxpr_as_fun(program)
    results = linear_map(
        jax.vmap(lambda known, tangents: run(*known, *tangents), (of_known, 0)),
        jax.vmap(backward, (of_known, 0)),
        rows[:known],
        rows[known:],
    )
    return results, [0] * len(results)


_linear_map.def_impl(_run)
_linear_map.def_abstract_eval(lambda *_, program, **__: program.out_avals)
mlir.register_lowering(_linear_map, mlir.lower_fun(_run, multiple_results=True))
ad.primitive_jvps[_linear_map] = _jvp
ad.primitive_transposes[_linear_map] = _transpose
batching.primitive_batchers[_linear_map] = _batched
