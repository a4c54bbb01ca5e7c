"""Means and spreads over the seeds, as data."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise.reports import _groups


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested metrics as {"a/b": float}; what was not finite is NaN."""
    columns: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            columns |= flat(value, f"{prefix}{name}/")
        else:
            columns[prefix + name] = np.nan if value is None else float(value)
    return columns


def summary(
    records: Iterable[_groups.Record], by: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Per weighting: mean and standard deviation of every metric over the seeds.

    Args:
        records: of `hw.sweeps.run` or `read`. Trials that are not finite are left out
            of the statistics and counted in `diverged`.
        by: what tells the rows apart: names of settings and heads, `"weights"` for
            all heads. None: the weights and every setting that varies.

    Returns:
        One dict a row, in the order of the records: {"weights", "settings" (those in
        which all its records agree), "pooled" (names of those in which they differ),
        "count", "diverged", "mean" {metric: float}, "std" {metric: float}, "metrics"
        {metric: list}}; std is that of a sample (divisor n - 1), NaN for one trial.

    Raises:
        ValueError: `by` holds a name that is neither a head nor a setting.

    Example:
        >>> records = [
        ...     {"weights": {"a": 1.0}, "seed": s, "finite": True, "metrics": {"m": m}}
        ...     for s, m in enumerate([1.0, 3.0])
        ... ]
        >>> row = hw.reports.summary(records)[0]
        >>> print(row["mean"], row["std"]["m"] == 2**0.5)
        {'m': 2.0} True
    """
    records = list(records)
    groups = _groups.grouped(records, _groups.columns(records, by))
    return [_row(group) for group in groups.values()]


def _row(group: Sequence[_groups.Record]) -> dict[str, Any]:
    finite = [flat(record["metrics"]) for record in group if record["finite"]]
    names = list(finite[0]) if finite else []
    columns = {name: [metrics[name] for metrics in finite] for name in names}
    return {
        "weights": _groups.shared(group, "weights"),
        "settings": _groups.shared(group, "settings"),
        "pooled": [name for _, name in _groups.pooled([group])],
        "count": len(finite),
        "diverged": len(group) - len(finite),
        "metrics": columns,
        "mean": {n: float(np.mean(c)) for n, c in columns.items()},
        "std": {
            n: float(np.std(c, ddof=1)) if len(c) > 1 else float("nan")
            for n, c in columns.items()
        },
    }
