"""The curves of trials: raw values and weights of heads over the steps."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import sweeps
from headwise.reports._page import _thin
from headwise.reports._page._contents import Contents

MOST = 200
"""Trials whose curves are shown."""
ROWS = 120
"""Rows of a curve."""
QUANTITIES = "values", "weights"


def curves(contents: Contents, rows: Mapping[str, Any]) -> dict[str, Any]:
    """{"trials": {number: {"t", "values" {head}, "weights" {head}}}, "said": words}.

    Of many trials: those of the front, the best and worst of each metric, those that
    broke, and others at equal distances.
    """
    chosen = _chosen(contents, rows)
    found = _read(contents, chosen)
    trials, thinned = {}, False
    for i, curve in zip(chosen, found, strict=True):
        if not curve:
            continue
        trials[i], thin = _one(curve)
        thinned |= thin
    said = ""
    if len(chosen) < len(contents.records):
        said = f"Curves of {len(trials)} of {len(contents.records)} trials. "
    if thinned:
        said += f"At most about {ROWS} rows a curve; lows and peaks stay."
    return {"trials": trials, "said": said.strip()}


def _read(contents: Contents, chosen: Sequence[int]) -> list[dict[str, Any]]:
    """The curves of records, each file of each folder read once."""
    of_folder: dict[pathlib.Path, list[int]] = {}
    for i in chosen:
        of_folder.setdefault(contents.sources[i][0], []).append(i)
    found: dict[int, dict[str, Any]] = {}
    for folder, places in of_folder.items():
        records = [contents.sources[i][1] for i in places]
        found |= dict(zip(places, sweeps.curves(folder, records), strict=True))
    return [found[i] for i in chosen]


def _one(curve: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    series = {
        (quantity, head): np.asarray(array, float)
        for quantity in QUANTITIES
        for head, array in _heads(curve.get(quantity)).items()
    }
    t = np.asarray(curve["t"])
    stacked = np.stack([*series.values()], 1) if series else np.zeros((len(t), 1))
    kept = _thin.rows(stacked, ROWS)
    one: dict[str, Any] = {"t": t[kept].tolist()}
    for (quantity, head), array in series.items():
        one.setdefault(quantity, {})[head] = numbers(array[kept])
    return one, len(kept) < len(t)


def _heads(tree: Any) -> dict[str, Any]:
    """The entries that are one number a row."""
    if not isinstance(tree, Mapping):
        return {}
    return {str(name): array for name, array in tree.items() if np.ndim(array) == 1}


def numbers(array: np.ndarray) -> list[float | None]:
    """Five digits; None for what is not finite."""
    return [float(f"{x:.5g}") if np.isfinite(x) else None for x in array]


def _chosen(contents: Contents, rows: Mapping[str, Any]) -> list[int]:
    """The trials whose curves are shown, in order."""
    records = contents.records
    if len(records) <= MOST:
        return list(range(len(records)))
    first = [i for i, row in enumerate(rows["of"]) if rows["front"][row]]
    for name in contents.higher:
        column = [(r["metrics"] or {}).get(name) for r in records]
        known = [i for i, x in enumerate(column) if isinstance(x, float)]
        known.sort(key=lambda i: float(column[i] or 0))
        first += known[:1] + known[-1:]
    first += [i for i, record in enumerate(records) if not record["finite"]][
        : MOST // 4
    ]
    kept: Sequence[int] = list(dict.fromkeys(first))[: MOST // 2]
    spread = np.linspace(0, len(records) - 1, MOST - len(kept)).astype(int).tolist()
    return sorted({*kept, *spread})
