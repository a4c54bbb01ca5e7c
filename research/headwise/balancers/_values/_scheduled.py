"""Weights that follow a schedule of the step."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import Schedule


class ScheduledState(NamedTuple):
    """The weights of the last step, kept for the log; the schedules have no state."""

    names: _types.Names
    weights: Array
    """[H]"""


def scheduled(weights: Mapping[str, Schedule | float | Array]) -> _types.Balancer:
    """Weights from schedules: total at step t = Σ w_h(t) value_h.

    Args:
        weights: {name: schedule of the step, as optax's, or a scalar}, one for every
            head.

    Returns:
        A balancer that needs the values and the step.

    Raises:
        ValueError: `init` gets other names; the step is missing.
        TypeError: a weight is neither a schedule nor a number.

    Example:
        >>> ramp = optax.linear_schedule(0.0, 1.0, transition_steps=4)
        >>> balancer = hw.balancers.scheduled({"a": 2.0, "b": ramp})
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), step=3)
        >>> print(balancer.update(signals, balancer.init(["a", "b"]))[0].weights)
        [2.   0.75]
    """
    _checks.mapping("weights", weights)
    names = _checks.head_names("weights", weights)
    for name, weight in weights.items():
        if not callable(weight):
            _checks.scalar(f"weights[{name!r}]", weight)

    def at(step: Array | int) -> Array:
        # Schedules mix dtypes, as optimisers do.
        with jax.numpy_dtype_promotion("standard"):
            now = {n: w(step) if callable(w) else w for n, w in weights.items()}
        return _named.row("weights", now, names)

    def init(heads: Sequence[str], params: PyTree = None) -> ScheduledState:
        del params
        heads = _types.Names(heads, "scheduled")
        _checks.same_names("weights", heads, names)
        return ScheduledState(heads, jnp.zeros(len(names), jnp.float32))

    def update(
        signals: _types.Signals, state: ScheduledState
    ) -> tuple[_types.Decision, ScheduledState]:
        _signals.check_heads("scheduled", state, signals)
        _signals.require("scheduled", signals, "step")
        assert signals.step is not None
        weights = _masked.zero_absent(at(signals.step), _signals.presence(signals))
        return _types.Decision(weights), state._replace(weights=weights)

    return _types.Balancer(init, update, static=True)
