"""A model whose derivatives are scaled on the way through it, and a step of one.

In float16 a number below 6e-8 is 0, and many a gradient is. So the model is entered and
left by two functions that do nothing but to derivatives::

    enter(params):  y = x,  dy = dx / S            leave(values):  y = x,  dy = S dx

On the way back all that lies between them is S times as large, and nothing outside of
them: balancer, optimiser and records see the gradients as they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _means
from headwise import _trees
from headwise.training import _loss_scale
from headwise.typing import Array
from headwise.typing import PyTree


def scaled(
    model: Callable[..., tuple[Any, PyTree]],
) -> Callable[..., tuple[Any, PyTree]]:
    """The model `(params, batch, rest, key) -> (values, rest)`, entered and left.

    Its rest is (rest, scale): so the scale goes where the rest goes, through parts of a
    batch and their loops.
    """

    def run(
        params: PyTree, batch: Any, rest: tuple[PyTree, Array], key: Array
    ) -> tuple[Any, tuple[PyTree, Array]]:
        own, scale = rest
        _refuse_half(params)
        inside = jax.tree.map(lambda x: _times(x, 1 / scale), params)
        values, own = model(inside, batch, own, key)
        outside = {name: _times(value, scale) for name, value in values.items()}
        if isinstance(values, _means.Means):
            told = _means.tally_of(values)
            whole = _means.together(outside, told, always=True)
            return whole.with_weights(values.weights), (own, scale)
        return outside, (own, scale)

    return run


def guarded(
    step: Callable[[Any, Any], tuple[Any, Any]],
    loss_scale: _loss_scale.LossScale | float | None,
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """A step of a scaled model as one of the model: finds the scale, skips what broke.

    Args:
        step: `(state, batch) -> (state, info)` whose state has the `rest` of `scaled`,
            and a `loss_scale` of None.
        loss_scale: None gives the step back.
    """
    if loss_scale is None:
        return step

    def run(state: Any, batch: Any) -> tuple[Any, Any]:
        if not hasattr(state, "loss_scale"):
            return step(state, batch)  # which says what is wrong with it
        held, dynamic = state.loss_scale, isinstance(loss_scale, _loss_scale.LossScale)
        if dynamic and held is None:
            raise TypeError(
                "state: expected one with a loss scale, as the step has a dynamic one: "
                "give it to init_state(loss_scale=) too"
            )
        if not dynamic:
            refuse_held(state)
        scale = held.scale if dynamic else jnp.asarray(loss_scale, jnp.float32)
        inner = state._replace(rest=(state.rest, scale), loss_scale=None)
        new, info = step(inner, batch)
        new = new._replace(rest=new.rest[0], loss_scale=held)
        if not isinstance(loss_scale, _loss_scale.LossScale):
            return new, info
        held, skip = loss_scale.update(held, _all_finite(info))
        kept = jax.tree.map(
            lambda old, x: lax.select(skip, _like(old, x), x), state, new
        )
        nothing = jax.tree.map(
            lambda x: jnp.where(skip, jnp.nan, x), info.contributions
        )
        info = info._replace(contributions=nothing, skipped=skip, loss_scale=scale)
        return kept._replace(step=new.step, loss_scale=held), info

    return run


def refuse_held(state: Any) -> None:
    """Raises TypeError if the state holds a scale of which the step knows nothing."""
    if state.loss_scale is not None:
        raise TypeError(
            "state: expected one without a loss scale, as the step has no dynamic one: "
            "give it to make_step(loss_scale=) too"
        )


@jax.custom_jvp
def _steeper(x: Array, factor: Array) -> Array:
    return x


@_steeper.defjvp
def _steeper_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # The first derivative alone is scaled: x and not `_steeper(x)` goes on, so that a
    # derivative of it is that of the model.
    (x, factor), (tangent, _) = primals, tangents
    return x, tangent * factor.astype(tangent.dtype)


def _times(x: Any, factor: Array) -> Any:
    """The same, with derivatives that are so many times as large."""
    inexact = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
    return _steeper(x, factor) if inexact else x


def _refuse_half(params: PyTree) -> None:
    for path, leaf in zip(_trees.paths(params), jax.tree.leaves(params), strict=True):
        if getattr(leaf, "dtype", None) == jnp.float16:
            raise ValueError(
                "loss_scale: expected parameters of float32, got float16 at "
                f"'{'/'.join(path)}', where small gradients vanish all the same; let "
                "the model compute in float16: hw.nn.functional(model, dtype=)"
            )


def _all_finite(info: Any) -> Array:
    """bool: the gradient, and what a head shows that counts or would count."""
    flags = [jnp.isfinite(info.grad_norm)]
    for name, value in info.values.items():
        flags.append(jnp.isfinite(value) | (info.weights[name] == 0))
    flags += [~flag for flag in (getattr(info, "broken", None) or {}).values()]
    slopes = getattr(info, "slopes", {}).values()
    return jnp.all(jnp.stack([*flags, *map(jnp.isfinite, slopes)]))


def _like(old: Any, new: Array) -> Array:
    old = jnp.asarray(old)
    return old if old.dtype == new.dtype else old.astype(new.dtype)
