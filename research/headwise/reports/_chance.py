"""How likely rows that do not differ look as different as these: tests of ranks.

All work on a table [rows, pairs], a pair being what belongs together, such as a seed.
The one assumption: if the rows made no difference, those of a pair could be exchanged.
Ranks do not mind that some rows vary more than others, and a trial that diverged is
the worst of its pair: an infinite value.
"""

import itertools
import math

import numpy as np

_MOST = 1_000_000
"""Arrangements that are counted one by one; beyond, their distribution is a formula."""
_DIGITS = 6
"""Metrics are float32: what agrees in six digits is equal."""


def probability(table: np.ndarray) -> float:
    """The p of Wilcoxon's signed-rank test for two rows, of Friedman's test for more.

    Exact: of all arrangements, the part that differs as much. Friedman's with too many
    of them to count has a beta distribution of the same first moments.

    Args:
        table: [rows, pairs], at least two rows; not NaN, infinite where it diverged.

    Returns:
        In (0, 1]; at least `least` of the table's shape.

    References:
        Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR
        2006, sections 3.1.3 and 3.2.2. Kendall and Babington Smith, "The problem of m
        rankings", Annals of Mathematical Statistics 1939 (the beta distribution).
    """
    rows, pairs = table.shape
    smallest = least(rows, pairs)
    if smallest == 1.0:
        return 1.0
    table = rounded(table)
    chance = signed_ranks(*table)[0] if rows == 2 else _friedman(table)
    return min(max(chance, smallest), 1.0)


def least(rows: int, pairs: int) -> float:
    """The least p that the test can give: every pair puts the rows in one order.

    One of the pairs may have any of the rows! orders, all others must have the same.
    """
    return float(1 / math.factorial(rows) ** max(pairs - 1, 0))


def pairs_needed(rows: int, level: float) -> int:
    """The fewest pairs with which p can be below a level."""
    return next(n for n in itertools.count(2) if least(rows, n) < level)


def rounded(table: np.ndarray) -> np.ndarray:
    """Numbers in which no rounding tells two apart."""
    texts = [f"{number:.{_DIGITS}g}" for number in table.flat]
    return np.array(texts, np.float64).reshape(table.shape)


def twice_ranks(table: np.ndarray) -> np.ndarray:
    """Ranks along axis 0, those of ties their mean, doubled: whole numbers.

    `2 * scipy.stats.rankdata`, whose import would be half the time of a study's end.
    """

    def of(column: np.ndarray) -> np.ndarray:
        ordered = np.sort(column)
        below = np.searchsorted(ordered, column, "left")
        not_above = np.searchsorted(ordered, column, "right")
        return below + not_above + 1

    return np.apply_along_axis(of, 0, table)


def signed_ranks(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Of all signs of the differences, the part whose ranks sum to as much or more.

    Two trials that are equal, or have both diverged, have the sign 0 (Pratt).

    Returns:
        p of both sides, and the sum over the largest that there could be, in [-1, 1]:
        the rank-biserial correlation, > 0 where the first is more.
    """
    difference = np.zeros(len(first))
    np.subtract(first, second, out=difference, where=first != second)
    signs = np.sign(difference).astype(np.int64)
    ranks = twice_ranks(rounded(np.abs(difference))) * np.abs(signs)
    parts = np.ones(1)  # of every sum, from all signs minus to all plus
    for rank in ranks:
        shift = (0, 2 * rank)
        parts = (np.pad(parts, shift) + np.pad(parts, shift[::-1])) / 2
    sums = np.arange(len(parts)) - ranks.sum()
    chance = float(parts[np.abs(sums) >= abs(signs @ ranks)].sum())
    return chance, float(signs @ ranks / max(ranks.sum(), 1))


def _friedman(table: np.ndarray) -> float:
    """Of all orders within the pairs, the part whose rank sums differ as much or more.

    How much the sums of a table differ is their sum of squares: their mean is fixed.
    Tables whose sums are the same but for the rows' order are counted together.
    """
    ranks = twice_ranks(table)
    ranks = ranks[:, np.ptp(ranks, axis=0) > 0]  # what is all equal tells nothing
    observed = np.sum(ranks.sum(1) ** 2)
    sums = np.sort(ranks[:, :1].sum(axis=1))[None]
    parts: np.ndarray = np.ones(1)
    for ranked in ranks.T[1:]:
        if len(sums) * math.factorial(len(table)) > _MOST:
            return _beta(ranks)
        orders = np.array(list(set(itertools.permutations(ranked.tolist()))))
        longer = np.sort((sums[:, None] + orders).reshape(-1, len(table)), axis=1)
        codes = longer @ (longer.max() + 1) ** np.arange(len(table))
        _, first, same = np.unique(codes, return_index=True, return_inverse=True)
        parts = np.bincount(same, np.repeat(parts / len(orders), len(orders)))
        sums = longer[first]
    return float(parts[np.sum(sums**2, axis=1) >= observed].sum())


def _beta(ranks: np.ndarray) -> float:
    """Friedman's p where there are too many orders: Kendall's W is nearly beta."""
    from scipy import stats

    rows, pairs = ranks.shape
    statistic = stats.friedmanchisquare(*ranks).statistic
    half = (rows - 1 - 2 / pairs) / 2
    most = pairs**2 * (rows**3 - rows) / 12  # sum of squares about their mean, W = 1
    squares = most * statistic / (pairs * (rows - 1))
    agreement = (squares - 1) / (most + 2)  # their correction for whole numbers
    return float(stats.beta.sf(agreement, half, (pairs - 1) * half))
