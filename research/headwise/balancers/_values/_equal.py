"""Weights of 1: the sum of the values."""

from headwise.balancers._core import _types
from headwise.balancers._values import _constant


def equal() -> _types.Balancer:
    """Every head has weight 1: total = Σ value_h (a sum, not a mean).

    Also where an `hw.Objective` has weights: a step without a balancer takes these.

    Example:
        >>> print(hw.balancers.equal().init(["a", "b", "c"]).weights)
        [1. 1. 1.]
    """
    return _constant.static("equal", None)
