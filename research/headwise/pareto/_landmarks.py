"""Points that a front is described by: its corners, its bend, how crowded it is."""

from typing import Any

import numpy as np

from headwise.pareto import _front
from headwise.pareto import _points


def ideal(points: Any, higher: _points.Higher = False) -> np.ndarray:
    """The best of every objective, each for itself.

    Args:
        points: [N, M] objectives. Rows with NaN do not count.
        higher: whether more is better, for all or one flag an objective.

    Returns:
        [M].

    Raises:
        ValueError: as `front`, or no point without NaN. TypeError: as `front`.

    Example:
        >>> print(hw.pareto.ideal([[1, 4], [2, 2], [4, 1], [5, 5]]))
        [1. 1.]
    """
    signs, on_front = _of_front(points, higher)
    return on_front.min(axis=0) * signs


def nadir(points: Any, higher: _points.Higher = False) -> np.ndarray:
    """The worst of every objective on the front.

    Args:
        points, higher: as in `ideal`.

    Returns:
        [M]. Points that are beaten do not move it.

    Raises:
        ValueError, TypeError: as `ideal`.

    Example:
        >>> print(hw.pareto.nadir([[1, 4], [2, 2], [4, 1], [5, 5]]))
        [4. 4.]
    """
    signs, on_front = _of_front(points, higher)
    return on_front.max(axis=0) * signs


def knee(points: Any, higher: _points.Higher = False) -> int:
    """Which point bends the front most: a little better in one costs much in others.

    The objectives are scaled to 0 at the ideal and 1 at the nadir, and the point is the
    one farthest from the plane through the ends of the front, towards the ideal::

        argmin_k Σ_m (f[k, m] - ideal_m) / (nadir_m - ideal_m)

    Args:
        points, higher: as in `ideal`.

    Returns:
        Index of a point on the front, the first of equals. A front that bulges away
        from the ideal has none between its ends: then it is an end.

    Raises:
        ValueError, TypeError: as `ideal`.

    Example:
        >>> hw.pareto.knee([[0, 10], [1, 2], [9, 1], [10, 0]])      # 0.1 + 0.2
        1

    References:
        Das, "On characterizing the knee of the Pareto curve based on normal-boundary
        intersection", Structural Optimization 1999.
    """
    cost = _points.costs(points, higher)
    _points.whole(cost)
    on_front = np.flatnonzero(_front.of_costs(cost))
    cost = cost[on_front]
    low, high = cost.min(axis=0), cost.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    with np.errstate(invalid="ignore"):
        total = np.sum((cost - low) / width, axis=1)
    return int(on_front[np.argmin(np.where(np.isnan(total), np.inf, total))])


def crowding(points: Any, higher: _points.Higher = False) -> np.ndarray:
    """How far the neighbours of every point are within its front.

    With the points of one rank in the order of an objective::

        distance[k] = Σ_m (f_m[k + 1] - f_m[k - 1]) / (max f_m - min f_m)

    Args:
        points, higher: as in `ideal`.

    Returns:
        [N] in [0, inf]: inf at the ends of a front; 0 for a point that stands there
        already, and for rows with NaN.

    Raises:
        ValueError, TypeError: as `front`.

    Example:
        >>> print(hw.pareto.crowding([[0, 4], [1, 1], [4, 0]]))     # 4 / 4 + 4 / 4
        [inf  2. inf]

    References:
        Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II",
        IEEE Transactions on Evolutionary Computation 2002, section III B.
    """
    cost = _points.costs(points, higher)
    found = np.zeros(len(cost))
    rank = _front.ranks(cost)
    whole = ~np.isnan(cost).any(axis=1)
    for r in np.unique(rank[whole]):
        members = np.flatnonzero(whole & (rank == r))
        rows, first = np.unique(cost[members], axis=0, return_index=True)
        found[members[first]] = _crowding(rows)
    return found


def _crowding(rows: np.ndarray) -> np.ndarray:
    total = np.zeros(len(rows))
    for column in rows.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        gaps = np.full(len(rows), np.inf)
        if len(rows) > 2:
            with np.errstate(invalid="ignore"):
                width = values[-1] - values[0]
                inner = (values[2:] - values[:-2]) / (width or 1.0)
            gaps[1:-1] = np.nan_to_num(inner, nan=0.0)
        total[order] += gaps
    return total


def _of_front(points: Any, higher: _points.Higher) -> tuple[np.ndarray, np.ndarray]:
    """[M] signs, and the costs of the front."""
    cost = _points.costs(points, higher)
    signs = _points.signs(higher, cost.shape[1])
    cost = _points.whole(cost)
    return signs, cost[_front.of_costs(cost)]
