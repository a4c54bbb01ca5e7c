"""DWA: heads whose value falls slowly get more."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class DwaState(NamedTuple):
    """Mean values of the last two windows, and the window that is under way."""

    names: _types.Names
    summed: Array
    """[H] sum of the values in this window."""
    number: Array
    """[H] int32, how many those are."""
    last: Array
    """[H] mean of the last window in which the head was present."""
    before: Array
    """[H] mean of the one before that."""
    windows: Array
    """[H] int32, windows in which the head was present, at most 2."""
    updates: Array
    """int32, number of updates done."""


def dwa(temperature: float = 2.0, window: int = 1) -> _types.Balancer:
    """Dynamic weight average: by how the mean values of the last two windows compare.

    ::

        weight = H softmax(r / T),   r_h = last mean_h / mean of the window before_h

    H being the number of heads present. In the first two windows all weights are 1. A
    value that is not positive counts as the least normal float32, so that 0 / 0 is 1,
    and so is r of a head that is never positive.

    Args:
        temperature: T > 0; the larger, the more equal the weights.
        window: updates a mean is taken over; the paper's is an epoch.

    Returns:
        A balancer that needs the values. The weights sum to the number of heads
        present. A head without two windows behind it counts with r = 1.

    Raises:
        ValueError: temperature <= 0; window < 1.

    Example:
        >>> balancer = hw.balancers.dwa(temperature=1 / np.log(3))
        >>> state = balancer.init(["a", "b"])
        >>> for values in ([1.0, 2.0], [2.0, 2.0], [0.0, 0.0]):  # a doubled
        ...     decision, state = balancer.update(hw.Signals(jnp.array(values)), state)
        ...     print(np.asarray(decision.weights).round(4))  # 2 * (9, 3) / (9 + 3)
        [1. 1.]
        [1. 1.]
        [1.5 0.5]

    References:
        Liu, Johns and Davison, "End-to-end multi-task learning with attention", CVPR
        2019, equation 7.
    """
    _checks.positive("temperature", temperature)
    window = _checks.positive_int("window", window)

    def init(names: Sequence[str], params: PyTree = None) -> DwaState:
        del params
        names = _types.Names(names, "dwa")
        heads = len(names)
        return DwaState(
            names,
            summed=jnp.zeros(heads, jnp.float32),
            number=jnp.zeros(heads, jnp.int32),
            last=jnp.zeros(heads, jnp.float32),
            before=jnp.zeros(heads, jnp.float32),
            windows=jnp.zeros(heads, jnp.int32),
            updates=jnp.zeros((), jnp.int32),
        )

    def update(
        signals: _types.Signals, state: DwaState
    ) -> tuple[_types.Decision, DwaState]:
        values, present = _signals.read("dwa", state, signals)
        state = _close_window(state, state.updates % window == 0)
        ratio = _masked.positive(state.last) / _masked.positive(state.before)
        ratio = jnp.where(state.windows == 2, ratio, 1.0)
        shares = _masked.softmax(ratio / temperature, present)
        new = state._replace(
            summed=state.summed + _masked.zero_absent(values, present),
            number=_masked.counted_on(state.number, present),
            updates=state.updates + 1,
        )
        return _types.Decision(_masked.count(present) * shares), new

    return _types.Balancer(init, update)


def _close_window(state: DwaState, now: Array) -> DwaState:
    """Makes the means of the window that ended, for the heads that it saw."""
    closed = now & (state.number > 0)
    mean = state.summed / jnp.maximum(state.number, 1).astype(jnp.float32)
    return state._replace(
        summed=jnp.where(now, 0.0, state.summed),
        number=jnp.where(now, 0, state.number),
        last=jnp.where(closed, mean, state.last),
        before=jnp.where(closed, state.last, state.before),
        windows=jnp.where(closed, jnp.minimum(state.windows + 1, 2), state.windows),
    )
