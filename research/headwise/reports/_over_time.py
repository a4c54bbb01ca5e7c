"""Pictures of what happens on the way: curves of heads, and heads by modules."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks
from headwise import _figures
from headwise.reports import _given


def curves_picture(
    curves: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    what: str = "values",
    ax: Any = None,
) -> Any:
    """Raw values (or weights) of every head over the steps, a line a head.

    Args:
        curves: what a trial reported, of `hw.sweeps.curves`; or the records of a run,
            of `hw.training.fit` or `read_metrics`.
        what: `"values"` or `"weights"`, or another entry that holds a number a head.
        ax: matplotlib axes; None makes new ones. The scale of y is logarithmic where
            all numbers are positive.

    Returns:
        The axes. Needs matplotlib (`pip install "headwise[plots]"`).

    Raises:
        ValueError: there is no such entry, or no number a head in it.

    Example:
        >>> curves = {"t": [0, 10], "values": {"a": [2.0, 1.0], "b": [1.0, 0.1]}}
        >>> ax = hw.reports.curves_picture(curves)
        >>> [line.get_label() for line in ax.lines], ax.get_yscale()
        (['a', 'b'], 'log')
    """
    t, heads = _series(curves, what)
    if ax is None:
        ax = _figures.new_axes(6.4, 3.6)
    known = _figures.OKABE_ITO
    for i, (head, values) in enumerate(heads.items()):
        style = ("-", "--", ":")[i // len(known) % 3]
        colour = known[i % len(known)]
        ax.plot(t, values, style, color=colour, lw=1.5, label=_figures.text(head))
    every = np.concatenate(list(heads.values()))
    if np.all(every[np.isfinite(every)] > 0):
        ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel({"values": "raw value", "weights": "weight"}.get(what, what))
    if len(heads) <= 20:
        ax.legend(fontsize=8, frameon=False)
    return ax


def heads_picture(
    history: Sequence[Mapping[str, Any]],
    head: str,
    what: str = "share",
    ax: Any = None,
) -> Any:
    """What a head does to every module over the steps, as a map of colours.

    Args:
        history: records of a run with contributions, of `hw.training.fit` or
            `read_metrics`; those without are passed over.
        head: whose.
        what: `"share"` of the update (blue with it, orange against it), or `"norm"` of
            the gradient (logarithm to base 10).
        ax: matplotlib axes; None makes new ones.

    Returns:
        The axes. Needs matplotlib (`pip install "headwise[plots]"`).

    Raises:
        ValueError: no record holds contributions; no such head; `what` is another.

    Example:
        >>> record = {"step": 1, "contributions": {
        ...     "trunk": {"a": {"norm": 10.0, "share": 1.0}}}}
        >>> ax = hw.reports.heads_picture([record], "a", what="norm")
        >>> print(ax.images[0].get_array())
        [[1.]]
    """
    _checks.known_names("what", ("share", "norm"), [what])
    history = _given.history(history)
    known = [record for record in history if record.get("contributions")]
    if not known:
        raise ValueError("history: expected records with contributions, got none")
    modules = list(dict.fromkeys(m for r in known for m in r["contributions"]))
    entries = [[r["contributions"].get(m, {}) for r in known] for m in modules]
    heads = {n for row in entries for e in row for n in e if n != "cosine"}
    _checks.known_names("head", heads, [head])
    numbers = np.array(
        [[(e.get(head) or {}).get(what, np.nan) for e in row] for row in entries], float
    )
    moved = np.array(
        [[(e.get(head) or {}).get("norm", 0) or 0 for e in row] for row in entries]
    )
    numbers[moved == 0] = np.nan
    if ax is None:
        ax = _figures.new_axes(7.2, 1.2 + 0.28 * len(modules))
    if what == "norm":
        numbers = np.log10(numbers)
        image = ax.imshow(numbers, aspect="auto", interpolation="nearest")
    else:
        from matplotlib.colors import LinearSegmentedColormap

        colours = LinearSegmentedColormap.from_list("", ["#D55E00", "w", "#0072B2"])
        scale = {"cmap": colours, "vmin": -1, "vmax": 1}
        image = ax.imshow(numbers, aspect="auto", interpolation="nearest", **scale)
    ax.figure.colorbar(image, ax=ax)
    ax.set_yticks(range(len(modules)), [_figures.text(m) for m in modules], fontsize=8)
    places = np.unique(np.linspace(0, len(known) - 1, min(len(known), 6)).astype(int))
    ax.set_xticks(places, [str(known[i].get("step", i)) for i in places])
    ax.set_xlabel("step")
    words = {"share": "share of the update", "norm": "length of the gradient (log10)"}
    ax.set_title(f"{_figures.text(head)}: {words[what]}", fontsize=10)
    return ax


def _series(curves: Any, what: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps, and {head: a number a step}."""
    if isinstance(curves, Mapping):
        known = {n: x for n, x in curves.items() if isinstance(x, Mapping)}
        _checks.known_names("what", known, [what])
        t = np.asarray(curves["t"])
        heads = {n: np.asarray(x, float) for n, x in known[what].items()}
        heads = {n: x for n, x in heads.items() if x.shape == t.shape}
    else:
        history = _given.history(curves)
        trees = {n for r in history for n, x in r.items() if isinstance(x, Mapping)}
        _checks.known_names("what", trees, [what])
        t = np.array([record["step"] for record in history])
        names = dict.fromkeys(n for r in history for n in r.get(what) or {})
        heads = {n: _column(history, what, n) for n in names}
        heads = {n: x for n, x in heads.items() if np.isfinite(x).any()}
    if not heads:
        raise ValueError(f"what: expected a number a head, {what!r} holds none")
    return t, heads


def _column(history: Sequence[Mapping[str, Any]], what: str, name: str) -> np.ndarray:
    cells = [(record.get(what) or {}).get(name) for record in history]
    return np.array([x if isinstance(x, int | float) else np.nan for x in cells], float)
