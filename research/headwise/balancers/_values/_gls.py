"""GLS: the geometric mean of the values."""

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._values import _derivatives
from headwise.typing import Array


def gls(preferences: _named.Given = None) -> _types.Balancer:
    """Geometric loss strategy: the geometric mean of the values.

    ::

        total = exp(Σ p_h log value_h / Σ p_h),   weight_h = p_h total / (Σ p value_h)

    in logs, so that no product leaves float32. Multiplying one head's value by a
    constant changes nothing but the overall scale. Σ weight · value is the mean itself:
    the weights have no fixed sum. A value that is not positive has no logarithm: its
    head has the weight of a plain mean, p_h / Σ p, and the mean of the others counts
    for their part of Σ p.

    Args:
        preferences: {name: scalar >= 0}, one for every head, for a weighted mean, which
            is not in the paper; None means the same for all.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: a preference is negative; `init` gets other names.

    Example:
        >>> balancer = hw.balancers.gls()
        >>> signals = hw.Signals(values=jnp.array([1.0, 2.0, 4.0]))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b", "c"]))
        >>> print(np.asarray(decision.weights * 3).round(4))  # 2 / value
        [2.  1.  0.5]

    References:
        Chennupati et al., "MultiNet++: multi-stream feature aggregation and geometric
        loss strategy for multi-task learning", CVPR workshops 2019, section on GLS.
        LibMTL computes the same gradient, but logs weights that are not those.
    """
    _named.check("preferences", preferences, _checks.nonnegative)

    def mean(values: Array, wanted: Array, _: Array, present: Array) -> Array:
        counted = present & (values > 0)
        part = _masked.normalized(wanted, present)
        share = _masked.normalized(wanted, counted)
        logs = jnp.log(_masked.positive(jnp.where(counted, values, 1.0)))
        geometric = jnp.exp(_masked.total(share * logs, counted))
        plain = _masked.total(part * values, present & ~counted)
        return _masked.total(part, counted) * geometric + plain

    return _derivatives.build("gls", mean, preferences)
