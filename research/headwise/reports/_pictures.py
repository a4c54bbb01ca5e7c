"""Pictures of a sweep: the trade-off between two metrics, and metrics by weighting."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _figures
from headwise import pareto
from headwise.reports import _groups
from headwise.reports import _summary


def front_picture(
    records: Iterable[_groups.Record],
    x: str,
    y: str,
    higher: Mapping[str, bool],
    ax: Any = None,
    by: Sequence[str] | None = None,
) -> Any:
    """Two metrics against each other: a point a weighting, its seeds as small dots.

    The line joins the means on the Pareto front of the two; bars are one standard
    deviation over the seeds.

    Args:
        records: of `hw.sweeps.run` or `read`.
        x, y: metrics.
        higher: {metric: whether more is better}.
        ax: matplotlib axes; None makes new ones.
        by: what tells the points apart: names of settings and heads, `"weights"` for
            all heads. None: the weights and every setting that varies.

    Returns:
        The axes.
    """
    if ax is None:
        ax = _figures.new_axes(7.6, 4.4)
    records = list(records)
    rows = _summary.summary(records, by)
    rows = [row for row in rows if x in row["mean"] and y in row["mean"]]
    means = np.array([[r["mean"][x], r["mean"][y]] for r in rows]).reshape(-1, 2)
    on_front = pareto.front(means, [higher[x], higher[y]])
    names, note = _groups.labels(rows, _groups.columns(records, by))
    order = np.argsort(means[on_front, 0])
    ax.plot(*means[on_front][order].T, color="0.6", lw=1.5, zorder=1, label="front")
    for i, row in enumerate(rows):
        colour = f"C{i % 10}"
        ax.plot(
            row["metrics"][x], row["metrics"][y], ".", color=colour, alpha=0.4, ms=4
        )
        spread = [np.nan_to_num(row["std"][m]) for m in (x, y)]
        ax.errorbar(
            *means[i],
            xerr=spread[0],
            yerr=spread[1],
            fmt="o" if on_front[i] else "s",
            mfc=colour if on_front[i] else "white",
            color=colour,
            ms=7,
            lw=1,
            label=names[i],
        )
    for metric, name in ((x, ax.set_xlabel), (y, ax.set_ylabel)):
        name(f"{metric} ({'more' if higher[metric] else 'less'} is better)")
    ax.legend(
        title=note or None,
        fontsize=8,
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    return ax


def weights_picture(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    figure: Any = None,
    by: Sequence[str] | None = None,
) -> Any:
    """One panel a metric: mean and spread for every weighting, best in colour.

    Args:
        records: of `hw.sweeps.run` or `read`.
        higher: {metric: whether more is better}.
        figure: a matplotlib (sub)figure; None makes a new one.
        by: what tells the rows apart: names of settings and heads, `"weights"` for
            all heads. None: the weights and every setting that varies.

    Returns:
        The figure.
    """
    records = list(records)
    rows = [row for row in _summary.summary(records, by) if row["mean"]]
    if figure is None:
        height = 1.0 + 0.3 * len(rows)
        figure = _figures.new_axes(3.0 + 2.6 * len(higher), height).figure
        figure.clear()
    axes = figure.subplots(1, len(higher), sharey=True, squeeze=False)[0]
    labels, _ = _groups.labels(rows, _groups.columns(records, by))
    y = np.arange(len(rows))[::-1]
    for ax, (name, more) in zip(axes, higher.items(), strict=True):
        means = np.array([row["mean"][name] for row in rows])
        spread = np.nan_to_num([row["std"][name] for row in rows])
        best = means.argmax() if more else means.argmin()
        for i in range(len(rows)):
            colour = "C2" if i == best else "0.45"
            ax.errorbar(
                means[i], y[i], xerr=spread[i], fmt="o", color=colour, capsize=2
            )
        ax.set_title(f"{name} ({'more' if more else 'less'} is better)", fontsize=9)
        ax.set_yticks(y, labels, fontsize=8)
        ax.grid(axis="x", alpha=0.3)
    return figure
