"""IMTL: equal projections on every gradient, equal losses."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
import optax

from headwise import _numerics
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._gramian import _imtl_g
from headwise.balancers._values import _imtl_l
from headwise.typing import Array
from headwise.typing import PyTree


class ImtlState(NamedTuple):
    """The scales of the losses, learned, and the weights of the last step."""

    names: _types.Names
    losses: Any
    """State of `imtl_l`."""
    weights: Array
    """[H]"""


def imtl(optimizer: optax.GradientTransformation | None = None) -> _types.Balancer:
    """Full IMTL: impartial gradients of losses that are scaled to be alike.

    ::

        w_h = α_h e^(s_h),   α = imtl_g on the gradients e^(s_h) g_h,   s as in `imtl_l`

    The direction is that of `imtl_g` up to its length; private parameters see the
    scaled losses too.

    Args:
        optimizer: of s, as in `imtl_l`.

    Returns:
        A balancer that needs the gramian.

    Raises:
        TypeError: `optimizer` is not one of optax.

    Example:
        >>> balancer = hw.balancers.imtl()
        >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))              # s starts at 0
        [0.3333 0.6667]

    References:
        Liu et al., "Towards impartial multi-task learning", ICLR 2021, algorithm 1.
    """
    of_losses = _imtl_l.imtl_l(optimizer)

    def init(names: Sequence[str], params: PyTree = None) -> ImtlState:
        names = _types.Names(names, "imtl")
        zeros = jnp.zeros(len(names), jnp.float32)
        return ImtlState(names, of_losses.init(names, params), zeros)

    def update(
        signals: _types.Signals, state: ImtlState
    ) -> tuple[_types.Decision, ImtlState]:
        _signals.require("imtl", signals, "gram")
        _signals.check_heads("imtl", state, signals)
        present = _signals.presence(signals)
        gram = _signals.present_gram(signals, present)
        shown = signals._replace(present=present)
        scales, losses = of_losses.update(shown, state.losses)
        # The length of gradients does not matter here, so it is no matter how large
        # the scales are.
        scale = scales.weights.astype(gram.dtype)
        unit = _numerics.safe_divide(
            scale, jnp.broadcast_to(jnp.max(scale), scale.shape), 0.0
        )
        scaled = (gram * unit[:, None]) * unit[None, :]
        weights = jnp.where(present, _imtl_g.impartial(scaled) * scale, 0.0)
        kept = weights.astype(state.weights.dtype)
        return _types.Decision(weights), ImtlState(state.names, losses, kept)

    return _types.Balancer(init, update, "gramian")
