"""Weightings compared seed by seed: what differs, what is best, how sure that is."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headwise import _checks
from headwise import _records
from headwise.reports import _chance
from headwise.reports import _given
from headwise.reports import _groups
from headwise.reports import _intervals
from headwise.reports import _ranks
from headwise.reports import _summary


class Comparison(NamedTuple):
    """The rows of one metric, compared pair by pair; made by `hw.reports.compare`.

    A pair is a seed, or where settings are pooled a seed and their values.
    """

    labels: list[str]
    """Of the rows that are compared."""
    rows: list[int]
    """Their places in `summary`: all that have the metric, or diverged throughout."""
    values: np.ndarray
    """[rows, pairs]; infinitely bad where a trial diverged."""
    more: bool
    """Whether more is better."""
    left_out: int
    """Pairs that not all rows have."""
    level: float
    """Probability of chance below which a difference is one."""
    least: float
    """The least p that so many rows and pairs can have."""
    p: float
    """That the rows do not differ: Friedman's test, Wilcoxon's for two. NaN where
    fewer than two rows or no pair is left."""
    adjusted: float
    """p, corrected for all metrics that are compared (Benjamini and Hochberg); NaN
    where `least` is not below the level: it could show nothing."""
    ranks: np.ndarray
    """[rows]: mean rank over the pairs, 1 is best; one that diverged ranks last."""
    leaders: list[int]
    """Rows among which the best is, the best in ranks first; one alone is the best."""
    needed: int | None
    """Pairs, those that are there counted, that would tell: that the rows differ, if
    that is open, or else which is best. None: all is told, or nobody can say."""

    @property
    def critical(self) -> float:
        """Mean ranks that differ by more differ at the level (Nemenyi)."""
        rows, pairs = self.values.shape
        return _ranks.critical_difference(rows, pairs, self.level)

    @property
    def iqm(self) -> np.ndarray:
        """[rows]: means of the middle half of four pairs or more, else NaN."""
        return np.array([_intervals.iqm(row) for row in self.values])

    def nemenyi(self) -> np.ndarray:
        """[rows, rows]: p of every two rows, corrected for all of them (Nemenyi)."""
        return _ranks.nemenyi(self.ranks, self.values.shape[1])

    def difference(self, i: int, j: int) -> tuple[float, float, float]:
        """Row i less row j by pairs: mean and interval (BCa), of four pairs or more.

        The interval is that of two rows that were named before; of the best, which was
        looked for, see `held_out`.
        """
        return self._mean(_intervals.paired(self.values[i], self.values[j]))

    def held_out(self) -> tuple[float, float, float]:
        """How much better the best row is than the worst, where others chose them.

        In every pair the two are compared that are best and worst in the means of all
        other pairs.

        Returns:
            Mean and interval; NaN below four pairs.
        """
        if self.values.shape[1] < _intervals.FEWEST:
            return np.nan, np.nan, np.nan
        return self._mean(_intervals.held_out(_costs(self.values, self.more)))

    def _mean(self, differences: np.ndarray) -> tuple[float, float, float]:
        with np.errstate(invalid="ignore"):
            mean = float(np.mean(differences)) if len(differences) else np.nan
        return (mean, *_intervals.of_mean(differences, self.level))


def compare(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    level: float = 0.05,
    by: Sequence[str] | None = None,
) -> dict[str, Comparison]:
    """Weightings compared seed by seed, metric by metric: what `verdict` says, as data.

    Args:
        records, higher, level, by: as in `verdict`.

    Returns:
        {metric: `Comparison`}, in the order of `higher`.

    Raises:
        ValueError, TypeError: as `verdict`.

    Example:
        >>> records = [
        ...     {"weights": {"a": w}, "seed": s, "finite": True,
        ...      "metrics": {"dice": 0.1 * w + 0.5 * s}}
        ...     for w in (1.0, 2.0, 3.0) for s in range(4)
        ... ]
        >>> dice = hw.reports.compare(records, {"dice": True})["dice"]
        >>> print(dice.labels, dice.ranks, round(dice.p, 4))     # 1 / (3!)^3
        ['a=1', 'a=2', 'a=3'] [3. 2. 1.] 0.0046
        >>> print([round(x, 3) for x in dice.difference(2, 0)])
        [0.2, 0.2, 0.2]
        >>> dice.leaders, dice.needed    # the best is told by 2 / 2^7 < 0.05 / 2
        ([2, 1], 7)

    References:
        Demsar, "Statistical comparisons of classifiers over multiple data sets",
        JMLR 2006. Benjamini and Hochberg, "Controlling the false discovery rate",
        JRSS B 1995.
    """
    return of_rows(rows(records, higher, level, by), higher, level)


def rows(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    level: float,
    by: Sequence[str] | None,
) -> _summary.Rows:
    """The rows of what `compare` and `verdict` are given, which is checked."""
    _checks.in_range("level", level, "a number in (0, 1]", lambda x: 0 < x <= 1)
    records = _given.records(records)
    _given.metrics(records, higher)
    return _summary.rows(records, by)


def of_rows(
    given: _summary.Rows, higher: Mapping[str, bool], level: float
) -> dict[str, Comparison]:
    """`compare` of rows that are there."""
    labels, _ = _groups.labels(given.summary, given.columns)
    groups = list(given.groups.values())
    pooled = _groups.pooled(groups)
    found = {
        name: _compared(groups, pooled, labels, name, more, level)
        for name, more in higher.items()
    }
    tested = [c.p if c.least < level else np.nan for c in found.values()]
    return {
        name: _told(one._replace(adjusted=float(chance)))
        for (name, one), chance in zip(
            found.items(), _ranks.adjusted(tested), strict=True
        )
    }


def _told(one: Comparison) -> Comparison:
    """With the rows that may be best, and the pairs that would tell."""
    costs = _costs(one.values, one.more)
    if np.isnan(one.adjusted):
        return one
    if one.adjusted >= one.level:
        return one._replace(needed=_ranks.pairs_for_a_difference(costs, one.level))
    leaders = _ranks.leaders(costs, one.level)
    needed = None
    if len(leaders) > 1:
        needed = _ranks.pairs_for_the_best(costs, one.level, leaders)
    return one._replace(leaders=leaders, needed=needed)


def _compared(
    groups: Sequence[Sequence[_groups.Record]],
    pooled: Sequence[_groups.Column],
    labels: Sequence[str],
    metric: str,
    more: bool,
    level: float,
) -> Comparison:
    """One metric, as yet alone."""
    rows, values, left_out = _paired(groups, pooled, metric, more)
    costs = _costs(values, more)
    count, pairs = values.shape
    ranks = _ranks.mean_ranks(costs)
    whole = count > 1 and pairs > 0
    return Comparison(
        labels=[labels[i] for i in rows],
        rows=rows,
        values=values,
        more=more,
        left_out=left_out,
        level=level,
        least=_chance.least(count, pairs) if whole else 1.0,
        p=_chance.probability(costs) if whole else np.nan,
        adjusted=np.nan,
        ranks=ranks,
        leaders=[int(i) for i in np.argsort(ranks, kind="stable")],
        needed=_chance.pairs_needed(count, level) if count > 1 else None,
    )


def _costs(values: np.ndarray, more: bool) -> np.ndarray:
    return -values if more else values


def _paired(
    groups: Sequence[Sequence[_groups.Record]],
    pooled: Sequence[_groups.Column],
    metric: str,
    more: bool,
) -> tuple[list[int], np.ndarray, int]:
    """The trials of a metric by what agrees but in what is compared.

    That is a seed, and where settings or weights are pooled a seed and their values.
    """
    worst = -np.inf if more else np.inf
    rows, every = [], []
    for i, group in enumerate(groups):
        row, whole = {}, False
        for record in group:
            if _records.halved(record):  # neither the worst nor a result
                continue
            pair = (record["seed"], *_groups.key(record, pooled))
            metrics = _given.flat(record["metrics"]) if record["finite"] else {}
            if metric in metrics or not record["finite"]:
                value = metrics.get(metric, np.nan)
                row[pair] = worst if np.isnan(value) else value
            whole |= metric in metrics
        if whole or not any(r["finite"] or _records.halved(r) for r in group):
            rows.append(i)
            every.append(row)
    anywhere = dict.fromkeys(pair for row in every for pair in row)
    pairs = [p for p in anywhere if all(p in row for row in every)]
    table = np.array([[row[pair] for pair in pairs] for row in every], np.float64)
    return rows, table.reshape(len(rows), len(pairs)), len(anywhere) - len(pairs)
