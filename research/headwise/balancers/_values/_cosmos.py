"""COSMOS: a weighted sum, and the angle to the preferences."""

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._core import _vectors
from headwise.balancers._values import _derivatives
from headwise.typing import Array


def cosmos(penalty: float, preferences: _named.Given = None) -> _types.Balancer:
    """COSMOS: a weighted sum, less the cosine between the values and the preferences.

    ::

        total = Σ p_h value_h - penalty cos(values, p)

    The scale is that of p for the sum; the other part grows as 1 / |values|, and makes
    weights negative where it wins; they stop at ±1e6. Values that are all 0 have cosine
    0.

    Args:
        penalty: >= 0; the paper's λ, 1 to 8 there.
        preferences: {name: scalar >= 0}, one for every head; None means 1 / H each.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: penalty < 0; `init` gets other names than `preferences`.

    Example:
        >>> balancer = hw.balancers.cosmos(5.0, {"a": 1.0, "b": 0.0})
        >>> signals = hw.Signals(values=jnp.array([0.0, 2.0]))  # b alone, cosine 0
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # 1 - 5 / |values|
        [-1.5  0. ]

    References:
        Ruchte and Grabocka, "Scalable Pareto front approximation for deep
        multi-objective learning", ICDM 2021, section on the cosine penalty. There the
        model is shown the preferences too; here it is the objective alone.
    """
    _checks.nonnegative("penalty", penalty)
    _named.check("preferences", preferences, _checks.nonnegative)

    def angle(values: Array, wanted: Array, _: Array, present: Array) -> Array:
        wanted = _masked.zero_absent(wanted, present)
        values = _masked.zero_absent(values, present)
        cosine = jnp.sum(_vectors.unit_vector(values) * _vectors.unit_vector(wanted))
        return jnp.sum(wanted * values) - penalty * cosine

    return _derivatives.build("cosmos", angle, preferences, limit=_masked.LARGEST)
