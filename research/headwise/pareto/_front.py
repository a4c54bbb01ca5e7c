"""What is not beaten in everything, and what is beaten by how many layers of others."""

from typing import Any

import numpy as np

from headwise.pareto import _points

_BLOCK = 256
"""Points that are compared with the front at a time."""


def front(points: Any, higher: _points.Higher = False) -> np.ndarray:
    """Which points are on the Pareto front: none is as good in all and better in one.

    Args:
        points: [N, M] objectives. A row with NaN is never on the front.
        higher: whether more is better, for all or one flag an objective.

    Returns:
        [N] bool. Equal points are all on it or all off it. Two objectives take the
        time of sorting, more that of comparing every point with the front.

    Raises:
        ValueError: `points` is not [N, M], or the number of flags is not M. TypeError:
            a flag is neither True nor False.

    Example:
        >>> hw.pareto.front([[1, 4], [2, 2], [4, 1], [3, 3]])
        array([ True,  True,  True, False])
    """
    return of_costs(_points.costs(points, higher))


def ranks(points: Any, higher: _points.Higher = False) -> np.ndarray:
    """Of every point in which front it is: 0 on the first, 1 once that is gone, ...

    Args:
        points, higher: as in `front`.

    Returns:
        [N] int. Equal points have one rank. A row with NaN is behind all others: a
        trial that diverged is the worst, not a missing one.

    Raises:
        ValueError, TypeError: as `front`.

    Example:
        >>> hw.pareto.ranks([[1, 4], [2, 2], [4, 1], [3, 3], [4, 4]])
        array([0, 0, 0, 1, 2])

    References:
        Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II",
        IEEE Transactions on Evolutionary Computation 2002, section III A.
    """
    cost = _points.costs(points, higher)
    found = np.full(len(cost), -1)
    left = np.flatnonzero(~np.isnan(cost).any(axis=1))
    rank = 0
    while len(left):
        first = of_costs(cost[left])
        found[left[first]] = rank
        left, rank = left[~first], rank + 1
    # None is on a front where all have NaN.
    return np.where(found < 0, max(rank, 1), found)


def of_costs(cost: np.ndarray) -> np.ndarray:
    """[N] bool: the front where less is better in all."""
    on_front = ~np.any(np.isnan(cost), axis=1)
    if cost.shape[1] and np.any(on_front):
        distinct, which = _distinct(cost[on_front])
        on_front[on_front] = _undominated(distinct)[which]
    return on_front


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows, by their first entry, then the second, ...; which is which."""
    order = np.lexsort(rows.T[::-1])
    rows = rows[order]
    new = np.append(True, np.any(rows[1:] != rows[:-1], axis=1))
    which = np.empty(len(rows), np.int64)
    which[order] = np.cumsum(new) - 1
    return rows[new], which


def _undominated(rows: np.ndarray) -> np.ndarray:
    """Which rows, as `_distinct` orders them, are no other's worse: only earlier ones.

    Of two objectives the least second so far decides. Otherwise blocks are compared
    with the front so far, then within: memory grows with the front, not with N².
    """
    if rows.shape[1] == 2:
        least = np.minimum.accumulate(rows[:, 1])
        return np.append(True, rows[1:, 1] < least[:-1])
    on_front, front_so_far = [], rows[:0]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        good = ~np.any(_no_worse(front_so_far, block), axis=0)
        rest = block[good]
        good[good] = ~np.any(np.triu(_no_worse(rest, rest), 1), axis=0)
        on_front.append(good)
        front_so_far = np.concatenate([front_so_far, block[good]])
    return np.concatenate(on_front)


def _no_worse(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[some, others] bool: the one is as good as the other in every objective."""
    result = np.ones((len(some), len(others)), bool)
    for a, b in zip(some.T, others.T, strict=True):
        result &= a[:, None] <= b
    return result
