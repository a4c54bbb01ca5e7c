"""Pictures of routing and contributions, with matplotlib."""

from typing import Any

import numpy as np

from headwise import _figures


def _colours(names: tuple[str, ...]) -> dict[str, Any]:
    """A colour for every head; no two alike up to 20."""
    return dict(zip(names, _figures.colours(len(names)), strict=True))


def routing(r: Any, ax: Any = None, depth: int | None = None) -> Any:
    """Heads left, modules right, an arrow where a loss moves a module."""
    modules = r.by_module(depth)
    rows = max(len(modules), len(r.names))
    if ax is None:
        ax = _figures.new_axes(7.0, 0.8 + 0.42 * rows)
    colours = _colours(r.names)
    left = dict(zip(r.names, np.linspace(0, -(rows - 1), len(r.names) + 2)[1:-1]))
    right = dict(zip(modules, np.linspace(0, -(rows - 1), len(modules))))
    box = {"boxstyle": "round,pad=0.35", "edgecolor": "0.4"}
    for module, heads in modules.items():
        for name in heads:
            ax.annotate(
                "",
                xy=(1.0, right[module]),
                xytext=(0.0, left[name]),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": colours[name],
                    "shrinkA": 0,
                    "shrinkB": 2,
                    "lw": 1.4,
                },
            )
        kind = "shared" if len(heads) > 1 else (heads[0] if heads else "not trained")
        words = f"{_figures.text(module, 60)}  ({_figures.text(kind)})"
        face = "0.9" if len(heads) != 1 else colours[heads[0]]
        ax.text(
            1.02,
            right[module],
            words,
            va="center",
            ha="left",
            bbox=box | {"facecolor": face, "alpha": 0.35},
        )
    for name, y in left.items():
        ax.text(
            -0.04,
            y,
            _figures.text(name),
            va="center",
            ha="right",
            bbox=box | {"facecolor": colours[name], "alpha": 0.6},
        )
    ax.set_xlim(-0.4, 1.9)
    ax.set_ylim(-(rows - 1) - 0.7, 0.7)
    ax.set_title("which loss moves which module")
    ax.axis("off")
    return ax


def contributions(c: Any, ax: Any = None) -> Any:
    """Stacked bars of the shares of the update; the norm is written into the bar."""
    share, norm = np.asarray(c.share), np.asarray(c.norm)
    if ax is None:
        ax = _figures.new_axes(7.5, 1.2 + 0.36 * len(c.modules))
    y = np.arange(len(c.modules))[::-1]
    ahead, behind = np.zeros(len(y)), np.zeros(len(y))
    colours = _colours(c.names)
    for h, name in enumerate(c.names):
        width = share[:, h]
        start = np.where(width >= 0, ahead, behind)
        label = _figures.text(name)
        ax.barh(y, width, left=start, color=colours[name], alpha=0.75, label=label)
        for m in np.flatnonzero(np.abs(width) > 0.18):
            ax.text(
                start[m] + width[m] / 2,
                y[m],
                f"{norm[m, h]:.1e}",
                ha="center",
                va="center",
                fontsize=7,
            )
        ahead += np.maximum(width, 0)
        behind += np.minimum(width, 0)
    ax.axvline(0, color="0.3", lw=0.8)
    ax.set_yticks(y, [_figures.text(module, 60) for module in c.modules])
    ax.set_xlabel("share of the update (numbers: gradient norm)")
    ax.set_title("what each head contributes to every module")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return ax
