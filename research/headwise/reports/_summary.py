"""Means and spreads over the seeds, as data."""

import math
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _records
from headwise.reports import _given
from headwise.reports import _groups


class Rows(NamedTuple):
    """Records, and the rows of a report that they fall into."""

    records: Sequence[_groups.Record]
    columns: list[_groups.Column]
    """What tells the rows apart."""
    groups: dict[tuple[str, ...], list[_groups.Record]]
    """The records of each row, by what they have in the columns."""
    summary: list[dict[str, Any]]
    """Of each row, in the order of the groups."""


def summary(
    records: Iterable[_groups.Record], by: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Per weighting: mean and standard deviation of every metric over the seeds.

    Args:
        records: of `hw.sweeps.run` or `read`. Trials that are not finite are left out
            of the statistics and counted in `diverged`, or in `stopped` if halving
            stopped them; so is, of one metric, a trial that lacks it.
        by: what tells the rows apart: names of settings and heads, `"weights"` for
            all heads. None: the weights and every setting that varies.

    Returns:
        One dict a row, in the order of the records: {"weights", "settings" (those in
        which all its records agree), "pooled" (names of those in which they differ),
        "count", "diverged", "stopped",
        "mean" {metric: float}, "std" {metric: float}, "metrics"
        {metric: list}}; std is that of a sample (divisor n - 1), NaN for one value.
        The lists have an entry for each of the `count` finite trials, NaN where it has
        no value; a metric without any has no mean.

    Raises:
        ValueError, TypeError: something that is no record. ValueError: `by` holds a
            name that is neither a head nor a setting.

    Example:
        >>> records = [
        ...     {"weights": {"a": 1.0}, "seed": s, "finite": True, "metrics": {"m": m}}
        ...     for s, m in enumerate([1.0, 3.0])
        ... ]
        >>> row = hw.reports.summary(records)[0]
        >>> print(row["mean"], row["std"]["m"] == 2**0.5)
        {'m': 2.0} True
    """
    return rows(_given.records(records), by).summary


def rows(records: Sequence[_groups.Record], by: Sequence[str] | None = None) -> Rows:
    """The rows of checked records: what is to be computed once a report."""
    columns = _groups.columns(records, by)
    groups = _groups.grouped(records, columns)
    return Rows(records, columns, groups, [_row(one) for one in groups.values()])


def _row(group: Sequence[_groups.Record]) -> dict[str, Any]:
    finite = [_given.flat(record["metrics"]) for record in group if record["finite"]]
    stopped = sum(map(_records.halved, group))
    names = dict.fromkeys(name for metrics in finite for name in metrics)
    columns = {n: [metrics.get(n, math.nan) for metrics in finite] for n in names}
    values = {n: [v for v in c if not math.isnan(v)] for n, c in columns.items()}
    values = {n: c for n, c in values.items() if c}
    pooled = _groups.pooled([group])
    return {
        "weights": _groups.shared(group, "weights", pooled),
        "settings": _groups.shared(group, "settings", pooled),
        "pooled": [name for _, name in pooled],
        "count": len(finite),
        "diverged": len(group) - len(finite) - stopped,
        "stopped": stopped,
        "metrics": columns,
        "mean": {n: float(np.mean(c)) for n, c in values.items()},
        "std": {
            n: float(np.std(c, ddof=1)) if len(c) > 1 else math.nan
            for n, c in values.items()
        },
    }
