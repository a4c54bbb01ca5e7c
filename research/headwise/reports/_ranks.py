"""Which rows may be the best, and how many seeds would tell: by ranks within seeds.

All work on costs [rows, pairs], less is better, infinite where a trial diverged.
"""

import math
from collections.abc import Sequence

import numpy as np

from headwise.reports import _chance

_MOST = 1000
"""Pairs that nobody will train: then it is open."""


def mean_ranks(costs: np.ndarray) -> np.ndarray:
    """[rows]: 1 is the best of a pair; ties share the mean of theirs."""
    if not costs.size:
        return np.full(len(costs), np.nan)
    return _chance.twice_ranks(_chance.rounded(costs)).mean(axis=1) / 2


def critical_difference(rows: int, pairs: int, level: float) -> float:
    """Mean ranks that differ by more differ, of all pairs of rows at once (Nemenyi).

    ::

        q(level, rows) * sqrt(rows (rows + 1) / (6 pairs))

    q is that of the Studentised range over sqrt(2).
    """
    from scipy import stats

    if rows < 2 or not pairs:
        return math.inf
    q = stats.studentized_range.isf(level, rows, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(rows * (rows + 1) / (6 * pairs)))


def nemenyi(ranks: np.ndarray, pairs: int) -> np.ndarray:
    """[rows, rows]: p of every two rows' mean ranks, corrected for all of them."""
    from scipy import stats

    rows = len(ranks)
    apart = np.abs(ranks[:, None] - ranks)
    scaled = apart * math.sqrt(2) / math.sqrt(rows * (rows + 1) / (6 * pairs))
    return np.minimum(stats.studentized_range.sf(scaled, rows, np.inf), 1.0)


def adjusted(chances: Sequence[float]) -> np.ndarray:
    """What p of several metrics are, so that of all findings so many are false.

    Benjamini and Hochberg's; NaN stays and does not count.
    """
    given = np.array(chances, np.float64)
    counts = ~np.isnan(given)
    if np.any(counts):
        from scipy import stats

        given[counts] = stats.false_discovery_control(given[counts])
    return given


def leaders(costs: np.ndarray, level: float) -> list[int]:
    """The rows among which the best is, at that level, the best in ranks first.

    A row is out if another beats it, pair by pair (Wilcoxon, two-sided), at the level
    over the number of others: the true best could be beaten by chance by each of
    them. So it makes no difference that the best one was looked for in the same trials.
    Where the pairs are too few for any p so small, it is out if its mean rank is by
    Nemenyi's critical difference behind the first: many rows tell by their ranks what
    few pairs cannot. Which of the two it is hangs on the numbers of rows and pairs.

    References:
        Hsu, "Multiple comparisons: theory and methods", 1996, chapter 4 (comparisons
        with the best). Benavoli, Corani and Mangili, "Should we really use post-hoc
        tests based on mean-ranks?", JMLR 2016.
    """
    rows, pairs = costs.shape
    ranks = mean_ranks(costs)
    order = [int(i) for i in np.argsort(ranks, kind="stable")]
    if rows < 2 or not pairs:
        return order
    if _chance.least(2, pairs) >= level / (rows - 1):
        farthest = ranks[order[0]] + critical_difference(rows, pairs, level)
        return [i for i in order if ranks[i] <= farthest]
    costs = _chance.rounded(costs)

    def beaten(i: int) -> bool:
        for j in order[: order.index(i)]:
            chance, sign = _chance.signed_ranks(costs[j], costs[i])
            if sign < 0 and chance < level / (rows - 1):
                return True
        return False

    return [i for i in order if not beaten(i)]


def pairs_for_the_best(
    costs: np.ndarray, level: float, among: Sequence[int]
) -> int | None:
    """With how many pairs one row would be left, if more are like these.

    From the sum of signed ranks of the first and each other leader: as a part r of the
    largest it stays, and is told from 0 by about 4/3 (z / r)² pairs.
    """
    from scipy import stats

    rows, pairs = costs.shape
    part = level / (rows - 1)
    z = stats.norm.isf(part / 2)
    costs = _chance.rounded(costs)
    needed = max(_chance.pairs_needed(2, part), pairs + 1)
    for other in among[1:]:
        _, r = _chance.signed_ranks(costs[among[0]], costs[other])
        if r >= 0 or 4 / 3 * (z / r) ** 2 > _MOST:
            return None
        if r == -1:  # one order throughout, of which the exact test says it all
            continue
        needed = max(needed, math.ceil(4 / 3 * (z / r) ** 2))
    return needed


def pairs_for_a_difference(costs: np.ndarray, level: float) -> int | None:
    """With how many pairs the rows would differ, if more are like these; None: open.

    Of two rows as in `pairs_for_the_best`. Of more: Friedman's statistic grows with the
    mean correlation of ranks between pairs, which is without bias.
    """
    from scipy import stats

    rows, pairs = costs.shape
    if pairs < 2:
        return None
    if rows == 2:
        order = np.argsort(mean_ranks(costs), kind="stable")
        return pairs_for_the_best(costs, level, [int(i) for i in order])
    costs = _chance.rounded(costs)
    costs = costs[:, np.any(costs != costs[:1], axis=0)]
    if costs.shape[1] < 2:
        return None
    statistic = stats.friedmanchisquare(*costs).statistic
    correlation = (statistic / (rows - 1) - 1) / (costs.shape[1] - 1)
    wanted = stats.chi2.isf(level, rows - 1) / (rows - 1) - 1
    if correlation <= wanted / _MOST:
        return None
    needed = math.ceil(1 + wanted / correlation)
    return max(needed, _chance.pairs_needed(rows, level), pairs + 1)
