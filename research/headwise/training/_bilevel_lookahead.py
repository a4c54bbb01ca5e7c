"""Looking ahead: the parameters after some inner steps with given weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from headwise.training import _bilevel_upper
from headwise.training import _extra_args
from headwise.typing import Array
from headwise.typing import PyTree


def lookahead(
    inner: optax.GradientTransformation,
    start: Any,
    train: Callable[[PyTree], dict[str, Array]],
    params: PyTree,
    steps: int,
    remat: bool,
) -> tuple[Callable[[PyTree, PyTree], PyTree], Callable[[Array], PyTree]]:
    """`moved` and `ahead` of a `BilevelProblem`."""

    def move(params: PyTree, grads: PyTree, state: Any) -> tuple[PyTree, Any]:
        updates, state = _extra_args.mixing(inner, grads, state, params)
        return optax.apply_updates(params, updates), state

    def moved(params: PyTree, grads: PyTree) -> PyTree:
        return move(params, grads, start)[0]

    def ahead(weights: Array) -> PyTree:
        def total(params: PyTree) -> Array:
            return jnp.sum(weights * _bilevel_upper.stacked(train(params)))

        def one(carry: tuple[PyTree, Any], _: None) -> tuple[tuple[PyTree, Any], None]:
            params, state = carry
            return move(params, jax.grad(total)(params), state), None

        body = jax.checkpoint(one) if remat else one
        return lax.scan(body, (params, start), None, length=steps)[0][0]

    return moved, ahead
