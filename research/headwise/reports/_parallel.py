"""A picture from weights to metrics: an axis each, a line a trial."""

import math
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _figures
from headwise.reports import _given
from headwise.reports import _groups

_MOST = 14
"""Axes that have room."""
_BELOW = -0.1
"""Where a trial stands that has no value."""


class _Axis(NamedTuple):
    name: str
    places: np.ndarray
    """[trials], from 0 to 1; below where there is no value."""
    ticks: list[tuple[float, str]]


def parallel_picture(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    ax: Any = None,
) -> Any:
    """From weights to metrics: an axis for each that varies, a line a trial.

    Axes run from the least to the greatest number, those of weights logarithmically
    where they span a factor of ten; what is a text has its values in their order. A
    line is coloured by the last metric, dark where that is better; trials that lack a
    number pass below its axis, and grey ones lack the last metric.

    Args:
        records: of `hw.sweeps.run` or `read`.
        higher: {metric: whether more is better}; they stand at the right.
        ax: matplotlib axes; None makes new ones.

    Returns:
        The axes. Needs matplotlib (`pip install "headwise[plots]"`).

    Raises:
        ValueError: no records; `higher` names a metric that they do not have.

    Example:
        >>> records = [hw.sweeps.record({"a": w}, 0, {"dice": w / 4}) for w in (1., 2.)]
        >>> ax = hw.reports.parallel_picture(records, {"dice": True})
        >>> [label.get_text().split()[0] for label in ax.get_xticklabels()]
        ['a', 'dice']
        >>> print(ax.lines[1].get_ydata())
        [1. 1.]
    """
    records = _given.records(records)
    _given.metrics(records, higher)
    axes = _axes(records, higher)
    if ax is None:
        ax = _figures.new_axes(1.6 + 1.3 * max(len(axes), 3), 4.2)
    from matplotlib import colormaps

    shades, last = colormaps["viridis_r"], axes[-1].places
    better = last if list(higher.values())[-1] else 1 - last
    for trial in np.argsort(better):  # the best ones on top
        shown = last[trial] >= 0
        colour = shades(better[trial]) if shown else "0.75"
        places = [axis.places[trial] for axis in axes]
        ax.plot(range(len(axes)), places, color=colour, lw=1, alpha=0.8)
    for i, axis in enumerate(axes):
        ax.axvline(i, color="0.3", lw=0.8, zorder=3)
        for place, text in axis.ticks:
            words = _figures.text(text, 14)
            ax.annotate(words, (i, place), (3, 1), textcoords="offset points", size=8)
    names = [_figures.text(axis.name, 18) for axis in axes]
    ways = [f"\n({'more' if more else 'less'} is better)" for more in higher.values()]
    ways = [""] * (len(axes) - len(ways)) + ways
    slant = {"rotation": 20, "ha": "left"} if len(axes) > 7 else {}
    labels = [
        name + way * (len(axes) <= 7) for name, way in zip(names, ways, strict=True)
    ]
    ax.set_xticks(range(len(axes)), labels, fontsize=9, **slant)
    ax.xaxis.tick_top()
    ax.set_yticks([])
    ax.set_xlim(-0.2, len(axes) - 0.4)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def _axes(records: list[Any], higher: Mapping[str, bool]) -> list[_Axis]:
    """Those of weights and settings that vary, then those of the metrics."""
    flat = [_given.flat(r["metrics"] or {}) for r in records]
    heads = sorted({name for r in records for name in r["weights"]})
    names = sorted({name for r in records for name in r["settings"]})
    columns = [(n, True, [r["weights"].get(n) for r in records]) for n in heads]
    columns += [(n, False, [r["settings"].get(n) for r in records]) for n in names]
    varying = [c for c in columns if len({repr(x) for x in c[2]}) > 1]
    room = max(_MOST - len(higher), 0)
    metrics = [(n, False, [row.get(n) for row in flat]) for n in higher]
    return [_axis(*column) for column in [*varying[:room], *metrics]]


def _axis(name: str, logarithmic: bool, values: list[Any]) -> _Axis:
    known = [x for x in values if x is not None]
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in known):
        texts = list(dict.fromkeys(str(x) for x in values))
        step = 1 / max(len(texts) - 1, 1)
        places = np.array([texts.index(str(x)) * step for x in values])
        return _Axis(name, places, [(i * step, t) for i, t in enumerate(texts)])
    x = np.array([math.nan if v is None else v for v in values], float)
    x[~np.isfinite(x)] = math.nan
    finite = x[np.isfinite(x)]
    if not len(finite):
        return _Axis(name, np.full(len(x), _BELOW), [(_BELOW, "none")])
    low, high = finite.min(), finite.max()
    if logarithmic and low > 0 and high / low >= 10:
        x, (start, end) = np.log10(x), np.log10([low, high])
    else:
        start, end = low, high
    places = (x - start) / (end - start) if end > start else np.where(x == x, 0.5, x)
    ticks = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
    if end == start:
        ticks = [(0.5, f"{low:.3g}")]
    missing = [(_BELOW, "none")] * bool(np.isnan(places).any())
    return _Axis(name, np.where(np.isnan(places), _BELOW, places), ticks + missing)
