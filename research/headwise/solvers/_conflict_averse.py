"""The direction in a ball that raises the worst head most: CAGrad's problem."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise.solvers import _active_set
from headwise.solvers import _linear_system
from headwise.solvers import _scaling
from headwise.typing import Array


def conflict_averse(gram: Array, start: Array, radius: Array) -> Array:
    """Weights of the direction near a given one that serves the worst head best.

    ::

        d = argmax_d  min_h <g_h, d>   subject to  |d - d0| <= radius,   d0 = Σ start g

    The answer has the form d = d0 + Σ v_h g_h, v >= 0. With a level ν that no head may
    be below, v solves ``min 1/2 vᵀGv - (ν - G start)ᵀ v, v >= 0``, and ν is the level
    at which |Σ v g| is the radius. For a set of heads that are at the level both have a
    closed form; the set for which all conditions hold is found as in `box_qp`.

    Args:
        gram: [H, H], positive semi-definite; float32 or float64, H up to 64.
        start: [H], the weights of d0.
        radius: scalar, >= 0, in units of the gradients.

    Returns:
        [H] v, >= 0; the weights of d are start + v. Where the ball is larger than it
        need be (a Pareto-stationary point within reach: no direction raises all heads)
        the v of the level that is reached. A head whose gradient is zero gets 0 and
        counts for nothing.

    Raises:
        ValueError: `gram` is not [H, H]; `start` is not [H].

    Example:
        >>> gram = jnp.array([[1.0, 0.0], [0.0, 1.0]])          # orthogonal unit rows
        >>> print(hw.solvers.conflict_averse(gram, jnp.array([1.0, 0.0]), 1.0))
        [0. 1.]

    References:
        Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS
        2021, equation 4.
    """
    gram, start = _scaling.as_problem(gram, start, ("gram", "start"))
    _checks.nonnegative("radius", radius)
    return _solved(gram, start, jnp.asarray(radius, gram.dtype))


# Traced once for all problems of one size.
@functools.partial(jax.jit, inline=True)
def _solved(gram: Array, start: Array, radius: Array) -> Array:
    unit, lengths, active = _scaling.unit_diagonal(gram)
    largest = jnp.max(jnp.where(active, lengths, 0.0))
    scale = jnp.where(largest > 0, largest, 1.0)
    # In units of the longest gradient; `a` are the weights of unit gradients.
    level = jnp.where(active, scale / lengths, 0.0)
    begin = jnp.where(active, start * (lengths / scale), 0.0)
    along = _linear_system.dot(unit, begin)
    squared = jnp.square(radius / scale)
    problem = (unit, along, level, squared)
    first = (jnp.zeros_like(level), jnp.zeros_like(squared))
    a, _ = _active_set.solution(_at, _broken, first, active, *problem)
    held = lax.stop_gradient(problem)
    a = _scaling.share_equally(jnp.maximum(a, 0.0), held[0], held[2][:, None])
    return jnp.where(active, a * (scale / lengths), 0.0)


def _at(
    status: Array,
    ridged: Array | bool,
    active: Array,
    unit: Array,
    along: Array,
    level: Array,
    squared: Array,
) -> tuple[Array, Array]:
    """The weights with which the free gradients are all as far, and how far."""
    free = active & (status == _active_set.FREE)
    right = jnp.stack([level, along], axis=1)
    per_level, at_start = _linear_system.solve_free(unit, right, free, ridged).T

    def inner(x: Array, y: Array) -> Array:
        return jnp.sum(jnp.where(free, x * y, 0.0))

    # |Σ v g|² = ν² p - 2 ν q + r, for v = ν per_level - at_start.
    p, q = inner(level, per_level), inner(level, at_start)
    r = inner(along, at_start)
    p = jnp.where(p > 0, p, 1.0)
    root = jnp.square(q) - p * (r - squared)
    safe = jnp.where(root > 0, root, 1.0)
    height = (q + jnp.where(root > 0, jnp.sqrt(safe), 0.0)) / p
    return height * per_level - at_start, height


def _broken(
    point: tuple[Array, Array],
    status: Array,
    ridged: Array,
    active: Array,
    unit: Array,
    along: Array,
    level: Array,
    squared: Array,
) -> tuple[Array, Array]:
    """Weights below 0, and heads at 0 that lose too much; what mends them."""
    del squared
    a, height = point
    free = active & (status == _active_set.FREE)
    slack = _linear_system.product(unit, a) + along - height * level
    slack += jnp.where(ridged, _linear_system.ridge(unit) * a, 0.0)
    noise = _linear_system.product(jnp.abs(unit), jnp.abs(a)) + jnp.abs(along)
    noise += jnp.abs(height) * level
    low = free & (a < 0)
    leaves = active & ~free & (slack < -16 * jnp.finfo(unit.dtype).eps * noise)
    return low | leaves, jnp.where(low, _active_set.AT_LOWER, _active_set.FREE)
