"""PCD: one head comes first, the others must not lose."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import solvers
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("primary")
class PcdState(NamedTuple):
    """Running averages of the squared lengths of the gradients."""

    names: _types.Names
    squared: Array
    """[H]"""
    updates: Array
    """[H] int32, gradients averaged so far."""
    primary: Array
    """[H] bool, True for the head that comes first."""


def pcd(
    primary: str, margin: float | Array = 0.02, decay: float | Array = 0.999
) -> _types.Balancer:
    """Primary-constrained descent: the gradient of one head, bent for the others.

    With gradients divided by the root of their running mean square, g̃ = s g::

        d̃ = argmin_d |d - g̃_0|²  subject to  <g̃_h, d> >= τ |g̃_h|² for the others
        direction = d̃ |g_0| / |d̃|

    Args:
        primary: name of the head that comes first.
        margin: τ, in [0, 1].
        decay: of the running mean squares, in [0, 1).

    Returns:
        A balancer that needs the gramian. The direction is as long as the primary
        head's gradient. Where the constraints cannot be met, and for one head: that
        gradient itself. Where the primary head is absent or its gradient is zero: 0.
        Heads that share no parameter with it, not even through others, have weight 1.

    Raises:
        ValueError: `init` gets no head of that name; a number is out of its range.
        TypeError: `primary` is no name.

    Example:
        >>> balancer = hw.balancers.pcd("a")
        >>> gram = jnp.array([[1.0, 0.5], [0.5, 1.0]])            # nothing to mend
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)
        [1. 0.]

    References:
        The aggregator PCD of TorchJD 0.18 (TMLR 2026), whose 1e-8 beside the mean
        square is left out: it would tie the answer to the unit of the losses.
    """
    _checks.head_names("primary", [primary])
    _checks.fraction("margin", margin)
    _checks.below_one("decay", decay)

    def init(names: Sequence[str], params: PyTree = None) -> PcdState:
        del params
        names = _types.Names(names, "pcd")
        _checks.known_names("primary", names, [primary])
        return PcdState(
            names,
            jnp.zeros(len(names), jnp.float32),
            jnp.zeros(len(names), jnp.int32),
            jnp.array([name == primary for name in names]),
        )

    def update(
        signals: _types.Signals, state: PcdState
    ) -> tuple[_types.Decision, PcdState]:
        _signals.require("pcd", signals, "gram")
        _signals.check_heads("pcd", state, signals)
        present = _signals.presence(signals)
        gram = _signals.present_gram(signals, present)
        first = state.primary
        now = jnp.diagonal(gram).astype(state.squared.dtype)
        begun = jnp.where(
            state.updates > 0, decay * state.squared + (1 - decay) * now, now
        )
        squared = jnp.where(present, begun, state.squared)
        size = jnp.sqrt(squared).astype(gram.dtype)
        rows = (present & (size > 0))[:, None]
        size = jnp.where(size > 0, size, 1.0)
        unit = (gram / size[:, None]) / size[None, :]
        unit = jnp.where(rows & rows.T, unit, 0.0)
        dot = jnp.matmul
        precise = jax.lax.Precision.HIGHEST
        begin = first.astype(gram.dtype)
        others = (present & ~first)[:, None]
        lengths = jnp.diagonal(unit)
        wanted = margin * lengths - dot(unit, begin, precision=precise)
        among = jnp.where(others & others.T, unit, 0.0)
        lifted = solvers.nonnegative_qp(among, jnp.where(others[:, 0], wanted, 0.0))
        mixed = begin + lifted
        along = dot(unit, mixed, precision=precise)
        # Constraints that contradict each other: the answer grows without bound.
        noise = 1e-3 * jnp.maximum(lengths, 1e-3)
        met = jnp.all(~others[:, 0] | (along >= margin * lengths - noise))
        own = jnp.sum(jnp.where(first, jnp.diagonal(unit), 0.0))
        norm = jnp.sqrt(jnp.maximum(jnp.sum(mixed * along), 0.0))
        met = met & (norm > 1e-3 * jnp.sqrt(own))
        mixed = jnp.where(met, mixed, begin)
        norm = jnp.where(met, norm, jnp.sqrt(own))
        least = jnp.sum(jnp.where(first, size, 0.0))
        # |g_0| = √own * size_0.
        factor = _numerics.safe_divide(jnp.sqrt(own), norm, 0.0)
        weights = mixed * factor * (least / size)
        sound = jnp.any(first & present) & (own > 0)
        weights = jnp.where(present & sound, weights, 0.0)
        if signals.asked is not None:
            # Of heads that share nothing with the primary one it has nothing to say.
            related = jnp.any(first & signals.asked)
            weights = jnp.where(related, weights, present.astype(weights.dtype))
        updates = _masked.counted_on(state.updates, present)
        new = state._replace(squared=squared, updates=updates)
        return _types.Decision(weights), new

    return _types.Balancer(init, update, "gramian")
