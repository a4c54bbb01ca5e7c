"""Means and spreads over the seeds, as data and as a table."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _text
from headwise import pareto

Record = Mapping[str, Any]


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested metrics as {"a/b": float}; what was not finite is NaN."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = np.nan if value is None else float(value)
    return found


def weighting(weights: Mapping[str, float], digits: int = 6) -> str:
    """A weighting in one word: `a=1 b=0.3`."""
    return " ".join(f"{name}={w:.{digits}g}" for name, w in sorted(weights.items()))


def labels(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """A short name for every weighting, and what is the same in all of them.

    Only weights that vary are named; `weighting 1`, ... where that would be too long.
    """
    columns = {n: {row["weights"][n] for row in rows} for n in rows[0]["weights"]}
    varied = [name for name, found in columns.items() if len(found) > 1]
    fixed = {n: next(iter(f)) for n, f in columns.items() if n not in varied}
    if not varied:
        return [weighting(row["weights"]) for row in rows], ""
    parts = [{name: row["weights"][name] for name in varied} for row in rows]
    names = [weighting(part, digits=3) for part in parts]
    if len(set(names)) < len(names):
        names = [weighting(part) for part in parts]
    if max(map(len, names)) > 40:
        names = [f"weighting {i + 1}" for i in range(len(rows))]
    return names, weighting(fixed)


def summary(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Per weighting: mean and standard deviation of every metric over the seeds.

    Args:
        records: of `hw.sweeps.run`. Trials that are not finite are left out of the
            statistics and counted in `diverged`.

    Returns:
        One dict a weighting, in the order of the records: {"weights", "count",
        "diverged", "mean" {metric: float}, "std" {metric: float}, "metrics"
        {metric: list}}; std is that of a sample (divisor n - 1), NaN for one seed.

    Example:
        >>> records = [
        ...     {"weights": {"a": 1.0}, "seed": s, "finite": True, "metrics": {"m": m}}
        ...     for s, m in enumerate([1.0, 3.0])
        ... ]
        >>> row = hw.reports.summary(records)[0]
        >>> print(row["mean"], row["std"]["m"] == 2**0.5)
        {'m': 2.0} True
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(weighting(record["weights"]), []).append(record)
    rows = []
    for group in groups.values():
        good = [flat(r["metrics"]) for r in group if r["finite"]]
        names = list(good[0]) if good else []
        columns = {name: [metrics[name] for metrics in good] for name in names}
        rows.append(
            {
                "weights": dict(group[0]["weights"]),
                "count": len(good),
                "diverged": len(group) - len(good),
                "metrics": columns,
                "mean": {n: float(np.mean(c)) for n, c in columns.items()},
                "std": {
                    n: float(np.std(c, ddof=1)) if len(c) > 1 else float("nan")
                    for n, c in columns.items()
                },
            }
        )
    return rows


def sweep_table(
    records: Iterable[Record], higher: Mapping[str, bool], title: str = ""
) -> str:
    """A table: a weighting a row, mean ± spread over the seeds of each metric.

    `*` marks the best mean of a metric, `front` the weightings that no other beats in
    all metrics.

    Args:
        records: of `hw.sweeps.run`.
        higher: {metric: whether more is better}; these metrics are shown.
        title: above the table.

    Example:
        >>> records = [
        ...     {"weights": {"a": w}, "seed": 0, "finite": True, "metrics": {"m": w}}
        ...     for w in (1.0, 2.0)
        ... ]
        >>> print(hw.reports.sweep_table(records, {"m": True}))
        weights         m
        ─────────────────────────
        a=1         1.000
        a=2       * 2.000   front
    """
    rows = summary(records)
    best = {name: _best(rows, name, more) for name, more in higher.items()}
    means = [[row["mean"].get(name, np.nan) for name in higher] for row in rows]
    on_front = pareto.front(means, list(higher.values()))
    names, fixed = labels(rows)
    if fixed:
        title = f"{title} ({fixed} throughout)".strip()
    cells = []
    for i, row in enumerate(rows):
        line = [names[i]]
        for name in higher:
            line.append(("* " if best[name] == i else "") + _cell(row, name))
        note = "front" if on_front[i] else ""
        if row["diverged"]:
            note = f"{note} {row['diverged']} diverged".strip()
        cells.append([*line, note])
    return _text.table(["weights", *higher, ""], cells, title)


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name not in row["mean"]:
        return "-"
    if row["count"] < 2:
        return f"{row['mean'][name]:.3f}"
    return f"{row['mean'][name]:.3f} ± {row['std'][name]:.3f}"


def _best(rows: Sequence[Mapping[str, Any]], name: str, more: bool) -> int | None:
    known = [i for i, row in enumerate(rows) if name in row["mean"]]
    if not known:
        return None
    return (max if more else min)(known, key=lambda i: rows[i]["mean"][name])
