"""DB-MTL: balanced values by their logs, balanced gradients by their lengths."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._gradients import _rows
from headwise.typing import Array
from headwise.typing import PyTree


class DbMtlState(NamedTuple):
    """The averaged gradients of the logs."""

    names: _types.Names
    averages: PyTree
    """Like the parameters, with a leading axis of heads, at least float32."""
    counts: Array
    """[H] int32, updates in which each head was there."""


def db_mtl(
    beta: float | Array = 0.9,
    decay: float | Array = 0.0,
    epsilon: float | Array = 1e-8,
) -> _types.Balancer:
    """Dual balancing: gradients of the logs, averaged, all as long as the longest.

    ::

        m_h <- β_k m_h + (1 - β_k) g_h / (value_h + ε),   β_k = beta / k^decay,  m_0 = 0
        direction = Σ_h m_h max_j |m_j| / |m_h|

    The log takes the unit out of the values, the lengths take it out of the gradients.
    The lengths are over all parameters, private ones too.

    Args:
        beta: in [0, 1), share of the past; 0 keeps none.
        decay: >= 0, how fast that share falls with the number k of updates.
        epsilon: >= 0, added to the values, in their unit.

    Returns:
        A balancer that needs the gradients, and params in `init`: it keeps H gradients.
        `weights` are max |m| / |m_h| / (value_h + ε), the factors of averaged raw
        gradients. An absent head keeps its average and is counted on by itself. A
        value that is not positive has no logarithm and counts as 1.

    Raises:
        ValueError: a number is out of its range; `init` gets no params.

    Example:
        >>> balancer = hw.balancers.db_mtl(beta=0.0, epsilon=0.0)
        >>> grads = {"a": jnp.array([2.0, 0.0]), "b": jnp.array([0.0, 3.0])}
        >>> signals = hw.Signals(values=jnp.array([2.0, 1.0]), grads=grads)
        >>> state = balancer.init(["a", "b"], jnp.zeros(2))
        >>> decision, _ = balancer.update(signals, state)  # logs: [1, 0] and [0, 3]
        >>> print(decision.direction, decision.weights)
        [3. 3.] [1.5 1. ]

    References:
        Lin et al., "Dual-balancing for multi-task learning", arXiv:2308.12029,
        algorithm 1. LibMTL logs weights of 1, and adds 1e-8 to the lengths.
    """
    _checks.below_one("beta", beta)
    _checks.nonnegative("decay", decay)
    _checks.nonnegative("epsilon", epsilon)

    def init(names: Sequence[str], params: PyTree = None) -> DbMtlState:
        names = _types.Names(names, "db_mtl")
        heads = len(names)
        return DbMtlState(
            names,
            _rows.zeros_like("db_mtl", heads, params),
            jnp.zeros(heads, jnp.int32),
        )

    def update(
        signals: _types.Signals, state: DbMtlState
    ) -> tuple[_types.Decision, DbMtlState]:
        _signals.require("db_mtl", signals, "grads")
        _signals.check_heads("db_mtl", state, signals)
        _rows.check_like("db_mtl", state.averages, signals)
        present = _signals.usable(signals)
        values = jnp.asarray(signals.values, jnp.float32)
        values = jnp.where(present & (values > 0), values, 1.0) + epsilon
        inverse = 1.0 / jnp.maximum(values, _masked.LEAST)
        fresh = _rows.scaled(inverse, _rows.stacked(signals, present))
        counts = _masked.counted_on(state.counts, present)
        past = beta / jnp.maximum(counts, 1).astype(jnp.float32) ** decay
        averages = _rows.averaged(present, 1.0 - past, fresh, state.averages)
        lengths = jnp.where(present, _rows.lengths(averages), 0.0)
        longest = jnp.broadcast_to(jnp.max(lengths), lengths.shape)
        factors = _numerics.safe_divide(longest, lengths, 0.0).astype(jnp.float32)
        # Two products: the factors themselves may leave float32.
        unit = _rows.scaled(
            _numerics.safe_divide(jnp.ones_like(lengths), lengths, 0.0), averages
        )
        direction = _rows.combined(longest, unit, signals)
        # A zero gradient has no length to bring up; it takes part with any factor.
        factors = jnp.where(present & (lengths == 0), 1.0, factors)
        decision = _types.Decision(factors * inverse, direction)
        return decision, DbMtlState(state.names, averages, counts)

    return _types.Balancer(init, update, "grads")
