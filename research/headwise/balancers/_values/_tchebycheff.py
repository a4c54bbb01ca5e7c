"""Tchebycheff scalarisation: the worst head counts."""

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._values import _derivatives
from headwise.typing import Array


def tchebycheff(
    preferences: _named.Given = None,
    reference: _named.Given = None,
    modified: bool = False,
) -> _types.Balancer:
    """The worst head alone: largest preferred distance from a reference.

    ::

        total = max_h p_h (value_h - z_h)

    The weight of the worst head is its p, all others are 0; heads that tie share it
    equally (the mean of their subgradients).

    Args:
        preferences: {name: scalar >= 0}, one for every head; None means 1 / H each.
        reference: {name: scalar}, one for every head: z, the values that count as
            ideal; None means 0.
        modified: divide by p in place of multiplying: the solution then lies on the ray
            from z along p. A preference of 0 leaves its head out.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: a preference is negative; `init` gets other names.
        TypeError: `modified` is not a bool.

    Example:
        >>> balancer = hw.balancers.tchebycheff({"a": 1.0, "b": 3.0})
        >>> signals = hw.Signals(values=jnp.array([2.0, 1.0]))  # 1 * 2 < 3 * 1
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)
        [0. 3.]

    References:
        Miettinen, "Nonlinear multiobjective optimization", 1999, section 3.4. LibMOON's
        `tche` returns value_h of the worst head without its preference.
    """
    _named.check("preferences", preferences, _checks.nonnegative)
    _checks.boolean("modified", modified)

    def worst(values: Array, wanted: Array, z: Array, present: Array) -> Array:
        counted = present
        if modified:
            counted = present & (wanted > 0)
            wanted = _numerics.safe_divide(jnp.ones_like(wanted), wanted, 0.0)
        return _masked.highest(wanted * (values - z), counted)

    return _derivatives.build("tchebycheff", worst, preferences, reference)
