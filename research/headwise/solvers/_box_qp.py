"""Convex quadratic programs with bounds, by an active set."""

import jax.numpy as jnp
from jax import lax

from headwise.solvers import _active_set
from headwise.solvers import _linear_system
from headwise.solvers import _scaling
from headwise.typing import Array


def box_qp(
    matrix: Array, linear: Array, lower: Array | float, upper: Array | float
) -> Array:
    """Minimises a convex quadratic function between bounds.

    ::

        argmin_x  1/2 xᵀ matrix x - linearᵀ x   subject to  lower <= x <= upper

    Bounds that are broken and multipliers of the wrong sign change sides together while
    that makes them fewer, one at a time otherwise, which ends (Júdice and Pires). Every
    set of free variables is solved exactly; the one that satisfies all conditions is
    the answer, with its derivatives (the set itself is held fixed). Runs inside `jit`
    and `vmap`, without a host solver; answers the same in every unit of each variable.

    Args:
        matrix: [H, H], symmetric, positive semi-definite; float32 or float64, H up to
            64. Solved in float64 if it is float64.
        linear: [H].
        lower: [H] or scalar, may be -inf.
        upper: [H] or scalar, may be inf; at least `lower`.

    Returns:
        [H]. Where the answer is not unique, one of them; equal variables get equal
        values. Where there is none (no bound stops the descent) a point far out. A
        variable whose row is zero goes to the bound that its linear term asks for, or
        to the point nearest to 0 if that is infinite.

    Raises:
        ValueError: `matrix` is not [H, H]; `linear` is not [H].

    Example:
        >>> q = jnp.array([[2.0, 0.0], [0.0, 4.0]])
        >>> print(hw.solvers.box_qp(q, jnp.array([2.0, 8.0]), 0.0, 1.5))  # free: 1, 2
        [1.  1.5]

    References:
        Júdice and Pires, "A block principal pivoting algorithm for large-scale
        strictly monotone linear complementarity problems", Comput. Oper. Res. 1994.
    """
    matrix, linear = _scaling.as_problem(matrix, linear)
    lower, upper = (
        _scaling.bound(name, bound, linear)
        for name, bound in (("lower", lower), ("upper", upper))
    )
    unit, lengths, active = _scaling.unit_diagonal(matrix)
    nearest = jnp.clip(0.0, lower, upper)
    idle = jnp.where(linear > 0, upper, jnp.where(linear < 0, lower, nearest))
    idle = jnp.where(jnp.isfinite(idle), idle, nearest)
    x = solve_unit(
        unit,
        jnp.where(active, linear / lengths, 0.0),
        jnp.where(active, lower * lengths, 0.0),
        jnp.where(active, upper * lengths, 0.0),
        active,
    )
    return jnp.where(active, jnp.clip(x / lengths, lower, upper), idle)


def nonnegative_qp(matrix: Array, linear: Array) -> Array:
    """Minimises a convex quadratic function over x >= 0.

    ::

        argmin_x  1/2 xᵀ matrix x - linearᵀ x   subject to  x >= 0

    `box_qp` without upper bounds.

    Args:
        matrix: [H, H], symmetric, positive semi-definite.
        linear: [H].

    Returns:
        [H], >= 0.

    Raises:
        ValueError: `matrix` is not [H, H]; `linear` is not [H].

    Example:
        >>> q = jnp.array([[2.0, 1.0], [1.0, 2.0]])
        >>> print(hw.solvers.nonnegative_qp(q, jnp.array([2.0, -1.0])))
        [1. 0.]
    """
    return box_qp(matrix, linear, 0.0, jnp.inf)


def solve_unit(
    unit: Array, linear: Array, lower: Array, upper: Array, active: Array
) -> Array:
    """`box_qp` for a matrix with unit diagonal; inactive variables are 0."""

    def at(
        status: Array, unit: Array, linear: Array, ridged: Array | bool = False
    ) -> Array:
        fixed = jnp.where(
            status == _active_set.AT_LOWER, lower, jnp.where(status > 0, upper, 0.0)
        )
        free = active & (status == _active_set.FREE)
        fixed = jnp.where(active & ~free, fixed, 0.0)
        return fixed + _linear_system.solve_free(
            unit, linear - _linear_system.dot(unit, fixed), free, ridged
        )

    held_unit, held_linear = lax.stop_gradient((unit, linear))
    tolerance = 16 * jnp.finfo(unit.dtype).eps

    def broken(status: Array, ridged: Array) -> tuple[Array, Array]:
        x = at(status, held_unit, held_linear, ridged)
        slope = _linear_system.dot(held_unit, x) - held_linear
        slope = slope + jnp.where(ridged, _linear_system.ridge(unit) * x, 0.0)
        noise = _linear_system.dot(jnp.abs(held_unit), jnp.abs(x)) + jnp.abs(
            held_linear
        )
        free = status == _active_set.FREE
        margin = tolerance * noise
        low = free & (x < lower)
        high = free & (x > upper)
        leaves_low = (
            (status == _active_set.AT_LOWER) & (slope < -margin) & (lower < upper)
        )
        leaves_high = (
            (status == _active_set.AT_UPPER) & (slope > margin) & (lower < upper)
        )
        mended = jnp.where(
            low,
            _active_set.AT_LOWER,
            jnp.where(high, _active_set.AT_UPPER, _active_set.FREE),
        )
        return active & (low | high | leaves_low | leaves_high), mended

    status = _active_set.active_set(
        broken, jnp.where(active, _active_set.FREE, _active_set.AT_LOWER)
    )
    x = at(lax.stop_gradient(status), unit, linear)
    # Only the sum of equal variables is known: rounding shares it out at random.
    terms = jnp.stack([held_linear, lower, upper], axis=1)
    x = _scaling.share_equally(
        x, lax.stop_gradient(jnp.concatenate([unit, terms], axis=1))
    )
    return jnp.where(active, jnp.clip(x, lower, upper), 0.0)
