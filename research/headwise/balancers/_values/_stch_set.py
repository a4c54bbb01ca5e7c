"""STCH-Set: several models share the heads."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class StchSetState(NamedTuple):
    """The weights of the last step, for the log; the method has no memory."""

    names: _types.Names
    weights: Array
    """[H]"""


def stch_set(smoothness: float, axis_name: str | None = None) -> _types.Balancer:
    """Smooth Tchebycheff set: K models share the heads, each head by its best model.

    ::

        total = μ log Σ_h exp(s_h / μ),   s_h = -μ log Σ_k exp(-value_kh / μ)
        weight_kh = softmax(s / μ)_h softmax(-value_h / μ)_k

    a smooth maximum over heads of a smooth minimum over models. Each model is a lane of
    `jax.vmap(..., axis_name=...)` (or of `shard_map`), and gets its own row of weights;
    they sum to 1 over heads and models. There are no preferences: scale the losses.

    Args:
        smoothness: μ > 0; 0.1 in the paper.
        axis_name: of the axis over models; None means that there is one model, which
            then has the softmax of its values / μ.

    Returns:
        A balancer that needs the values. A head counts as present if any model has it.

    Raises:
        ValueError: smoothness <= 0.

    Example:
        >>> balancer = hw.balancers.stch_set(1.0, axis_name="models")
        >>> state = balancer.init(["a", "b"])
        >>> def weights(values):
        ...     return balancer.update(hw.Signals(values), state)[0].weights
        >>> print(jax.vmap(weights, axis_name="models")(jnp.ones((2, 2))))
        [[0.25 0.25]
         [0.25 0.25]]

    References:
        Lin et al., "Few for many: Tchebycheff set scalarization for many-objective
        optimization", ICLR 2025, equation 12 with λ = 1 and z = 0.
    """
    _checks.positive("smoothness", smoothness)

    def init(names: Sequence[str], params: PyTree = None) -> StchSetState:
        del params
        names = _types.Names(names, "stch_set")
        return StchSetState(names, jnp.zeros(len(names), jnp.float32))

    def update(
        signals: _types.Signals, state: StchSetState
    ) -> tuple[_types.Decision, StchSetState]:
        values, present = _signals.read("stch_set", state, signals)
        low = jnp.where(present, values, jnp.finfo(jnp.float32).max)
        low = low if axis_name is None else jax.lax.pmin(low, axis_name)
        near = jnp.where(present, jnp.exp((low - values) / smoothness), 0.0)
        summed = near if axis_name is None else jax.lax.psum(near, axis_name)
        anywhere = summed > 0
        best = low / smoothness - jnp.log(jnp.where(anywhere, summed, 1.0))
        share = _numerics.safe_divide(near, summed, 0.0)
        weights = _masked.softmax(best, anywhere) * share
        return _types.Decision(weights), state._replace(weights=weights)

    return _types.Balancer(init, update)
