"""The table of a sweep, for a terminal."""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _text
from headwise.reports import _fronts
from headwise.reports import _given
from headwise.reports import _groups
from headwise.reports import _numbers
from headwise.reports import _summary


def sweep_table(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    title: str = "",
    by: Sequence[str] | None = None,
) -> str:
    """A table: a weighting a row, mean ± spread over the seeds of each metric.

    `*` marks the best mean of a metric, and all that are written like it; `front` the
    rows that no other beats in all metrics. A metric has three digits after the point,
    or as many as tell small means apart.

    Args:
        records: of `hw.sweeps.run` or `read`.
        higher: {metric: whether more is better}; these metrics are shown.
        title: above the table; what all rows share is added, and what is pooled.
        by: what tells the rows apart: names of settings and heads, `"weights"` for
            all heads. None: the weights and every setting that varies.

    Returns:
        Lines of text; rows of settings that are too long to name are told below. A row
        says how many of its trials diverged, how many halving stopped early, and how
        many have a metric if not all.

    Raises:
        ValueError: no records; `higher` names a metric that they do not have; `by`
            holds a name that is neither a head nor a setting.

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
    records = _given.records(records)
    _given.metrics(records, higher)
    _, columns, _, rows = _summary.rows(records, by)
    best = {name: _numbers.best(rows, name, more) for name, more in higher.items()}
    write = {name: _numbers.writer(rows, name) for name in higher}
    on_front = _fronts.of_means(rows, higher)
    names, note = _groups.labels(rows, columns)
    if note:
        title = f"{title} ({note})".strip()
    cells = []
    for i, row in enumerate(rows):
        line = [names[i]]
        for name in higher:
            star = "* " if i in best[name] else ""
            line.append(star + _cell(row, name, write[name]))
        marks = ["front"] if on_front[i] else []
        if row["diverged"]:
            marks.append(f"{row['diverged']} diverged")
        if row["stopped"]:
            marks.append(f"{row['stopped']} stopped early")
        cells.append([*line, ", ".join(marks + _partly(row, higher))])
    table = _text.table([_groups.words(rows, columns).title, *higher, ""], cells, title)
    below = _groups.legend(rows, columns)
    if not any(row["count"] for row in rows):
        lost = sum(row["diverged"] for row in rows)
        all_ = "all" if lost == len(records) else f"{lost} of"
        below.append(f"no finite trial: {all_} {len(records)} diverged")
    return "\n".join([table, "", *below]) if below else table


def _cell(row: Mapping[str, Any], name: str, write: Callable[[float], str]) -> str:
    if name not in row["mean"]:
        return "-"
    if math.isnan(row["std"][name]):
        return write(row["mean"][name])
    return f"{write(row['mean'][name])} ± {write(row['std'][name])}"


def _partly(row: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The metrics that only some of the finite trials of a row have."""
    counts = {
        n: sum(not math.isnan(x) for x in row["metrics"].get(n, ())) for n in names
    }
    of = row["count"]
    return [f"{n} of {count} in {of}" for n, count in counts.items() if 0 < count < of]
