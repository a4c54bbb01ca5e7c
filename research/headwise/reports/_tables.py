"""The table of a sweep, for a terminal."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _text
from headwise import pareto
from headwise.reports import _groups
from headwise.reports import _summary


def sweep_table(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    title: str = "",
    by: Sequence[str] | None = None,
) -> str:
    """A table: a weighting a row, mean ± spread over the seeds of each metric.

    `*` marks the best mean of a metric, `front` the rows that no other beats in all
    metrics.

    Args:
        records: of `hw.sweeps.run` or `read`.
        higher: {metric: whether more is better}; these metrics are shown.
        title: above the table; what all rows share is added, and what is pooled.
        by: what tells the rows apart: names of settings and heads, `"weights"` for
            all heads. None: the weights and every setting that varies.

    Returns:
        Lines of text; rows of settings that are too long to name are told below.

    Raises:
        ValueError: `by` holds a name that is neither a head nor a setting.

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
    records = list(records)
    rows = _summary.summary(records, by)
    columns = _groups.columns(records, by)
    best = {name: _best(rows, name, more) for name, more in higher.items()}
    means = [[row["mean"].get(name, np.nan) for name in higher] for row in rows]
    on_front = pareto.front(means, list(higher.values()))
    names, note = _groups.labels(rows, columns)
    if note:
        title = f"{title} ({note})".strip()
    cells = []
    for i, row in enumerate(rows):
        line = [names[i]]
        for name in higher:
            line.append(("* " if best[name] == i else "") + _cell(row, name))
        mark = "front" if on_front[i] else ""
        if row["diverged"]:
            mark = f"{mark} {row['diverged']} diverged".strip()
        cells.append([*line, mark])
    table = _text.table([_groups.words(rows, columns).title, *higher, ""], cells, title)
    legend = _groups.legend(rows, columns)
    return "\n".join([table, "", *legend]) if legend else table


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
