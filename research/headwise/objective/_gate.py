"""The rule that a head with weight 0 is not there, for its gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from headwise import _linear_map
from headwise import _numerics
from headwise.typing import Array
from headwise.typing import PyTree


def gate(value_fn: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """`value_fn(*args)`, whose pullback of a zero cotangent is exactly zero.

    Backpropagation multiplies, and 0 * NaN is NaN: without the gate a head whose
    value is NaN poisons all parameters even if its weight is 0. The weight is known
    only later, in the total, so that the gate is in the derivative::

        tangents of args  ->  opened  ->  value_fn  ->  closed  ->  of the value
                                 |______  flag  ______|

    The flag is 0 and adds nothing. On the way back it carries to `opened` whether a
    cotangent came at all, and nothing passes there if none did. What lies between is
    JAX's own derivative of `value_fn`, so that every order and both ways work. (A
    second way back goes through that derivative as it is, and may find its NaN.) What
    `value_fn` closes over (learned weights of a mixture) is differentiated too.
    """
    # Where devices differ in one argument, each has cotangents of its own for all.
    args = _numerics.alike(args)
    function, constants = jax.closure_convert(value_fn, *args)

    @jax.custom_jvp
    def gated(*args: PyTree) -> PyTree:
        return function(*args)

    def jvp(primals: PyTree, tangents: PyTree) -> tuple[PyTree, PyTree]:
        leaves, structure = jax.tree.flatten(primals)
        pairs = enumerate(jax.tree.leaves(tangents))
        moving = {i: t for i, t in pairs if not isinstance(t, SymbolicZero)}

        def by_moving(*some: Array) -> PyTree:
            mine = dict(zip(moving, some, strict=True))
            arrays = [mine.get(i, x) for i, x in enumerate(leaves)]
            return function(*jax.tree.unflatten(structure, arrays))

        nothing = _numerics.alike(jnp.zeros(()), leaves)
        flag, *opened = _open(leaves, nothing, list(moving.values()))
        values, along = jax.jvp(by_moving, [leaves[i] for i in moving], opened)
        return values, _close(along, nothing, flag)

    gated.defjvp(jvp, symbolic_zeros=True)
    return gated(*args, *constants)


def _open(leaves: list[Array], nothing: Array, tangents: list[Array]) -> list[Array]:
    """The flag and the tangents; back goes nothing unless the flag says so."""

    def backward(known: list[Array], cotangents: list[Any]) -> list[Any]:
        flag, *others = cotangents
        if flag is None:
            return [None] * len(cotangents)
        return [None] + [ct if ct is None else _unless(flag == 0, ct) for ct in others]

    # With the leaves, so that one flag is one example's wherever any leaf is mapped.
    known = list(map(lax.stop_gradient, leaves))
    return _linear_map.linear_map(
        lambda known, tangents: tangents, backward, known, [nothing, *tangents]
    )


def _unless(absent: Array, cotangent: Array) -> Array:
    """The cotangent, zero where absent: on all devices if they have one for all."""
    axes = _numerics.varying_axes(jax.typeof(absent))
    axes -= _numerics.varying_axes(jax.typeof(cotangent))
    if axes:
        absent = lax.pmin(absent.astype(jnp.int32), tuple(sorted(axes))) == 1
    return jnp.where(absent, jnp.zeros_like(cotangent), cotangent)


def _close(tangents: PyTree, nothing: Array, flag: Array) -> PyTree:
    """The tangents of the values; back goes also Σ |cotangent|: is any not 0?"""

    def backward(known: list[Array], cotangents: list[Any]) -> list[Any]:
        came = [jnp.sum(jnp.abs(ct)) for ct in cotangents if ct is not None]
        if not came:
            return [None] * (1 + len(cotangents))
        flag = sum(came[1:], came[0]).astype(known[0].dtype)
        return [_numerics.alike(flag, known), *cotangents]

    leaves, structure = jax.tree.flatten(tangents)
    floating = [i for i, t in enumerate(leaves) if t.dtype != jax.dtypes.float0]
    given = [flag, *(leaves[i] for i in floating)]
    closed = _linear_map.linear_map(
        lambda known, tangents: tangents[1:], backward, [nothing], given
    )
    for i, t in zip(floating, closed, strict=True):
        leaves[i] = t
    return jax.tree.unflatten(structure, leaves)
