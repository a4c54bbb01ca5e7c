"""The rule that a head with weight 0 is not there, for its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from headwise.typing import Array
from headwise.typing import PyTree


def gate(value_fn: Callable[..., Array], *args: PyTree) -> Array:
    """`value_fn(*args)`, a scalar, whose pullback of a zero cotangent is exactly zero.

    Backpropagation multiplies, and 0 * NaN is NaN: without the gate a head whose
    value is NaN poisons all parameters even if its weight is 0. The weight is known
    only later, in the total, so that the gate is in the derivative. It is a
    `jax.custom_vjp`: reverse mode any number of times, and forward mode over it
    (`jax.hessian`), but no forward mode alone. What `value_fn` closes over (learned
    weights of a mixture) is differentiated too.
    """
    closed, constants = jax.closure_convert(value_fn, *args)

    @jax.custom_vjp
    def gated(*args: PyTree) -> Array:
        return closed(*args)

    def forward(*args: PyTree) -> tuple[Array, Callable]:
        return jax.vjp(closed, *args)

    def backward(pullback: Callable, cotangent: Array) -> tuple[PyTree, ...]:
        absent = cotangent == 0

        def keep(x: Array) -> Array:
            if x.dtype == jax.dtypes.float0:
                return x
            return jnp.where(absent, jnp.zeros_like(x), x)

        return jax.tree.map(keep, pullback(cotangent))

    gated.defvjp(forward, backward)
    return gated(*args, *constants)
