"""GradNorm: weights that make the weighted gradients alike in length."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _masked
from headwise.balancers._core import _optimizer
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class GradNormState(NamedTuple):
    """Learned weights, and the values at the start."""

    names: _types.Names
    weights: Array
    """[H], for the next step."""
    initial: Array
    """[H], the first value that was seen; 0 before."""
    optimizer: Any


def gradnorm(
    alpha: float | Array = 1.5,
    optimizer: optax.GradientTransformation | None = None,
) -> _types.Balancer:
    """Gradient normalisation: heads that learn slower get longer gradients.

    With the norms G_h = w_h |g_h|, their mean Ḡ, and r_h the value relative to the
    first, divided by its mean over heads, w goes down the derivative of ::

        Σ |G_h - Ḡ r_h^α|,    the target Ḡ r_h^α held fixed

    and is rescaled to sum to H; the slope is in units of the mean norm, so that
    the optimiser's step has none. The norms are those of the gramian: give `wrt`, a
    predicate for the last shared layer, to `hw.balanced_grad` or
    `hw.training.make_step` for the paper's choice; by default all shared parameters
    count, as in LibMTL.

    Args:
        alpha: >= 0, strength of the pull towards equal training rates: 1.5 in the paper
            for dense prediction, 0.12 for alike heads.
        optimizer: of w; None means `optax.adam(0.025)`, the paper's.

    Returns:
        A balancer that needs the gramian. The weights sum to the number of heads and
        are at least 1e-3 of their mean. The step uses the weights from before the
        update, 1 each in the first. A head whose value is not positive has the mean
        rate: r = 1.

    Raises:
        ValueError: alpha < 0.
        TypeError: `optimizer` is not one of optax.

    Example:
        >>> balancer = hw.balancers.gradnorm(optimizer=optax.sgd(0.1))
        >>> gram = jnp.array([[9.0, 0.0], [0.0, 1.0]])          # norms 3 and 1, mean 2
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> _, state = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(state.weights).round(4))  # of 0.85 and 1.05
        [0.8947 1.1053]

    References:
        Chen et al., "GradNorm: gradient normalization for adaptive loss balancing in
        deep multitask networks", ICML 2018, equation 2 and algorithm 1.
    """
    _checks.nonnegative("alpha", alpha)
    optimizer = _optimizer.given_or(optimizer, optax.adam(0.025))

    def init(names: Sequence[str], params: PyTree = None) -> GradNormState:
        del params
        names = _types.Names(names, "gradnorm")
        ones = jnp.ones(len(names), jnp.float32)
        return GradNormState(names, ones, jnp.zeros_like(ones), optimizer.init(ones))

    def rescaled(weights: Array, present: Array) -> Array:
        """Sums to H over all; the present ones keep what they have together."""
        count = jnp.maximum(_masked.count(present), 1.0)
        known = jnp.where(present, weights, 0.0)
        least = 1e-3 * jnp.sum(jnp.maximum(known, 0.0)) / count
        floored = jnp.where(present, jnp.maximum(weights, least), 0.0)
        total = jnp.broadcast_to(jnp.sum(floored), weights.shape)
        scaled = _numerics.safe_divide(floored * count, total, 1.0)
        return jnp.where(present, scaled, weights)

    def update(
        signals: _types.Signals, state: GradNormState
    ) -> tuple[_types.Decision, GradNormState]:
        _signals.require("gradnorm", signals, "gram")
        _signals.check_heads("gradnorm", state, signals)
        present = _signals.presence(signals)
        gram = _signals.present_gram(signals, present)
        weights = rescaled(state.weights, present)
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0)).astype(jnp.float32)
        values = jnp.asarray(signals.values, jnp.float32)
        # Those that have a rate.
        counted = present & (values > 0)
        values = _masked.positive(jnp.where(counted, values, 1.0))
        initial = jnp.where(counted & (state.initial == 0), values, state.initial)
        # In logarithms: no ratio leaves the range of float32.
        logs = jnp.log(values) - jnp.log(jnp.where(initial > 0, initial, 1.0))
        many = jnp.maximum(_masked.count(counted), 1.0)
        mean_log = _masked.log_sum_exp(logs, counted) - jnp.log(many)
        rate = jnp.where(counted, logs - mean_log, 0.0)
        count = jnp.maximum(_masked.count(present), 1.0)
        lengths = jnp.where(present, weights * norms, 0.0)
        target = jnp.sum(lengths) / count * jnp.exp(jnp.clip(alpha * rate, -80, 80))
        mean = jnp.sum(jnp.where(present, norms, 0.0)) / count
        unit = _numerics.safe_divide(norms, jnp.broadcast_to(mean, norms.shape), 0.0)
        slope = jnp.where(present, jnp.sign(lengths - target) * unit, 0.0)
        new, moved = _optimizer.descend(
            optimizer, slope, state.weights, state.optimizer, present
        )
        new = rescaled(new, present)
        decision = _types.Decision(jnp.where(present, weights, 0.0))
        return decision, GradNormState(state.names, new, initial, moved)

    return _types.Balancer(init, update, "gramian")
