"""The direction in a ball that raises the worst head most: CAGrad's problem."""

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
    unit, lengths, active = _scaling.unit_diagonal(gram)
    largest = jnp.max(jnp.where(active, lengths, 0.0))
    scale = jnp.where(largest > 0, largest, 1.0)
    # In units of the longest gradient; `a` are the weights of unit gradients.
    level = jnp.where(active, scale / lengths, 0.0)
    begin = jnp.where(active, start * (lengths / scale), 0.0)
    along = _linear_system.dot(unit, begin)
    _checks.nonnegative("radius", radius)
    squared = jnp.square(jnp.asarray(radius, gram.dtype) / scale)

    def solve(
        free: Array,
        unit: Array,
        along: Array,
        level: Array,
        squared: Array,
        ridged: Array | bool = False,
    ) -> tuple[Array, Array]:
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

    held = lax.stop_gradient((unit, along, level, squared))
    tolerance = 16 * jnp.finfo(gram.dtype).eps

    def broken(status: Array, ridged: Array) -> tuple[Array, Array]:
        free = active & (status == _active_set.FREE)
        a, height = solve(free, *held, ridged)
        slack = _linear_system.dot(held[0], a) + held[1] - height * held[2]
        slack += jnp.where(ridged, _linear_system.ridge(unit) * a, 0.0)
        noise = _linear_system.dot(jnp.abs(held[0]), jnp.abs(a)) + jnp.abs(held[1])
        noise += jnp.abs(height) * held[2]
        low = free & (a < 0)
        leaves = active & ~free & (slack < -tolerance * noise)
        return low | leaves, jnp.where(low, _active_set.AT_LOWER, _active_set.FREE)

    begun = jnp.where(active, _active_set.FREE, _active_set.AT_LOWER)
    status = _active_set.active_set(broken, begun)
    free = active & (lax.stop_gradient(status) == _active_set.FREE)
    a = jnp.maximum(solve(free, unit, along, level, squared)[0], 0.0)
    rows = jnp.concatenate([held[0], held[2][:, None]], axis=1)
    a = _scaling.share_equally(a, rows)
    return jnp.where(active, a * (scale / lengths), 0.0)
