"""ExcessMTL: more weight for heads that are further from their optimum."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _directions
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._gradients import _rows
from headwise.typing import Array
from headwise.typing import PyTree

_LARGEST = 1e9
"""A relative excess above it counts as this."""


class ExcessMtlState(NamedTuple):
    """What the heads' gradients were so far, and the weights."""

    names: _types.Names
    roots: PyTree
    """Like the parameters, with a leading axis of heads: √ of the sum of squares."""
    baseline: Array
    """[H], sum of the excesses of the warm-up."""
    counts: Array
    """[H] int32, how many there are in that sum."""
    logits: Array
    """[H], logs of the weights; the weights sum to 1 here."""


def excess_mtl(step: float | Array = 1e-2, warm_up: int = 1) -> _types.Balancer:
    """Robust weights by the excess risk, estimated by a diagonal second-order model.

    ::

        s_h <- s_h + g_h²,   e_h = Σ_coordinates g_h² / √s_h
        w_h <- w_h exp(step * e_h / e_h at the start), then scaled to sum H
        direction = Σ w_h g_h

    The excess is how far a value is above what the head could reach, so that noisy
    heads, whose values stay high, do not take all the weight. The sums are over all
    parameters, private ones too.

    Args:
        step: > 0, of the exponentiated gradient (the paper's η).
        warm_up: the mean excess of so many first updates is the start; the weights are
            equal meanwhile. 1: that of the first one, as in LibMTL; the paper takes
            three epochs.

    Returns:
        A balancer that needs the gradients, and params in `init`: it keeps H gradients.
        The weights sum to the number of present heads. An absent head keeps its part
        of the weights. A head whose gradients are all zero has no start yet: it counts
        as unchanged.

    Raises:
        ValueError: a number is out of its range; `init` gets no params.

    Example:
        >>> balancer = hw.balancers.excess_mtl(step=1.0)
        >>> state = balancer.init(["a", "b"], jnp.zeros(1))
        >>> for a in (4.0, 3.0):  # excess of a: 16 / 4, then 9 / 5; of b: 1, 1 / √2
        ...     grads = {"a": jnp.array([a]), "b": jnp.array([1.0])}
        ...     signals = hw.Signals(values=jnp.ones(2), grads=grads)
        ...     decision, state = balancer.update(signals, state)
        ...     print(np.asarray(decision.weights).round(4))  # 2 softmax(0.45, 0.7071)
        [1. 1.]
        [0.8722 1.1278]

    References:
        He et al., "Robust multi-task learning with excess risks", ICML 2024, equations
        6, 7 and 9. The peers add 1e-7 under the root, which matters for gradients of
        that size; TorchJD without warm-up takes the raw excess in the first update, and
        its weights sum to 1.
    """
    _checks.positive("step", step)
    _checks.positive_int("warm_up", warm_up)

    def init(names: Sequence[str], params: PyTree = None) -> ExcessMtlState:
        names = _types.Names(names, "excess_mtl")
        heads = len(names)
        return ExcessMtlState(
            names,
            _rows.zeros_like("excess_mtl", heads, params),
            jnp.zeros(heads, jnp.float32),
            jnp.zeros(heads, jnp.int32),
            jnp.full(heads, -math.log(heads), jnp.float32),
        )

    def update(
        signals: _types.Signals, state: ExcessMtlState
    ) -> tuple[_types.Decision, ExcessMtlState]:
        _signals.require("excess_mtl", signals, "grads")
        _signals.check_heads("excess_mtl", state, signals)
        _rows.check_like("excess_mtl", state.roots, signals)
        present = _signals.usable(signals)
        fresh = _rows.stacked(signals, present)
        # The root of the sum is kept: no square leaves float32.
        roots = jax.tree.map(
            lambda s, g: jnp.hypot(s, g.astype(s.dtype)), state.roots, fresh
        )
        excess = _excess(fresh, roots).astype(jnp.float32)
        counted = present & (excess > 0) & (state.counts < warm_up)
        baseline = state.baseline + jnp.where(counted, excess, 0.0)
        counts = _masked.counted_on(state.counts, counted)
        start = baseline / jnp.maximum(counts, 1).astype(jnp.float32)
        settled = state.counts >= warm_up
        ratio = jnp.minimum(_numerics.safe_divide(excess, start, 1.0), _LARGEST)
        ratio = jnp.where(settled, ratio, 1.0)
        moved = jnp.maximum(state.logits + step * ratio, -_LARGEST)
        # The heads that are there share what they have of the weights.
        mass = _masked.log_sum_exp(state.logits, present)
        moved = moved - _masked.log_sum_exp(moved, present) + mass
        logits = jnp.where(present, moved, state.logits)
        weights = _masked.count(present) * _masked.softmax(logits, present)
        direction = _directions.weighted_sum(weights, signals)
        new = ExcessMtlState(state.names, roots, baseline, counts, logits)
        return _types.Decision(weights, direction), new

    return _types.Balancer(init, update, "grads")


def _excess(fresh: PyTree, roots: PyTree) -> Array:
    """[H] Σ g² / root."""

    def leaf(g: Array, s: Array) -> Array:
        share = _numerics.safe_divide(g, s.astype(g.dtype), 0.0)
        return jnp.sum(g * share, axis=tuple(range(1, g.ndim)))

    return jax.tree.reduce(jnp.add, jax.tree.map(leaf, fresh, roots))
