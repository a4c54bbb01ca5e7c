"""How far one set of points is from another."""

from typing import Any

import numpy as np

from headwise.pareto import _points


def additive_epsilon(points: Any, target: Any, higher: _points.Higher = False) -> float:
    """By how much the points must be better to be as good as the target throughout.

    ::

        max over targets r of min over points p of max_m (p_m - r_m)

    Args:
        points: [N, M] objectives. Rows with NaN do not count.
        target: [R, M], such as the front of all studies together.
        higher: whether more is better, for all or one flag an objective.

    Returns:
        The least number that, taken from every objective of all points (added where
        more is better), lets them weakly dominate the target; 0 or less where they do.

    Raises:
        ValueError: shapes differ, or one of the sets has no point without NaN.
            TypeError: a flag is neither True nor False.

    Example:
        >>> hw.pareto.additive_epsilon([[1, 3], [3, 2]], [[0, 3], [2, 1]])
        1.0

    References:
        Zitzler et al., "Performance assessment of multiobjective optimizers", IEEE
        Transactions on Evolutionary Computation 2003, section III.
    """
    return float(_behind(points, target, higher).max(axis=2).min(axis=1).max())


def igd_plus(points: Any, target: Any, higher: _points.Higher = False) -> float:
    """Mean distance from the target to what the points dominate.

    ::

        mean over targets r of min over points p of sqrt(Σ_m max(p_m - r_m, 0)²)

    Args:
        points, target, higher: as in `additive_epsilon`.

    Returns:
        >= 0; 0 where every target is weakly dominated.

    Raises:
        ValueError, TypeError: as `additive_epsilon`.

    Example:
        >>> hw.pareto.igd_plus([[3, 4]], [[0, 0], [5, 4]])          # (5 + 0) / 2
        2.5

    References:
        Ishibuchi et al., "Modified distance calculation in generational distance and
        inverted generational distance", EMO 2015, equations 18 and 19.
    """
    behind = np.maximum(_behind(points, target, higher), 0.0)
    return float(np.sqrt(np.sum(behind**2, axis=2)).min(axis=1).mean())


def _behind(points: Any, target: Any, higher: _points.Higher) -> np.ndarray:
    """[R, N, M]: how much worse a point is than a target."""
    cost = _points.costs(points, higher)
    aims = _points.table("target", target)
    if aims.shape[1] != cost.shape[1]:
        raise ValueError(
            f"target: expected [R, {cost.shape[1]}] as the points, got {aims.shape}"
        )
    aims = _points.whole(_points.costs(aims, higher), "target")
    cost = _points.whole(cost)
    with np.errstate(invalid="ignore"):
        behind = cost - aims[:, None]
    return np.where(cost == aims[:, None], 0.0, behind)  # infinite alike
