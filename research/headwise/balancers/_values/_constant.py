"""Static weights: what Keras' `loss_weights` are."""

from collections.abc import Sequence
from typing import NamedTuple

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class ConstantState(NamedTuple):
    """The weights. They are data: a sweep varies them without a recompile."""

    weights: Array
    """[H]"""


ConstantState.settings = ("weights",)  # type: ignore[attr-defined]


def constant(weights: _named.Given = None) -> _types.Balancer:
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
    _named.check("weights", weights)

    def init(names: Sequence[str], params: PyTree = None) -> ConstantState:
        del params
        names = _checks.head_names("constant: names", names)
        return ConstantState(_named.row("weights", weights, names, 1.0))

    def update(
        signals: _types.Signals, state: ConstantState
    ) -> tuple[_types.Decision, ConstantState]:
        _signals.check_heads("constant", state.weights.shape[0], signals)
        present = _signals.presence(signals)
        return _types.Decision(_masked.zero_absent(state.weights, present)), state

    return _types.Balancer(init, update)
