"""What is not beaten in everything, how much a front covers, what sharing costs."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks

_BLOCK = 256
"""Points that are compared with the front at a time."""


def _points(argument: str, points: Any) -> np.ndarray:
    table = _checks.doubles(argument, points)
    if table.ndim != 2:
        raise ValueError(f"{argument}: expected [N, M], got shape {table.shape}")
    return table


def front(points: Any, higher: Sequence[bool] | bool = False) -> np.ndarray:
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
    table = _points("points", points)
    for flag in np.ravel(np.asarray(higher, object)):
        _checks.boolean("higher", flag)
    flags = np.asarray(higher, bool)
    if flags.shape not in ((), table.shape[1:]):
        raise ValueError(
            f"higher: expected {table.shape[1]} flags, got shape {flags.shape}"
        )
    cost = np.where(flags, -table, table)
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


def hypervolume(points: Any, reference: Sequence[float]) -> float:
    """Volume that the points dominate, up to a reference point; less is better.

    Args:
        points: [N, M] objectives to minimise.
        reference: [M]; points that are not better in all objectives count for 0.

    Returns:
        The volume, computed by moocore (`pip install "headwise[pareto]"`).

    Raises:
        ModuleNotFoundError: moocore is not installed. ValueError: shapes differ.

    Example:
        >>> hw.pareto.hypervolume([[1, 2], [2, 1]], [3, 3])         # 2 + 2 - 1
        3.0
    """
    table = _points("points", points)
    at = _checks.doubles("reference", reference)
    if at.shape != table.shape[1:]:
        raise ValueError(
            f"reference: expected {table.shape[1]} entries, got shape {at.shape}"
        )
    try:
        import moocore
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'hypervolume needs moocore: pip install "headwise[pareto]"'
        ) from error
    return float(moocore.hypervolume(table, ref=at))


def delta_m(
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    higher: Mapping[str, bool],
) -> float:
    """Mean relative drop against a baseline, in percent; lower is better.

    ::

        delta_m = 100 / M * Σ_m s_m (metric_m - baseline_m) / |baseline_m|

    with s = -1 where higher is better and 1 where lower is, as in the papers
    (LibMTL's sign is the opposite, and its baseline the first epoch).

    Args:
        metrics: {name: value} of the multi-task model.
        baseline: the same names, of single-task training.
        higher: {name: whether more is better}.

    Raises:
        ValueError: no metrics, names differ, or a baseline is 0. TypeError: no dicts,
            or a flag is neither True nor False.

    Example:
        >>> round(hw.pareto.delta_m(
        ...     {"iou": 0.45, "error": 0.22}, {"iou": 0.5, "error": 0.2},
        ...     {"iou": True, "error": False},
        ... ), 6)                                               # (10 % + 10 %) / 2
        10.0

    References:
        Maninis et al., "Attentive single-tasking of multiple tasks", CVPR 2019.
    """
    given = {"metrics": metrics, "baseline": baseline, "higher": higher}
    for argument, got in given.items():
        if not isinstance(got, Mapping):
            raise TypeError(
                f"{argument}: expected a dict by name of metric, got "
                f"{type(got).__name__}"
            )
    if not metrics:
        raise ValueError("metrics: expected one or more, got none")
    _checks.same_names("baseline", metrics, baseline)
    _checks.same_names("higher", metrics, higher)
    total = 0.0
    for name, value in metrics.items():
        _checks.boolean(f"higher[{name!r}]", higher[name])
        if baseline[name] == 0:
            raise ValueError(f"baseline[{name!r}]: expected other than 0")
        sign = -1.0 if higher[name] else 1.0
        total += sign * (value - baseline[name]) / abs(baseline[name])
    return 100.0 * total / len(metrics)
