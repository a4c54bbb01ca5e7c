"""How much of the space a set of points covers, and its derivative in the points."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise.pareto import _front
from headwise.pareto import _points
from headwise.typing import Array


def hypervolume(
    points: Any, reference: Sequence[float], higher: _points.Higher = False
) -> Any:
    """Volume that the points dominate, up to a reference point.

    In 2-D, the front in the order of its first objective and f_2 before it that of the
    reference r::

        volume = Σ_k (r_1 - f_1[k]) (f_2[k - 1] - f_2[k])

    It differentiates: `jax.grad(hw.pareto.hypervolume)(points, reference)`, and may be
    traced by `jax.jit` and `jax.vmap`. The derivative of a beaten point is 0.

    Args:
        points: [N, M] objectives. Traced ones take N^(M - 1) numbers of memory.
        reference: [M], finite; points that are not better in all objectives, and those
            with NaN, count for 0.
        higher: whether more is better, for all or one flag an objective.

    Returns:
        The volume, a float; of traced points a scalar array of their dtype. That of
        more than two objectives is computed by moocore (`pip install
        "headwise[pareto]"`), of traced ones slice by slice.

    Raises:
        ModuleNotFoundError: moocore is needed and not installed. ValueError: shapes
            differ, or a reference that is not finite. TypeError: a flag is neither True
            nor False.

    Example:
        >>> hw.pareto.hypervolume([[1, 2], [2, 1]], [3, 3])         # 2 + 2 - 1
        3.0
        >>> points = jnp.array([[1.0, 3.0], [3.0, 1.0]])            # 3 * 1 + 1 * 3 - 1
        >>> print(jax.grad(hw.pareto.hypervolume)(points, [4.0, 4.0]))
        [[-1. -2.]
         [-2. -1.]]

    References:
        Emmerich and Deutz, "Time complexity and zeros of the hypervolume indicator
        gradient field", EVOLVE III 2014 (the derivative).
    """
    if isinstance(points, jax.core.Tracer):
        return _traced(points, reference, higher)
    rows = _points.table("points", points)
    at = _points.reference(reference, rows.shape[1])
    signs = _points.signs(higher, rows.shape[1])
    cost, at = rows * signs, at * signs
    cost = cost[(cost < at).all(axis=1)]  # not so where there is NaN
    if not cost.size:
        return 0.0
    if np.isinf(cost).any():
        return np.inf
    if cost.shape[1] > 2:
        return float(_points.moocore("hypervolume").hypervolume(cost, ref=at))
    cost = np.unique(cost[_front.of_costs(cost)], axis=0)
    if cost.shape[1] == 1:
        return float(at[0] - cost[0, 0])
    heights = -np.diff(cost[:, 1], prepend=at[1])
    return float(np.sum((at[0] - cost[:, 0]) * heights))


def _traced(points: Array, reference: Any, higher: _points.Higher) -> Array:
    if points.ndim != 2:
        raise ValueError(f"points: expected [N, M], got shape {points.shape}")
    if not jnp.issubdtype(points.dtype, jnp.floating):
        points = points.astype(jnp.result_type(float))
    signs = jnp.asarray(_points.signs(higher, points.shape[1]), points.dtype)
    at = jnp.asarray(reference, points.dtype)
    if at.shape != points.shape[1:]:
        raise ValueError(
            f"reference: expected {points.shape[1]} entries, got shape {at.shape}"
        )
    if not points.size:
        return jnp.zeros((), points.dtype)
    cost, at = points * signs[None], at * signs
    inside = (cost < at[None]).all(axis=1, keepdims=True)
    # What counts for 0 stands at the reference, and has no derivative there.
    return _volume(jnp.where(inside, cost, at[None]), at)


def _volume(cost: Array, at: Array) -> Array:
    """Of points that are nowhere beyond the reference: slices along the last axis."""
    if cost.shape[1] == 1:
        return at[0] - jnp.min(cost)
    order = jnp.argsort(cost[:, -1])
    cost = cost[order]
    if cost.shape[1] == 2:
        widths = at[0] - lax.cummin(cost[:, 0])
    else:
        reached = jnp.tri(len(cost), dtype=bool)[:, :, None]  # slice, point
        flat, corner = cost[:, :-1], at[:-1]
        slices = jnp.where(reached, flat[None], corner[None, None])
        widths = jax.vmap(lambda rows: _volume(rows, corner))(slices)
    thick = jnp.diff(jnp.append(cost[:, -1], at[-1]))
    return jnp.sum(widths * thick)
