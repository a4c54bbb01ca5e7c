"""What is not beaten in everything, how much a front covers, what sharing costs."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks


def _points(argument: str, points: Any) -> np.ndarray:
    table = np.asarray(points, np.float64)
    if table.ndim != 2:
        raise ValueError(f"{argument}: expected [N, M], got shape {table.shape}")
    return table


def front(points: Any, higher: Sequence[bool] | bool = False) -> np.ndarray:
    """Which points are on the Pareto front: none is as good in all and better in one.

    Args:
        points: [N, M] objectives. A row with NaN is never on the front.
        higher: whether more is better, for all or one flag an objective.

    Returns:
        [N] bool. Equal points are all on it or all off it.

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
    valid = ~np.any(np.isnan(cost), axis=1)
    no_worse = np.all(cost[:, None, :] <= cost[None, :, :], axis=2)
    better = np.any(cost[:, None, :] < cost[None, :, :], axis=2)
    dominated = np.any(no_worse & better & valid[:, None], axis=0)
    return np.asarray(valid & ~dominated)


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
    if len(reference) != table.shape[1]:
        raise ValueError(
            f"reference: expected {table.shape[1]} entries, got {len(reference)}"
        )
    try:
        import moocore
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'hypervolume needs moocore: pip install "headwise[pareto]"'
        ) from error
    return float(moocore.hypervolume(table, ref=np.asarray(reference, np.float64)))


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
        ValueError: names differ, or a baseline is 0.

    Example:
        >>> round(hw.pareto.delta_m(
        ...     {"iou": 0.45, "error": 0.22}, {"iou": 0.5, "error": 0.2},
        ...     {"iou": True, "error": False},
        ... ), 6)                                               # (10 % + 10 %) / 2
        10.0

    References:
        Maninis et al., "Attentive single-tasking of multiple tasks", CVPR 2019.
    """
    _checks.same_names("baseline", metrics, baseline)
    _checks.same_names("higher", metrics, higher)
    total = 0.0
    for name, value in metrics.items():
        if baseline[name] == 0:
            raise ValueError(f"baseline[{name!r}]: expected other than 0")
        sign = -1.0 if higher[name] else 1.0
        total += sign * (value - baseline[name]) / abs(baseline[name])
    return 100.0 * total / len(metrics)
