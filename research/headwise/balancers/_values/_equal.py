"""Weights of 1: the sum of the values."""

from collections.abc import Sequence

from headwise.balancers._core import _types
from headwise.balancers._values import _constant
from headwise.typing import PyTree


class EqualState(_constant.ConstantState):
    """Weights of 1, which nobody gave: a step without a balancer may have others."""

    by_default = True


def equal() -> _types.Balancer:
    """Every head has weight 1: total = Σ value_h (a sum, not a mean).

    Also where an `hw.Objective` has weights: a step without a balancer takes these.

    Example:
        >>> print(hw.balancers.equal().init(["a", "b", "c"]).weights)
        [1. 1. 1.]
    """
    ones = _constant.constant()

    def init(names: Sequence[str], params: PyTree = None) -> EqualState:
        return EqualState(*ones.init(names, params))

    return ones._replace(init=init)
