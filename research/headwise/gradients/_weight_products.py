"""Products of known activations with a parameter, transposed for many heads.

The gradient of a dense layer's matrix is the transposed activations times what comes
back. Many heads share the activations, and so these are turned once where that is
faster (`_xla.turns_activations`)::

    y = x w            x [B, I] known, w [I, O]
    turned = xᵀ        [I, B], once
    turned @ ct_h      [I, O], the gradient of w for each head h
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from jax import lax

from headwise import _linear_map
from headwise import _numerics
from headwise import _xla
from headwise.gradients import _linear
from headwise.gradients._equations import Var
from headwise.gradients._transpose import Cotangents
from headwise.typing import Array


def is_weight_product(linear: _linear.Linear, eqn: Any) -> bool:
    """Whether it is activations, which are to be turned, times a parameter."""
    if eqn.primitive.name != "dot_general" or not _xla.turns_activations():
        return False
    x, w = eqn.invars
    if x not in linear.known or w not in linear.params:
        return False
    dtypes = {v.aval.dtype for v in (x, w, *eqn.outvars)}
    batch = eqn.params["dimension_numbers"][1]
    precision = eqn.params["precision"]
    return (
        len(dtypes) == 1
        and not batch[0]
        and (precision is None or precision[0] == precision[1])
        and not _numerics.has_sharding_type(linear.known[x])
    )


def pullback(
    known: Mapping[Var, Array], equations: Sequence[Any]
) -> Callable[[Cotangents], Cotangents]:
    """The transpose of weight products: from results to parameters."""
    turned: dict[Var, Array] = {}

    def pull(cotangents: Cotangents) -> Cotangents:
        gradients: Cotangents = {}
        for eqn in reversed(equations):
            (out,) = eqn.outvars
            if out not in cotangents:
                continue
            if out not in turned:
                turned[out] = _turned(known[eqn.invars[0]], eqn)
            w = eqn.invars[1]
            ct = _gradient(turned[out], cotangents[out], eqn)
            gradients[w] = gradients[w] + ct if w in gradients else ct
        return gradients

    return pull


def turn(linear: _linear.Linear, eqn: Any) -> Array:
    """The activations of a weight product, to be held for `run_turned`."""
    return _turned(linear.known[eqn.invars[0]], eqn)


def run_turned(x: Array, turned: Array, w: Array, eqn: Any) -> Array:
    """A weight product whose transpose takes the turned activations."""

    def forward(known: list[Array], tangents: list[Array]) -> list[Array]:
        return [eqn.primitive.bind(known[0], tangents[0], **eqn.params)]

    def backward(known: list[Array], cotangents: list[Any]) -> list[Any]:
        (ct,) = cotangents
        return [None if ct is None else _gradient(known[1], ct, eqn)]

    return _linear_map.linear_map(forward, backward, [x, turned], [w])[0]


def _turned(x: Array, eqn: Any) -> Array:
    """The activations, contracted axes first."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    free = [i for i in range(x.ndim) if i not in contracted]
    return lax.optimization_barrier(lax.transpose(x, (*contracted, *free)))


def _gradient(turned: Array, ct: Array, eqn: Any) -> Array:
    """Of the parameter, axes in its order."""
    (_, contracted), _ = eqn.params["dimension_numbers"]
    first = len(contracted)
    count = turned.ndim - first
    axes = tuple(range(first, turned.ndim)), tuple(range(count))
    product = lax.dot_general(
        turned, ct, (axes, ((), ())), precision=eqn.params["precision"]
    )
    w = eqn.invars[1].aval
    free = [i for i in range(w.ndim) if i not in contracted]
    order = (*contracted, *free)
    return lax.transpose(product, tuple(order.index(i) for i in range(w.ndim)))
