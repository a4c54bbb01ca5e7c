"""Rows of a report: which records belong together, and a short name for each row.

A column is what records may differ in: `("weights", head)` or `("settings", name)`.
The columns that a report goes by tell its rows apart.
"""

import functools
import json
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise import _checks
from headwise import _records
from headwise import _text

Record = Mapping[str, Any]
Column = tuple[str, str]

_MISSING = object()
_LONGEST = 40
"""Characters of a row's name in a table or picture."""


class Words(NamedTuple):
    """How a report calls its rows."""

    title: str
    """What all of them are: `weights`."""
    one: str
    """What one of them is: `weighting`."""
    verb: str
    """What they do if they make a difference: they `matter`."""


def columns(records: Sequence[Record], by: Sequence[str] | None) -> list[Column]:
    """The columns that the rows go by.

    `by` holds names of heads and settings, and `weights` for all heads. None: every
    setting that varies, then all heads, so that nothing different is put together.
    """
    every = _every_column(records)
    if by is None:
        return [c for c in every if c[0] == "weights" or _varies(records, c)]
    if isinstance(by, str):
        raise TypeError(f"by: expected a sequence of names, got the str {by!r}")
    _checks.known_names("by", {"weights", *(name for _, name in every)}, by)
    chosen = []
    for name in by:
        chosen += [c for c in every if name == c[1] or name == c[0] == "weights"]
    return list(dict.fromkeys(chosen))


def grouped(
    records: Iterable[Record], chosen: Iterable[Column]
) -> dict[tuple[str, ...], list[Record]]:
    """{key: records that agree in the chosen columns}, in the order of the records."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(key(record, chosen), []).append(record)
    return groups


def key(record: Record, chosen: Iterable[Column]) -> tuple[str, ...]:
    """The values of a record in the chosen columns, at full precision, as texts."""
    return tuple(_text_of(_value(record, column)) for column in chosen)


def shared(
    records: Sequence[Record], kind: str, differing: Sequence[Column]
) -> dict[str, Any]:
    """{name: value} of the `weights` or `settings` in which no records are `pooled`."""
    return {
        name: value
        for name, value in _dict_of(records[0], kind).items()
        if (kind, name) not in differing
    }


def pooled(groups: Iterable[Sequence[Record]]) -> list[Column]:
    """The columns in which records of one group differ."""
    differing = [c for g in groups for c in _every_column(g) if _varies(g, c)]
    return list(dict.fromkeys(differing))


def labels(
    rows: Sequence[Mapping[str, Any]], chosen: Sequence[Column]
) -> tuple[list[str], str]:
    """A short name for every row of `summary`, and what holds for all of them.

    Only what varies is named; `weighting 1`, ... where that would be too long.
    """
    varied = [column for column in chosen if _varies(rows, column)]
    fixed = [column for column in chosen if column not in varied]
    notes = [f"{_label(rows[0], fixed)} throughout"] if varied and fixed else []
    over = dict.fromkeys(name for row in rows for name in row["pooled"])
    notes += [_text.printable(f"pooled over {', '.join(over)}")] if over else []
    if not varied:
        return [_label(row, chosen) or "all trials" for row in rows], "; ".join(notes)
    names = _whole_names(rows, varied)
    if max(map(len, names)) > _LONGEST:
        one = words(rows, chosen).one
        names = [f"{one} {i + 1}" for i in range(len(rows))]
    return names, "; ".join(notes)


def legend(rows: Sequence[Mapping[str, Any]], chosen: Sequence[Column]) -> list[str]:
    """What `setting 1`, ... of `labels` are, a line each; [] where the labels say it.

    Weightings of many heads have none: they stand in the records.
    """
    varied = [column for column in chosen if _varies(rows, column)]
    if not any(kind == "settings" for kind, _ in varied):
        return []
    names, (short, _) = _whole_names(rows, varied), labels(rows, chosen)
    return [f"{a}: {b}" for a, b in zip(short, names, strict=True) if a != b]


def _whole_names(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[Column]
) -> list[str]:
    """The rows by what varies, with as few digits as tell them apart."""
    names: list[str] = []
    for digits in (3, 6, None):
        names = [_label(row, varied, digits) for row in rows]
        if len(set(names)) == len(names):
            break
    return names


def words(rows: Sequence[Mapping[str, Any]], chosen: Sequence[Column]) -> Words:
    """How to call the rows of `summary`, by those of the columns that vary."""
    varied = [column for column in chosen if _varies(rows, column)] or chosen
    settings = [name for kind, name in varied if kind == "settings"]
    if not settings:
        return Words("weights", "weighting", "matter")
    if len(settings) == len(varied) == 1:
        return Words(settings[0], settings[0], "matters")
    return Words("settings", "setting", "matter")


def _dict_of(record: Record, kind: str) -> Mapping[str, Any]:
    return record.get(kind) or {}


def _value(record: Record, column: Column) -> Any:
    kind, name = column
    return _dict_of(record, kind).get(name, _MISSING)


def _text_of(value: Any) -> str:
    if value is _MISSING:
        return ""
    if type(value) in (float, int, str, bool):
        return _text_of_scalar(value)
    return _records.canonical(value)


@functools.lru_cache(maxsize=65536, typed=True)
def _text_of_scalar(value: Any) -> str:
    return _records.canonical(value)


def _every_column(records: Sequence[Record]) -> list[Column]:
    """Every setting and head of the records, settings first, each sorted by name."""
    return [
        (kind, name)
        for kind in ("settings", "weights")
        for name in sorted({n for record in records for n in _dict_of(record, kind)})
    ]


def _varies(records: Iterable[Record], column: Column) -> bool:
    return len({_text_of(_value(record, column)) for record in records}) > 1


def _label(
    row: Mapping[str, Any], chosen: Iterable[Column], digits: int | None = 6
) -> str:
    """What a row has in the chosen columns: `balancer=constant a=1 b=0.3`.

    Names stand as they can be printed; None are all digits.
    """
    parts = []
    for column in chosen:
        value = _value(row, column)
        if isinstance(value, float):
            text = repr(float(value)) if digits is None else f"{value:.{digits}g}"
        elif isinstance(value, str):
            text = value
        elif value is not _MISSING:
            text = json.dumps(value)
        else:
            continue
        parts.append(_text.printable(f"{column[1]}={text}"))
    return " ".join(parts)
