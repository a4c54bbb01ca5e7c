"""Pictures of a sweep: the trade-off between two metrics, and metrics by weighting."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks
from headwise import _figures
from headwise import pareto
from headwise.reports import _fronts
from headwise.reports import _given
from headwise.reports import _groups
from headwise.reports import _numbers
from headwise.reports import _summary

_NAMED = 10
"""Up to so many points have a colour and a name each; of more, those on the front."""
_NUMBERED = 15
"""So many of these at most: the legend has no room for more."""
_NOTHING = "no finite trial"


def front_picture(
    records: Iterable[_groups.Record],
    x: str,
    y: str,
    higher: Mapping[str, bool],
    ax: Any = None,
    by: Sequence[str] | None = None,
) -> Any:
    """Two metrics against each other: a point a weighting, its seeds as small dots.

    The line joins the means on the Pareto front of the two; filled points are on that
    of all metrics in `higher`, as `sweep_table` marks them. Bars are one standard
    deviation over the seeds. Of more than 10 weightings, those on the line have a
    number and a name (at most 15), the others are grey.

    Args:
        records: of `hw.sweeps.run` or `read`.
        x, y: metrics.
        higher: {metric: whether more is better}.
        ax: matplotlib axes; None makes new ones.
        by: what tells the points apart: names of settings and heads, `"weights"` for
            all heads. None: the weights and every setting that varies.

    Returns:
        The axes.

    Raises:
        ValueError: no records; `higher` names a metric that they do not have, or lacks
            `x` or `y`.
    """
    records = _given.records(records)
    _given.metrics(records, higher)
    _checks.known_names("x and y: of `higher`", higher, (x, y))
    if ax is None:
        ax = _figures.new_axes(7.6, 4.4)
    _, columns, _, rows = _summary.rows(records, by)
    names, note = _groups.labels(rows, columns)
    means = _fronts.means(rows, [x, y])
    on_front = _fronts.of_means(rows, higher)
    line = np.flatnonzero(pareto.front(means, [higher[x], higher[y]]))
    line = line[np.argsort(means[line, 0], kind="stable")]
    drawn = np.flatnonzero(~np.isnan(means).any(axis=1))
    ax.set_xlabel(f"{_figures.text(x)} ({_better(higher[x])})")
    ax.set_ylabel(f"{_figures.text(y)} ({_better(higher[y])})")
    if not len(drawn):
        ax.text(0.5, 0.5, _NOTHING, ha="center", va="center", transform=ax.transAxes)
        return ax
    few = len(drawn) <= _NAMED
    named = drawn if few else _spread_over(line, _NUMBERED)
    handles, labels = ax.plot(*means[line].T, color="0.6", lw=1.5, zorder=1), ["front"]
    if len(higher) > 2:
        handles += ax.plot([], [], "o", color="0.6", ms=5)
        labels = ["front of these two", f"filled: front of all {len(higher)}"]
    others = [i for i in drawn if i not in named]
    for i in others:
        bars = _point(ax, rows[i], (x, y), "0.75", filled=on_front[i], ms=4)
    if others:
        handles.append(bars)
        labels.append(f"{len(others)} others")
    colours = _figures.colours(len(named))
    for number, (i, colour) in enumerate(zip(named, colours, strict=True), start=1):
        bars = _point(ax, rows[i], (x, y), colour, filled=on_front[i], ms=7)
        name = _figures.text(names[i])
        handles.append(bars)
        labels.append(name if few else f"{number}: {name}")
        if not few:
            ax.annotate(
                str(number),
                means[i],
                (5, 4),
                textcoords="offset points",
                fontsize=8,
                fontweight="bold",
            )
    ax.legend(
        handles,
        labels,
        title=_figures.text(note) or None,
        fontsize=8,
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    return ax


def _point(
    ax: Any,
    row: Mapping[str, Any],
    metrics: tuple[str, str],
    colour: Any,
    filled: bool,
    ms: int,
) -> Any:
    """A row's mean with its deviations, and its trials as dots; the bars' handle."""
    ax.plot(*(row["metrics"][m] for m in metrics), ".", color=colour, alpha=0.4, ms=4)
    spread = [np.nan_to_num(row["std"][m]) for m in metrics]
    return ax.errorbar(
        *(row["mean"][m] for m in metrics),
        xerr=spread[0],
        yerr=spread[1],
        fmt="o" if filled else "s",
        mfc=colour if filled else "white",
        color=colour,
        ms=ms,
        lw=1,
    )


def _spread_over(line: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the entries, from the first to the last."""
    if len(line) <= most:
        return line
    return line[np.linspace(0, len(line) - 1, most).round().astype(int)]


def _better(more: bool) -> str:
    return f"{'more' if more else 'less'} is better"


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

    Raises:
        ValueError: no records, or `higher` names a metric that they do not have.
    """
    records = _given.records(records)
    _given.metrics(records, higher)
    _, columns, _, rows = _summary.rows(records, by)
    labels, _ = _groups.labels(rows, columns)
    shown = [i for i, row in enumerate(rows) if set(row["mean"]) & set(higher)]
    if figure is None:
        height = 1.2 + 0.3 * max(len(shown), 1)
        figure = _figures.new_axes(3.0 + 2.6 * len(higher), height).figure
        figure.clear()
    if not shown:
        figure.text(0.5, 0.5, _NOTHING, ha="center", va="center")
        return figure
    axes = figure.subplots(1, len(higher), sharey=True, squeeze=False)[0]
    ticks = [_figures.text(labels[i]) for i in shown]
    y = np.arange(len(shown))[::-1]
    for ax, (name, more) in zip(axes, higher.items(), strict=True):
        best = _numbers.best(rows, name, more)
        for i, height in zip(shown, y, strict=True):
            if name in rows[i]["mean"]:
                ax.errorbar(
                    rows[i]["mean"][name],
                    height,
                    xerr=np.nan_to_num(rows[i]["std"][name]),
                    fmt="o",
                    color=_figures.OKABE_ITO[2] if i in best else "0.45",
                    capsize=2,
                )
        ax.set_title(f"{_figures.text(name, 28)}\n{_better(more)}", fontsize=9)
        ax.set_yticks(y, ticks, fontsize=8)
        ax.set_ylim(-0.7, len(shown) - 0.3)
        ax.grid(axis="x", alpha=0.3)
    return figure
