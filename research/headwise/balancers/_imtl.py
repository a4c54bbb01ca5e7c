"""IMTL: equal projections on every gradient, equal losses."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from headwise import _numerics
from headwise.balancers import _from_gram
from headwise.balancers import _imtl_l
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


def imtl_g() -> _types.Balancer:
    """Impartial gradients: the sum has the same projection on every head's gradient.

    ::

        <Σ w g, g_h / |g_h|> equal for all h,   Σ w = 1

    In closed form w = a / |g| up to scale with U a = 1, U the gramian of unit gradients
    (its pseudo-inverse if it is singular).

    Returns:
        A balancer that needs the gramian. The weights sum to 1 and may be negative. A
        head with a zero gradient gets 0; where no such direction exists (opposite
        gradients) all get 0.

    Example:
        >>> balancer = hw.balancers.imtl_g()
        >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])       # a = 1, w ~ 1 / |g|
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))
        [0.3333 0.6667]

    References:
        Liu et al., "Towards impartial multi-task learning", ICLR 2021, equation 4.
    """

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, preferences, signals
        return impartial(gram)

    return _from_gram.from_gram("imtl_g", solve)


def impartial(gram: Array) -> Array:
    """[H] weights of `imtl_g`."""
    unit, lengths, active = _from_gram.unit_rows(gram)
    a, _ = equal_projections(unit, active.astype(gram.dtype))
    least = jnp.min(jnp.where(active, lengths, jnp.inf))
    w = jnp.where(active, a * (least / lengths), 0.0)
    total, size = jnp.sum(w), jnp.sum(jnp.abs(w))
    sound = jnp.abs(total) > 8 * jnp.finfo(gram.dtype).eps * size
    return jnp.where(sound, w / jnp.where(sound, total, 1.0), 0.0)


def equal_projections(unit: Array, wanted: Array) -> tuple[Array, Array]:
    """The least a with unit @ a = wanted, and |Σ a u|; 0 if there is none."""
    values, vectors, kept = _from_gram.spectrum(unit)
    precise = jax.lax.Precision.HIGHEST
    along = jnp.matmul(vectors.T, wanted, precision=precise)
    # Nothing of `wanted` along what is kept: only rounding is left of it.
    size = jnp.sqrt(jnp.sum(jnp.square(wanted)))
    seen = jnp.sqrt(jnp.sum(jnp.where(kept, along * along, 0.0)))
    exists = seen > 1e3 * jnp.finfo(unit.dtype).eps * size
    scaled = jnp.where(kept, along / jnp.where(kept, values, 1.0), 0.0)
    a = jnp.where(exists, jnp.matmul(vectors, scaled, precision=precise), 0.0)
    norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.where(exists, scaled * along, 0.0)), 0.0))
    return a, norm


class ImtlState(NamedTuple):
    """The scales of the losses, learned, and the weights of the last step."""

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
        names = _types.sorted_names("imtl", names)
        zeros = jnp.zeros(len(names), jnp.float32)
        return ImtlState(of_losses.init(names, params), zeros)

    def update(
        signals: _types.Signals, state: ImtlState
    ) -> tuple[_types.Decision, ImtlState]:
        _types.require("imtl", signals, "gram")
        _types.check_heads("imtl", state.weights.shape[0], signals)
        present = _types.presence(signals)
        gram = _types.present_gram(signals, present)
        shown = signals._replace(present=present)
        scales, losses = of_losses.update(shown, state.losses)
        # The length of gradients does not matter here, so it is no matter how large
        # the scales are.
        scale = scales.weights.astype(gram.dtype)
        unit = _numerics.safe_divide(
            scale, jnp.broadcast_to(jnp.max(scale), scale.shape), 0.0
        )
        scaled = (gram * unit[:, None]) * unit[None, :]
        weights = jnp.where(present, impartial(scaled) * scale, 0.0)
        kept = weights.astype(state.weights.dtype)
        return _types.Decision(weights), ImtlState(losses, kept)

    return _types.Balancer(init, update, "gramian")
