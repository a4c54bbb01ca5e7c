"""A picture of what a weight buys: a metric against each weight."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from headwise import _checks
from headwise import _figures
from headwise.reports import _given
from headwise.reports import _groups

_MOST = 12
"""Panels that have room."""


def responses_picture(
    records: Iterable[_groups.Record], metric: str, figure: Any = None
) -> Any:
    """A metric against each weight that varies: a dot a trial, a line through medians.

    The other weights vary beside it, so that the dots of a level are spread. The line
    joins the medians of the levels, where these are few (at most 40, and at most half
    as many as trials). A weight's axis is logarithmic where it spans a factor of ten.

    Args:
        records: of `hw.sweeps.run` or `read`.
        metric: its name; trials without it are left out.
        figure: a matplotlib (sub)figure; None makes a new one.

    Returns:
        The figure, a panel a weight (at most 12). Needs matplotlib
        (`pip install "headwise[plots]"`).

    Raises:
        ValueError: no records, no such metric, or no weight that varies.

    Example:
        >>> records = [hw.sweeps.record({"a": w}, s, {"dice": w + s})
        ...            for w in (0.1, 1.0) for s in (0, 1, 2)]
        >>> figure = hw.reports.responses_picture(records, "dice")
        >>> print(figure.axes[0].lines[1].get_ydata(), figure.axes[0].get_xscale())
        [1.1 2. ] log
    """
    records = _given.records(records)
    values = [_given.flat(r["metrics"] or {}) for r in records]
    _checks.known_names("metric", {name for row in values for name in row}, [metric])
    heads = sorted({name for r in records for name in r["weights"]})
    levels = {n: {r["weights"].get(n) for r in records} - {None} for n in heads}
    varying = [name for name in heads if len(levels[name]) > 1][:_MOST]
    if not varying:
        raise ValueError("records: expected a weight that varies, got none")
    rows = [
        (record["weights"], row[metric])
        for record, row in zip(records, values, strict=True)
        if np.isfinite(row.get(metric, np.nan))
    ]
    across = min(len(varying), 4)
    down = -(-len(varying) // across)
    if figure is None:
        figure = _figures.new_axes(1.0 + 2.6 * across, 0.6 + 2.4 * down).figure
        figure.clear()
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax, name in zip(axes.flat, varying, strict=False):
        known = [(w[name], y) for w, y in rows if name in w]
        x, y = np.array(known, float).reshape(-1, 2).T
        ax.plot(x, y, ".", color=_figures.OKABE_ITO[0], alpha=0.5, ms=5)
        places = np.unique(x)
        if len(places) <= min(40, len(records) / 2):
            medians = [np.median(y[x == place]) for place in places]
            ax.plot(places, medians, "D-", color="0.15", lw=1.5, ms=5)
        if len(places) and places[0] > 0 and places[-1] / places[0] >= 10:
            ax.set_xscale("log")
        ax.set_xlabel(f"weight of {_figures.text(name, 20)}", fontsize=9)
        ax.grid(alpha=0.3)
    for ax in axes.flat[len(varying) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(_figures.text(metric, 24), fontsize=9)
    return figure
