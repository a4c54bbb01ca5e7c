"""The window of a record: sums over its steps, and an error at what is not finite.

Sums add up, so it does not matter where the loop stops on its way through a window. A
window is plain JSON: a checkpoint in the middle of one keeps it, and a run that goes on
from there makes the same record, bit for bit.
"""

import json
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from headwise.training import _record
from headwise.training import _told

Window = dict[str, Any]


def empty() -> Window:
    """That of no step."""
    return {
        "heads": {},
        "steps": 0,
        "grad_norm": 0.0,
        "conflicts": 0.0,
        "pairs": 0,  # steps that know of conflicts
        "contributions": None,
        "changed": [],
    }


_HEAD = {
    "total": 0.0,  # Σ count * value over the steps in which the head is there
    "count": 0.0,
    "weight": 0.0,
    "there": 0,  # steps
    "data": 0,  # steps in which it is there or broken
    "broken": 0,
    "since": None,  # the first step in which it is broken
}

_SUMS = tuple(_HEAD)[:-1]
_WHOLE = ("there", "data", "broken")


class Columns(NamedTuple):
    """What steps told, in float64: what each of n steps adds to a window."""

    first: int
    """Number of the first of these steps."""
    rows: _told.Told
    heads: np.ndarray
    """[n, H, S], in the order of `_SUMS`."""
    run: np.ndarray
    """[n, 3]: gradient norm, conflicts, and whether these are known."""
    refused: int | None
    """The first step that is an error."""


def columns(first: int, rows: _told.Told) -> Columns:
    """Of steps that tell the same, the first of them number `first`."""
    names, number = list(rows.values), _told.length(rows)

    def table(of_heads: Any, otherwise: float) -> np.ndarray:
        cells = np.full((number, len(names)), otherwise)
        for h, name in enumerate(names):
            if of_heads and name in of_heads:
                cells[:, h] = of_heads[name]
        return cells

    values, weights = table(rows.values, 0.0), table(rows.weights, 0.0)
    counts = table(rows.counts, 1.0)
    here, broken = table(rows.present, 1.0) != 0, table(rows.broken, 0.0) != 0
    data, counted = here | broken, here & (counts != 0)
    norm = np.asarray(rows.grad_norm, np.float64)
    # Of a balancer that needs values alone, only the reporting steps know
    # conflicts; of one that is refreshed now and then they are NaN between.
    conflicts = np.full(number, np.nan) if rows.conflicts is None else rows.conflicts
    known = np.isfinite(np.asarray(conflicts, np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        sums = {
            "total": np.where(counted, counts * values, 0.0),
            "count": np.where(counted, counts, 0.0),
            "weight": np.where(here, weights, 0.0),
            "there": here,
            "data": data,
            "broken": broken,
        }
    refused = (~np.isfinite(values) & (weights != 0)).any(axis=1) | ~np.isfinite(norm)
    refused |= data.any(axis=1) & (broken == data).all(axis=1)
    return Columns(
        first,
        rows,
        np.stack([sums[name].astype(np.float64) for name in _SUMS], axis=2),
        np.stack([norm, np.where(known, conflicts, 0.0), known], axis=1),
        first + int(np.argmax(refused)) if refused.any() else None,
    )


def added(window: Window, columns: Columns, done: int, end: int) -> Window:
    """The window with the steps from number `done` up to `end`, one after the other.

    Raises:
        NonFiniteError: at the first step in which a value of a head with a weight, the
            gradient, or all that has data is not finite.
    """
    if columns.refused is not None and columns.refused < end:
        _refuse(columns)
    cut = slice(done - columns.first, end - columns.first)
    names, heads = list(columns.rows.values), dict(window["heads"])
    before = [heads.get(name, _HEAD) for name in names]
    start = [[head[name] for name in _SUMS] for head in before]
    sums = _running(np.asarray(start, np.float64), columns.heads[cut])
    for h, row in enumerate(sums.tolist()):
        head = dict(zip(_SUMS, row, strict=True), since=before[h]["since"])
        heads[names[h]] = head | {name: int(head[name]) for name in _WHOLE}
        if head["broken"] and head["since"] is None:
            broken = columns.heads[cut, h, _SUMS.index("broken")]
            heads[names[h]]["since"] = done + int(np.argmax(broken))
    start = [window[name] for name in ("grad_norm", "conflicts", "pairs")]
    norm, conflicts, pairs = _running(np.asarray(start), columns.run[cut]).tolist()
    newest = _newest(columns.rows.contributions, cut)
    return window | {
        "heads": heads,
        "steps": window["steps"] + end - done,
        "grad_norm": norm,
        "conflicts": conflicts,
        "pairs": int(pairs),
        "contributions": newest or window["contributions"],
    }


def _running(start: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """start + rows[0] + rows[1] ..., in this order: it does not matter where it stops.

    `np.sum` adds in pairs.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return np.cumsum(np.concatenate([start[None], rows]), axis=0)[-1]


def _newest(report: Any, cut: slice) -> dict[str, Any] | None:
    """By module, what the last of the steps told that told anything of it."""
    if report is None:
        return None
    number = len(report.norm)
    for at in reversed(range(*cut.indices(number))):
        if told := _record.contributions(jax.tree.map(lambda x: x[at], report)):
            return told
    return None


def refuse_broken(window: Window) -> None:
    """Raises if a head that has data was broken in all (two or more) of its steps.

    A balancer leaves out a head that is not finite, so that the gradient stays finite
    and nothing else would say it.

    Raises:
        NonFiniteError: it names the first of these steps.
    """
    for name, head in window["heads"].items():
        if head["broken"] > 1 and head["broken"] == head["data"]:
            raise _record.NonFiniteError(
                head["since"],
                f"the value or gradient of head {name!r}, there and in all "
                f"{head['data']} steps of a record in which it has data,",
                [name],
            )


def told(window: Window, whole: bool) -> Window:
    """What is left of a window once its record is made: nothing, if it was whole.

    The record at the end of a run may close it early. A run that goes on from there
    makes the records that it would have made without an end.
    """
    return empty() if whole else window | {"changed": []}


def to_text(window: Window) -> str:
    """The window as JSON; numbers come back as they are."""
    return json.dumps(window)


def from_text(text: str | None) -> Window:
    """What `to_text` was given; the empty window for None."""
    return empty() if text is None else json.loads(text)


def _refuse(columns: Columns) -> None:
    """Raises what the first step that is an error has to say."""
    at = columns.refused
    assert at is not None
    row = jax.tree.map(lambda x: x[at - columns.first], columns.rows)
    for name, value in row.values.items():
        if not np.isfinite(float(value)) and row.weights[name] != 0:
            raise _record.NonFiniteError(at, f"the value of head {name!r}", [name])
    if not np.isfinite(float(row.grad_norm)):
        raise _record.NonFiniteError(at, "the gradient")
    with_data = [name for name, broken in (row.broken or {}).items() if broken]
    heads = ", ".join(map(repr, with_data))
    what = f"the value or gradient of every head that has data ({heads})"
    raise _record.NonFiniteError(at, what, with_data)
