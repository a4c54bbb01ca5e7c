"""MoCo: tracked gradients, and weights that descend on their combined norm."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import solvers
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._gradients import _rows
from headwise.typing import Array
from headwise.typing import PyTree


class MocoState(NamedTuple):
    """The tracked gradients and the weights."""

    names: _types.Names
    tracked: PyTree
    """Like the parameters, with a leading axis of heads, at least float32."""
    weights: Array
    """[H], on the simplex."""
    counts: Array
    """[H] int32, updates in which each head was there."""
    updates: Array
    """int32, number of updates done."""


def moco(
    beta: float | Array = 0.5,
    gamma: float | Array = 0.1,
    rho: float | Array = 0.0,
    beta_decay: float | Array = 0.5,
    gamma_decay: float | Array = 0.5,
    *,
    normalized: bool = False,
    softmax: bool = False,
) -> _types.Balancer:
    """Multi-objective gradient with correction: averages in place of noisy gradients.

    ::

        y_h <- y_h - β_k (y_h - g_h),   β_k = beta / k^beta_decay,   y = 0 at the start
        w   <- Π(w - γ_k (Y Yᵀ + ρ I) w),   γ_k = gamma / k^gamma_decay,   w = 1 / H
        direction = Σ w_h y_h

    with Π the projection on the simplex and Y the rows y. The tracked gradients take
    out the bias that a solver's weights have on noisy ones. The inner products are over
    all parameters, private ones too. The step of w depends on the gradients' scale.

    Args:
        beta: in (0, 1], step of the tracked gradients.
        gamma: > 0, step of the weights.
        rho: >= 0, pulls the weights together.
        beta_decay: >= 0.
        gamma_decay: >= 0.
        normalized: track g_h value_h / |g_h| in place of g_h (LibMTL); a value that is
            not positive counts as 1.
        softmax: Π is a softmax (LibMTL), which draws the weights to equal ones.

    Returns:
        A balancer that needs the gradients, and params in `init`: it keeps H gradients.
        `weights` are those of the tracked gradients. An absent head keeps its tracked
        gradient and its part of the weights, and is counted on (k) by itself.

    Raises:
        ValueError: a number is out of its range; `init` gets no params.
        TypeError: `normalized` or `softmax` is not a bool.

    Example:
        >>> balancer = hw.balancers.moco(beta=0.5, gamma=1.0)
        >>> grads = {"a": jnp.array([2.0, 0.0]), "b": jnp.array([0.0, 1.0])}
        >>> signals = hw.Signals(values=jnp.ones(2), grads=grads)
        >>> state = balancer.init(["a", "b"], jnp.zeros(2))
        >>> decision, _ = balancer.update(signals, state)  # y = [1, 0] and [0, 1/2]
        >>> print(decision.weights)  # [1/2, 1/2] - [1/2, 1/8], projected
        [0.3125 0.6875]
        >>> print(decision.direction)
        [0.3125  0.34375]

    References:
        Fernando et al., "Mitigating gradient bias in multi-objective learning: a
        provably convergent approach", ICLR 2023, algorithm 1. Here, as in LibMTL, w
        and the direction use the y of the same step.
    """
    _checks.in_range("beta", beta, "a number in (0, 1]", lambda x: 0 < x <= 1)
    _checks.positive("gamma", gamma)
    _checks.nonnegative("rho", rho)
    _checks.nonnegative("beta_decay", beta_decay)
    _checks.nonnegative("gamma_decay", gamma_decay)
    _checks.boolean("normalized", normalized)
    _checks.boolean("softmax", softmax)

    def init(names: Sequence[str], params: PyTree = None) -> MocoState:
        names = _types.Names(names, "moco")
        heads = len(names)
        return MocoState(
            names,
            _rows.zeros_like("moco", heads, params),
            jnp.full(heads, 1.0 / heads, jnp.float32),
            jnp.zeros(heads, jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    def update(
        signals: _types.Signals, state: MocoState
    ) -> tuple[_types.Decision, MocoState]:
        _signals.require("moco", signals, "grads")
        _signals.check_heads("moco", state, signals)
        _rows.check_like("moco", state.tracked, signals)
        present = _signals.usable(signals)
        fresh = _rows.stacked(signals, present)
        if normalized:
            values = jnp.asarray(signals.values, jnp.float32)
            values = jnp.where(present & (values > 0), values, 1.0)
            fresh = _rows.scaled(
                _numerics.safe_divide(values, _rows.lengths(fresh), 0.0), fresh
            )
        counts = _masked.counted_on(state.counts, present)
        updates = _masked.counted_on(state.updates, jnp.any(present))
        step = beta / jnp.maximum(counts, 1).astype(jnp.float32) ** beta_decay
        tracked = _rows.averaged(present, step, fresh, state.tracked)
        # The heads that are there share what they have of the weights.
        mass = _masked.total(state.weights, present)
        equal = _masked.normalized(jnp.ones_like(state.weights), present)
        share = _masked.normalized(state.weights, present)
        share = jnp.where(mass > 0, share, equal)
        gram = _rows.gram(tracked)
        pull = jnp.matmul(gram, share.astype(gram.dtype), precision="highest")
        pull = pull.astype(jnp.float32) + rho * share
        rate = gamma / jnp.maximum(updates, 1).astype(jnp.float32) ** gamma_decay
        point = share - rate * pull
        if softmax:
            share = _masked.softmax(point, present)
        else:
            share = solvers.project_simplex(point, present)
        direction = _rows.combined(share, tracked, signals)
        weights = jnp.where(present, share * mass, state.weights)
        new = MocoState(state.names, tracked, weights, counts, updates)
        return _types.Decision(share, direction), new

    return _types.Balancer(init, update, "grads")
