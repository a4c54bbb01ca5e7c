"""One gradient of many heads, as a balancer decides."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _trees
from headwise import balancers
from headwise import gradients
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


class Info(NamedTuple):
    """What happened in one balanced gradient."""

    values: dict[str, Array]
    """Raw value of each head."""
    weights: dict[str, Array]
    """Effective weight of each head."""
    gramian: Array | None = None
    """[H, H] over the shared parameters, when it was computed."""
    conflicts: Array | None = None
    """Number of pairs of heads whose gradients point apart, likewise."""
    grads: dict[str, PyTree] | None = None
    """The head gradients, when they were computed."""
    aux: Any = None
    """What `values_fn` returned beside the values, with `has_aux`."""


def balanced_grad(
    values_fn: ValuesFn,
    balancer: balancers.Balancer,
    private: str = "weighted",
    has_aux: bool = False,
    head_grads: bool = False,
) -> Callable[..., tuple[PyTree, Info, Any]]:
    """Transforms `values_fn` into a function that returns the gradient to apply.

    Only what the balancer needs is computed: one weighted backward pass for one that
    needs values, a backward pass a head otherwise. A gramian is taken over the
    *shared* parameters, those that two or more heads reach (found from the program by
    `hw.routing`; over all if there are none), as in MGDA and its successors.

    Args:
        values_fn: `(params, *args) -> {name: scalar}`.
        balancer: of `hw.balancers`.
        private: what parameters that one head alone reaches get: "weighted", the
            gradient of Σ w_h value_h as everywhere (Keras); "own", their head's own
            unweighted gradient (LibMTL, TorchJD).
        has_aux: `values_fn` returns (values, aux); aux is in `info`.
        head_grads: compute the head gradients in any case, for `info.grads`.

    Returns:
        `f(params, state, *args, key=None, step=None, present=None)` -> (grads, info,
        state), where state is the balancer's, `step` an int scalar for schedules and
        `present` {name: bool} or [H] bool for heads that have no data. Heads of weight
        0 leave no trace in the gradient, even if theirs is NaN, when head gradients
        are computed or values come from `hw.Objective`.

    Raises:
        ValueError: unknown `private`; the balancer lacks a signal (it names it).

    Example:
        >>> def values_fn(p, x):
        ...     return {"a": (p["w"] * x - 1.0) ** 2, "b": (p["w"] * x + 1.0) ** 2}
        >>> balancer = hw.balancers.constant({"a": 1.0, "b": 0.5})
        >>> f = hw.balanced_grad(values_fn, balancer)
        >>> grads, info, _ = f({"w": 3.0}, balancer.init(["a", "b"]), 1.0)
        >>> print(grads["w"], info.values["a"], info.weights["b"])  # 1 * 4 + 0.5 * 8
        8.0 4.0 0.5
    """
    _checks.choice("private", ["weighted", "own"], private)
    _checks.choice("balancer.needs", ["values", "gramian", "grads"], balancer.needs)

    plain = gradients.with_aux(values_fn, has_aux)

    def transformed(
        params: PyTree,
        state: Any,
        *args: Any,
        key: Array | None = None,
        step: Array | int | None = None,
        present: Mapping[str, Array] | Array | None = None,
    ) -> tuple[PyTree, Info, Any]:
        _trees.check_floating("params", params)
        reaches = None
        if balancer.needs != "values" or private == "own" or head_grads:
            reaches = gradients.routing(plain, params, *args, has_aux=True)
        grads = gram = None
        if balancer.needs != "values" or head_grads:
            (values, aux), grads = gradients.head_grads(plain, has_aux=True)(
                params, *args
            )
        else:
            values, pullback, aux = jax.vjp(
                lambda p: plain(p, *args), params, has_aux=True
            )
        names = tuple(sorted(values))
        if hasattr(present, "keys"):
            assert isinstance(present, Mapping)
            _checks.same_names("present", names, present)
            present = jnp.stack([jnp.asarray(present[n], bool) for n in names])
        if grads is not None and reaches is not None:
            gram = gradients.gramian(_only_shared(grads, reaches))
        signals = balancers.Signals(
            values=jnp.stack([values[n] for n in names]),
            gram=gram,
            grads=grads if balancer.needs == "grads" else None,
            step=step,
            key=key,
            present=present,
        )
        decision, state = balancer.update(signals, state)
        weights = dict(zip(names, decision.weights, strict=True))
        if decision.direction is not None:
            total = decision.direction
        elif grads is not None:
            total = _weighted_sum(weights, grads)
        else:
            total = pullback(_like(weights, values))[0]
        if private == "own":
            assert reaches is not None
            ones = dict.fromkeys(names, jnp.ones(()))
            if present is not None:
                ones = dict(zip(names, jnp.asarray(present, jnp.float32), strict=True))
            if grads is not None:
                own = _weighted_sum(ones, grads)
            else:
                own = pullback(_like(ones, values))[0]
            total = jax.tree.map(
                lambda shared, w, o: w if shared else o, reaches.shared, total, own
            )
        conflicts = None if gram is None else jnp.sum(jnp.triu(gram, 1) < 0)
        return total, Info(dict(values), weights, gram, conflicts, grads, aux), state

    return transformed


def _like(weights: Mapping[str, Array], values: Mapping[str, Array]) -> dict:
    return {n: jnp.asarray(weights[n], values[n].dtype) for n in values}


def _only_shared(
    grads: dict[str, PyTree], reaches: gradients.Routing
) -> dict[str, list[Array]]:
    """The leaves of each head gradient that two or more heads reach, or all."""
    flags = jax.tree.leaves(reaches.shared)
    if not any(flags):
        flags = [True] * len(flags)
    return {
        name: [g for g, flag in zip(jax.tree.leaves(tree), flags, strict=True) if flag]
        for name, tree in grads.items()
    }


def _weighted_sum(weights: Mapping[str, Array], grads: Mapping[str, PyTree]) -> PyTree:
    """Σ w g; a head of weight 0 counts for nothing, even if its gradient is NaN."""

    def leaf(*rows: Array) -> Array:
        parts = [
            _numerics.drop_zero_weight(weights[n].astype(row.dtype), row)
            for n, row in zip(grads, rows, strict=True)
        ]
        return sum(parts[1:], parts[0])

    return jax.tree.map(leaf, *grads.values())
