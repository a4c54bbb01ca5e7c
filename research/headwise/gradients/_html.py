"""Routing and contributions as HTML tables, for notebooks: all modules, all heads."""

import html
from collections.abc import Iterable
from typing import Any

import numpy as np

from headwise import _text
from headwise.gradients import _tables

_FOR, _AGAINST = "0,114,178", "213,94,0"
"""Okabe and Ito's blue and vermilion: moved with the update, and against it."""
_CELL = "text-align:right;padding:.15em .6em"
_HEAD = "text-align:left;padding:.15em .6em;font-weight:normal"


def routing(r: Any) -> str:
    """A row for each module: a mark for each head whose loss moves it."""
    rows = []
    for module, heads in r.by_module().items():
        cells = [_cell("●" if n in heads else "", 0.25 * (n in heads)) for n in r.names]
        rows.append([_head(module), *cells, _head(_tables.kind(heads))])
    return _table("Which loss moves which module", ["module", *r.names, ""], rows)


def contributions(c: Any) -> str:
    """A row for each module: share and norm of each head, the least cosine."""
    norm, share = np.asarray(c.norm), np.asarray(c.share)
    least = _tables.least_cosine(np.asarray(c.cosine), norm)
    rows = []
    for m, module in enumerate(c.modules):
        cells = [_share(norm[m, h], share[m, h]) for h in range(len(c.names))]
        shown = "" if np.isnan(least[m]) else f"{least[m]:+.2f}"
        conflict = 0.0 if np.isnan(least[m]) else min(float(least[m]), 0.0)
        rows.append([_head(module), *cells, _cell(shown, conflict)])
    title = "share of the update (norm of the gradient), least cosine of two heads"
    return _table(title, ["module", *c.names, "cosine"], rows)


def _share(norm: float, share: float) -> str:
    if norm == 0:
        return _cell("", 0.0)
    return _cell(f"{100 * share:.0f} % <small>({norm:.1e})</small>", float(share))


def _cell(text: str, strength: float) -> str:
    """A cell; text is markup already. Coloured by a number from -1 to 1."""
    alpha = 0.0 if np.isnan(strength) else min(abs(strength), 1.0) * 0.6
    rgb = _FOR if strength > 0 else _AGAINST
    colour = f";background:rgba({rgb},{alpha:.2f})" if alpha else ""
    return f'<td style="{_CELL}{colour}">{text}</td>'


def _head(name: str) -> str:
    text = html.escape(_text.printable(name))
    return f'<th scope="row" style="{_HEAD}">{text}</th>'


def _table(title: str, names: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(
        f'<th scope="col" style="{_CELL}">{html.escape(_text.printable(name))}</th>'
        for name in names
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        '<div style="overflow:auto;max-height:40em"><table>'
        f"<caption>{title}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
