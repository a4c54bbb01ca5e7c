"""A gradient-based balancer that is refreshed only now and then."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._wrappers import _wrapped
from headwise.typing import Array
from headwise.typing import PyTree


class EveryState(NamedTuple):
    """The inner state and the weights of the last refresh."""

    names: _types.Names
    inner: Any
    weights: Array
    """[H]"""
    updates: Array
    """int32, number of updates done."""


def every(k: int, balancer: _types.Balancer) -> _types.Balancer:
    """Asks a balancer for weights every k steps and keeps them in between.

    In a step between two refreshes `hw.balanced_grad` runs a plain weighted backward
    pass, chosen inside the compiled program (`lax.cond`), so that a balancer that
    needs a gramian of H heads costs (H - 1) / k backward passes a step more than
    static weights. Under `jax.vmap` both branches run.

    On CPU, XLA runs a convolution inside a branch many times slower than outside;
    `hw.nn.matmul_convolution` is free of that. A program with both branches also asks
    for more memory than either: where that crosses 32 MiB, glibc gives it back to the
    system after every step (a transformer between refreshes: 31 ms in place of 19);
    docs/guides/head_gradients.md has the settings that keep it.

    Args:
        k: a refresh at updates 0, k, 2k and so on.
        balancer: one that answers with weights, not with a direction.

    Returns:
        A balancer with the same needs. An absent head has weight 0 at any step; one
        that was absent at the last refresh keeps weight 0 until the next.

    Raises:
        ValueError: `k` is no int >= 1; the balancer answers with a direction.
        TypeError: `balancer` is none.

    Example:
        >>> balancer = hw.balancers.every(2, hw.balancers.mgda())
        >>> state = balancer.init(["a", "b"])
        >>> gram = jnp.array([[1.0, 0.0], [0.0, 3.0]])       # weights 3/4 and 1/4
        >>> for gram in (gram, None):
        ...     signals = hw.Signals(jnp.ones(2), gram)
        ...     print(bool(balancer.due(state)), end=" ")
        ...     decision, state = balancer.update(signals, state)
        ...     print([round(float(w), 3) for w in decision.weights])
        True [0.75, 0.25]
        False [0.75, 0.25]

    References:
        Navon et al., "Multi-task learning as a bargaining game", ICML 2022, section 5,
        updates weights every few steps; the trick is common with MGDA-like methods.
    """
    k = _checks.positive_int("k", k)
    _checks.balancer("balancer", balancer)

    def init(names: Sequence[str], params: PyTree = None) -> EveryState:
        names = _types.Names(names, "every")
        return EveryState(
            names,
            balancer.init(names, params),
            jnp.zeros(len(names), jnp.float32),
            jnp.zeros((), jnp.int32),
        )

    def due(state: EveryState) -> Array:
        return state.updates % k == 0

    def update(
        signals: _types.Signals, state: EveryState
    ) -> tuple[_types.Decision, EveryState]:
        inner, weights = state.inner, state.weights
        missing = {"gramian": signals.gram, "grads": signals.grads}
        if missing.get(balancer.needs, signals.values) is not None:
            decision, fresh = balancer.update(signals, inner)
            now, new = due(state), _wrapped.weights_of("every", decision)
            weights = jnp.where(now, new.astype(weights.dtype), weights)
            inner = _wrapped.chosen(now, fresh, inner)
        shown = _masked.zero_absent(weights, _signals.presence(signals))
        kept = EveryState(state.names, inner, weights, state.updates + 1)
        return _types.Decision(shown), kept

    def after(values: Array, state: EveryState) -> EveryState:
        assert balancer.after is not None
        fresh = balancer.after(values, state.inner)
        # The update that it belongs to is counted already.
        now = (state.updates - 1) % k == 0
        return state._replace(inner=_wrapped.chosen(now, fresh, state.inner))

    after_or_none = None if balancer.after is None else after
    return _wrapped.wrapped(
        "every", balancer, init, update, due=due, after=after_or_none
    )
