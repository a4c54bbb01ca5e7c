"""UW-SO: a softmax of the inverse values."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class UwSoState(NamedTuple):
    """The weights of the last step, for the log; the method has no memory."""

    names: _types.Names
    weights: Array
    """[H]"""


def uw_so(temperature: float = 1.0) -> _types.Balancer:
    """Soft optimal uncertainty weighting: a softmax of the inverse values.

    ::

        weight = softmax((1 / value) / T)

    which is uncertainty weighting with the noise at its optimum, in place of learned.
    A head whose value is not positive has an equal part of the weights, 1 / H.

    Args:
        temperature: T > 0; the paper tunes it for each data set.

    Returns:
        A balancer that needs the values. The weights sum to 1.

    Raises:
        ValueError: temperature <= 0.

    Example:
        >>> balancer = hw.balancers.uw_so(temperature=0.5 / np.log(3))
        >>> signals = hw.Signals(values=jnp.array([1.0, 2.0]))  # 9 : 3
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))
        [0.75 0.25]

    References:
        Kirchdorfer et al., "Analytical uncertainty-based loss weighting in multi-task
        learning", GCPR 2024, section on UW-SO.
    """
    _checks.positive("temperature", temperature)

    def init(names: Sequence[str], params: PyTree = None) -> UwSoState:
        del params
        names = _types.Names(names, "uw_so")
        return UwSoState(names, jnp.zeros(len(names), jnp.float32))

    def update(
        signals: _types.Signals, state: UwSoState
    ) -> tuple[_types.Decision, UwSoState]:
        values, present = _signals.read("uw_so", state, signals)
        counted = present & (values > 0)
        values = _masked.positive(jnp.where(counted, values, 1.0))
        weights = _masked.softmax(1.0 / values / temperature, counted)
        weights = _masked.beside(weights, counted, present)
        return _types.Decision(weights), state._replace(weights=weights)

    return _types.Balancer(init, update)
