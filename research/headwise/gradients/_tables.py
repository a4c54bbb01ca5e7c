"""Tables of routing and contributions, which stay readable with a hundred heads.

Few heads have a column each. Of many, a table shows modules that several heads move
before those of a single one, the first heads of each, and how many it left out.
"""

from typing import Any

import numpy as np

from headwise import _text

_MOVERS = 6
"""Heads with a column in the table of routing, and modules that it puts in words."""

_SHARES = 4
"""Heads with a column in the table of contributions."""

_HEADS, _ROWS = 8, 16
"""Otherwise: heads of a module, and modules."""

_TITLE = "norm of each head's gradient, its share of the update, least cosine"


def kind(heads: tuple[str, ...]) -> str:
    """What a parameter is that these heads reach."""
    if len(heads) > 1:
        return "shared"
    return f"private to {heads[0]}" if heads else "not trained"


def routing(r: Any) -> str:
    """A row for each module: who moves it."""
    modules = r.by_module()
    if len(r.names) > _MOVERS:
        return _grouped(modules, len(r.names))
    rows = [
        [m, *("moves" if name in heads else "-" for name in r.names), kind(heads)]
        for m, heads in modules.items()
    ]
    table = _text.table(["module", *r.names, ""], rows)
    if len(modules) > _MOVERS:
        return table
    moves = [(n, [m for m, heads in modules.items() if n in heads]) for n in r.names]
    lines = [f"{n} moves {', '.join(mine) or '-'}" for n, mine in moves]
    return "\n".join([table, *map(_text.printable, lines)])


def _grouped(modules: dict[str, tuple[str, ...]], number: int) -> str:
    """Modules with the same movers share a row."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for module, heads in modules.items():
        groups.setdefault(heads, []).append(module)
    rows = []
    for heads, members in groups.items():
        movers = _text.some(heads, _HEADS) or "-"
        movers = f"all {number} heads" if len(heads) == number else movers
        rows.append([_text.some(members, _HEADS), movers, kind(heads)])
    kept = _text.fitting([len(heads) == 1 for heads in groups], _ROWS)
    table = _text.table(["modules", "moved by", ""], [rows[i] for i in kept])
    more = len(rows) - len(kept)
    return f"{table}\n... {more} more: by_module() has all" if more else table


def contributions(c: Any) -> str:
    """A row for each module, or for each head of a module."""
    norm, share = np.asarray(c.norm), np.asarray(c.share)
    least = least_cosine(np.asarray(c.cosine), norm)

    def cell(m: int, h: int) -> str:
        if norm[m, h] == 0:
            return "-"
        return f"{norm[m, h]:.1e} {100 * share[m, h]:4.0f} %"

    def cosine(m: int) -> str:
        return "-" if np.isnan(least[m]) else f"{least[m]:+.2f}"

    if len(c.names) <= _SHARES:
        rows = [
            [module, *(cell(m, h) for h in range(len(c.names))), cosine(m)]
            for m, module in enumerate(c.modules)
        ]
        return _text.table(["module", *c.names, "cosine"], rows, _TITLE)
    rows = []
    kept = _text.fitting(list(np.sum(norm != 0, axis=1) == 1), _ROWS)
    for m in kept:
        order = np.argsort(-share[m], kind="stable")
        heads = [h for h in order if norm[m, h] != 0]
        lines = [(c.names[h], cell(m, h)) for h in heads[:_HEADS]] or [("-", "-")]
        rest = heads[_HEADS:]
        if rest:
            together = f"{100 * share[m, rest].sum():4.0f} %"
            lines.append((f"... {len(rest)} more", together))
        first, *others = lines
        rows.append([c.modules[m], *first, cosine(m)])
        rows += [["", *line, ""] for line in others]
    table = _text.table(["module", "head", "norm, share", "cosine"], rows, _TITLE)
    more = len(c.modules) - len(kept)
    return f"{table}\n... {more} more: the arrays have all" if more else table


def least_cosine(cosine: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """[M] the smallest cosine between two heads that reach the module, or NaN."""
    least = np.full(len(cosine), np.nan)
    for m in range(len(cosine)):
        heads = np.flatnonzero(norm[m])
        if len(heads) > 1:
            pairs = cosine[m][np.ix_(heads, heads)]
            least[m] = pairs[~np.eye(len(heads), dtype=bool)].min()
    return least
