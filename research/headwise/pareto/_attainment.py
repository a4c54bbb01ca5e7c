"""What was attained how often: fronts over seeds, without a mean of points."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks
from headwise.pareto import _front
from headwise.pareto import _points


def attainment(
    fronts: Sequence[Any], share: float = 0.5, higher: _points.Higher = False
) -> np.ndarray:
    """The front that at least so many of several runs attain, such as seeds.

    A place is attained by a run if one of its points is as good in all. With `share`
    0.5 the result is what half of the runs attain: the median front.

    Args:
        fronts: sets of points [N, M], one a run; a set may be empty: that run has
            attained nothing. Rows with NaN do not count.
        share: of the runs, in (0, 1]: at least ceil(share * runs) of them.
        higher: whether more is better, for all or one flag an objective.

    Returns:
        [P, M] corners of the surface, in the order of the first objective; [0, M] where
        no place is attained so often. Each objective above two takes as many times as
        long as there are points.

    Raises:
        ValueError: no runs, shapes differ, `share` is none. TypeError: a flag is
            neither True nor False.

    Example:
        >>> seeds = [[[0, 3], [2, 1]], [[1, 2]], [[1, 4], [3, 0]]]
        >>> print(hw.pareto.attainment(seeds, 0.5))             # two of three
        [[1. 3.]
         [2. 2.]
         [3. 1.]]

    References:
        Fonseca and Fleming, "On the performance assessment and comparison of stochastic
        multiobjective optimizers", PPSN 1996. Lopez-Ibanez et al., "Exploratory
        analysis of stochastic local search algorithms in biobjective optimization",
        2010, section 3.
    """
    _checks.in_range("share", share, "a number in (0, 1]", lambda x: 0 < x <= 1)
    runs = [_points.table(f"fronts[{i}]", run) for i, run in enumerate(fronts)]
    if not runs:
        raise ValueError("fronts: expected one or more sets of points, got none")
    objectives = max(run.shape[1] for run in runs)
    if not objectives:
        raise ValueError("fronts: expected one or more objectives, got none")
    for i, run in enumerate(runs):
        if run.shape[1] != objectives:
            raise ValueError(
                f"fronts[{i}]: expected [N, {objectives}] as the others, got shape "
                f"{run.shape}"
            )
    signs = _points.signs(higher, objectives)
    costs = [(run * signs)[~np.isnan(run).any(axis=1)] for run in runs]
    # ceil(0.7 * 10) is 7: what rounding has added is taken away.
    count = math.ceil(float(share) * len(runs) * (1 - 1e-12))
    corners = _surface(costs, count)
    return corners[np.lexsort(corners.T[::-1])] * signs


def _surface(costs: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Corners of what so many runs attain: of every slice, those that no other has.

    Of two objectives: at every first one each run has the least second that it has
    attained so far, and the surface steps down where the count-th lowest does.
    """
    objectives = costs[0].shape[1]
    if objectives == 1:
        level = np.sort([run.min(initial=np.inf) for run in costs])[count - 1]
        return np.full((int(level < np.inf), 1), level)
    places = np.unique(np.concatenate([run[:, -1] for run in costs]))
    if objectives > 2:
        slices = [np.zeros((0, objectives))]
        for place in places:
            corners = _surface([c[c[:, -1] <= place, :-1] for c in costs], count)
            last = np.full((len(corners), 1), place)
            slices.append(np.concatenate([corners, last], axis=1))
        corners = np.unique(np.concatenate(slices), axis=0)
        return corners[_front.of_costs(corners)]
    stairs = np.full((len(costs), len(places)), np.inf)
    for stair, run in zip(stairs, costs, strict=True):
        np.minimum.at(stair, np.searchsorted(places, run[:, -1]), run[:, 0])
    level = np.sort(np.minimum.accumulate(stairs, axis=1), axis=0)[count - 1]
    corners = np.stack([level, places], axis=1)[level < np.inf]
    return corners[_front.of_costs(corners)]
