"""Every head's own gradient clipped, before another balancer weighs them."""

import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _products
from headwise.balancers._core import _directions
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._wrappers import _wrapped
from headwise.typing import Array
from headwise.typing import PyTree


class ClipHeadsState(NamedTuple):
    """The inner state, and the factors of the newest step."""

    names: _types.Names
    inner: Any
    scales: Array
    """[H] in [0, 1]"""


def clip_heads(balancer: _types.Balancer, max_norm: float | Array) -> _types.Balancer:
    """Clips each head's gradient by its norm, before a balancer weighs them.

    ::

        scale_h = min(1, max_norm / |g_h|)
        weight_h = scale_h * inner weight_h, where the inner balancer sees scale_h g_h

    A head that explodes drowns the others in a sum that is clipped afterwards
    (`optax.clip_by_global_norm`); clipped by itself it does not.

    Conventions: the factor scales all of a head's gradient, its norm is taken over what
    the gramian covers: by default the parameters that the head shares with others (all
    of a head that shares none). `wrt=lambda path: True` of the step covers every
    parameter, so that the norm is that of a head's whole gradient. With
    `private="own"` private parameters keep their unclipped gradient.

    Args:
        balancer: one of a single batch, such as `equal()`.
        max_norm: > 0, the largest norm. May be traced.

    Returns:
        A balancer that needs a gramian, or the gradients if the inner one does. A step
        costs a backward pass a head, in each step: put `every` around it.

    Raises:
        ValueError: `max_norm` is not positive; the balancer wants several batches.
        TypeError: `balancer` is none.

    Example:
        >>> balancer = hw.balancers.clip_heads(hw.balancers.equal(), 5.0)
        >>> signals = hw.Signals(jnp.ones(2), gram=jnp.diag(jnp.array([100.0, 16.0])))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # norms 10 and 4
        [0.5 1. ]

    References:
        Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
        networks", ICML 2013, algorithm 1, on every head's gradient.
    """
    _checks.balancer("balancer", balancer)
    _checks.in_range(
        "max_norm", max_norm, "a positive number", lambda x: 0 < x < math.inf
    )
    if balancer.batches > 1:
        raise ValueError(
            "balancer: expected one of a single batch, got one of "
            f"{balancer.batches}: between two batches a gramian holds no norms"
        )

    def init(names: Sequence[str], params: PyTree = None) -> ClipHeadsState:
        names = _types.Names(names, "clip_heads")
        inner = balancer.init(names, params)
        return ClipHeadsState(names, inner, jnp.ones(len(names), jnp.float32))

    def squares(signals: _types.Signals) -> Array:
        if signals.gram is not None or signals.grads is None:
            _signals.require("clip_heads", signals, "gram")
            return jnp.diagonal(jnp.asarray(signals.gram))
        grads = signals.grads
        return jnp.stack([_products.norm(grads[name]) ** 2 for name in sorted(grads)])

    def update(
        signals: _types.Signals, state: ClipHeadsState
    ) -> tuple[_types.Decision, ClipHeadsState]:
        square = squares(signals).astype(jnp.float32)
        norm = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        scales = jnp.where(square > 0, jnp.minimum(1.0, max_norm / norm), 1.0)
        shown = signals
        if signals.gram is not None:
            gram = jnp.asarray(signals.gram)
            both = (scales[:, None] * scales[None, :]).astype(gram.dtype)
            shown = shown._replace(gram=gram * both)
        if signals.grads is not None:
            grads = {
                name: _directions.scaled(scales[h], signals.grads[name])
                for h, name in enumerate(sorted(signals.grads))
            }
            shown = shown._replace(grads=grads)
        decision, inner = balancer.update(shown, state.inner)
        # What is known of an absent head stands still; of one that is not asked about,
        # since it shares nothing, the gramian tells.
        known = _signals.presence(signals)
        if signals.asked is not None:
            known = known | ~signals.asked
        kept = jnp.where(known, scales, state.scales)
        weights = decision.weights * scales.astype(decision.weights.dtype)
        new = ClipHeadsState(state.names, inner, kept)
        return decision._replace(weights=weights), new

    def alone(state: ClipHeadsState) -> Array:
        return state.scales * _wrapped.alone(balancer, state)

    return _wrapped.wrapped(
        "clip_heads",
        balancer,
        init,
        update,
        needs="grads" if balancer.needs == "grads" else "gramian",
        due=None,
        static=False,
        together=balancer.together or balancer.needs == "values",
        alone=alone,
    )
