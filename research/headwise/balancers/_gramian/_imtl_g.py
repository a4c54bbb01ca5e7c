"""IMTL-G: equal projections on every gradient."""

import jax
import jax.numpy as jnp

from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


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
