"""Static weights: what Keras' `loss_weights` are."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


class ConstantState(NamedTuple):
    """The weights. They are data: a sweep varies them without a recompile."""

    weights: Array
    """[H]"""


def constant(weights: Mapping[str, float | Array] | None = None) -> _types.Balancer:
    """Static weights: total = Σ w_h value_h.

    The weights live in the state, so that one compiled step serves every weighting
    (each with its own state), also under `jax.vmap`.

    Args:
        weights: {name: scalar}, one for every head; may be traced. None means 1 each.

    Returns:
        A balancer that needs the values alone.

    Raises:
        ValueError: `init` gets other names; a weight is not a scalar.

    Example:
        >>> balancer = hw.balancers.constant({"y1": 0.5, "y2": 0.3})
        >>> print(balancer.init(["y2", "y1"]).weights)            # in sorted order
        [0.5 0.3]
    """
    if weights is not None:
        _checks.mapping("weights", weights)

    def init(names: Sequence[str], params: PyTree = None) -> ConstantState:
        del params
        names = _types.sorted_names("constant", names)
        if weights is None:
            return ConstantState(jnp.ones(len(names), jnp.float32))
        return ConstantState(_types.row("weights", weights, names))

    def update(
        signals: _types.Signals, state: ConstantState
    ) -> tuple[_types.Decision, ConstantState]:
        _types.check_heads("constant", state.weights.shape[0], signals)
        return _types.Decision(_types.zero_absent(state.weights, signals)), state

    return _types.Balancer(init, update)


def equal() -> _types.Balancer:
    """Every head has weight 1: total = Σ value_h (a sum, not a mean).

    Example:
        >>> print(hw.balancers.equal().init(["a", "b", "c"]).weights)
        [1. 1. 1.]
    """
    return constant()
