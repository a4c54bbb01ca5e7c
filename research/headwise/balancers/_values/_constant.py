"""Static weights: what Keras' `loss_weights` are."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("weights")
class ConstantState(NamedTuple):
    """The weights. They are data: a sweep varies them without a recompile."""

    names: _types.Names
    weights: Array
    """[H]"""


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
        TypeError: a weight is a schedule, which `scheduled` takes.

    Example:
        >>> balancer = hw.balancers.constant({"y1": 0.5, "y2": 0.3})
        >>> print(balancer.init(["y2", "y1"]).weights)            # in sorted order
        [0.5 0.3]
    """
    _named.check("weights", weights, _no_schedule)

    def init(names: Sequence[str], params: PyTree = None) -> ConstantState:
        del params
        names = _types.Names(names, "constant")
        return ConstantState(names, _named.row("weights", weights, names, 1.0))

    def update(
        signals: _types.Signals, state: ConstantState
    ) -> tuple[_types.Decision, ConstantState]:
        _signals.check_heads("constant", state, signals)
        present = _signals.presence(signals)
        return _types.Decision(_masked.zero_absent(state.weights, present)), state

    return _types.Balancer(init, update, static=True)


def _no_schedule(argument: str, got: Any) -> None:
    if callable(got):
        raise TypeError(
            f"{argument}: expected a scalar, got a callable: schedules of the step "
            "go to hw.balancers.scheduled"
        )
