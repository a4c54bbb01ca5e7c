"""A norm of the values, between their sum and their largest."""

import math

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._values import _derivatives
from headwise.typing import Array


def p_norm(p: float, preferences: _named.Given = None) -> _types.Balancer:
    """The p-norm of the values: their sum at p = 1, their largest as p grows.

    ::

        total = (Σ (p_h value_h)^p)^(1/p),   weight_h = p_h (p_h value_h / total)^(p-1)

    The weights do not depend on a common scale of the values; Σ weight · value is the
    norm. A value that is not positive has no power: its head is added to the norm of
    the others, with weight p_h.

    Args:
        p: at least 1.
        preferences: {name: scalar >= 0}, one for every head; None means 1 / H each.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: p < 1; `init` gets other names than `preferences`.

    Example:
        >>> balancer = hw.balancers.p_norm(2.0, {"a": 1.0, "b": 1.0})
        >>> signals = hw.Signals(values=jnp.array([3.0, 4.0]))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # value / 5
        [0.6 0.8]

    References:
        Zeleny, "Compromise programming", in Multiple criteria decision making, 1973;
        LibMOON's `PNorm` has p = 2.
    """
    _checks.in_range("p", p, "a number >= 1", lambda x: 1 <= x < math.inf)
    _named.check("preferences", preferences, _checks.nonnegative)

    def norm(values: Array, wanted: Array, _: Array, present: Array) -> Array:
        counted = present & (values > 0)
        plain = _masked.total(wanted * values, present & ~counted)
        x = wanted * _masked.positive(jnp.where(counted, values, 1.0))
        x = _masked.zero_absent(x, counted)
        largest = jax.lax.stop_gradient(jnp.max(x))
        largest = jnp.where(largest > 0, largest, 1.0)
        unit = x / largest
        powers = _masked.total(unit**p, counted & (unit > 0))
        powers = jnp.where(powers > 0, powers, 1.0)
        return largest * powers ** (1.0 / p) + plain

    return _derivatives.build("p_norm", norm, preferences)
