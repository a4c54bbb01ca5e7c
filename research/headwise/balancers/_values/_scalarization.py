"""A scalarisation of one's own: a function of all values."""

from collections.abc import Callable

from headwise import _checks
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._values import _derivatives
from headwise.typing import Array


def scalarization(
    function: Callable[[Array, Array, Array], Array],
    preferences: _named.Given = None,
) -> _types.Balancer:
    """Weights of a scalarised objective: its derivatives with respect to the values.

    ::

        total = f(values),   weight_h = ∂f / ∂value_h

    so that Σ weight · gradient is the gradient of f, at the cost of one backward
    pass. The scale is that of f. The weights are data: no second derivative flows.

    Args:
        function: `(values [H], preferences [H], present [H] of bool) -> scalar`, in
            float32 and sorted order of names. It must leave out heads that are not
            present; their value is shown as 1.
        preferences: {name: scalar}, one for every head; may be traced, and is taken as
            it is. None means 1 / H each, H being the number of heads present.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: `init` gets other names than `preferences`.
        TypeError: `function` is not a callable.

    Example:
        >>> def squares(values, preferences, present):
        ...     return jnp.sum(jnp.where(present, preferences * values**2, 0.0))
        >>> balancer = hw.balancers.scalarization(squares, {"a": 0.5, "b": 1.0})
        >>> signals = hw.Signals(values=jnp.array([3.0, 2.0]))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # 2 * preference * value
        [3. 4.]
    """
    _checks.takes("function", function, "values", "preferences", "present")

    def with_reference(
        values: Array, preferences: Array, reference: Array, present: Array
    ) -> Array:
        del reference
        return function(values, preferences, present)

    return _derivatives.build("scalarization", with_reference, preferences)
