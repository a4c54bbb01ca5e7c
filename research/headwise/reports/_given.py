"""What a report is given, checked: records, and the metrics that it shows of them."""

import math
import reprlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _checks
from headwise import _records
from headwise.reports import _groups


def records(given: Iterable[_groups.Record]) -> list[_groups.Record]:
    """The records as a list; raises where something else came in their place."""
    return _records.given(given)


def history(given: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records of a run as a list; raises where something else came instead."""
    expected = "history: expected records of `hw.training.fit` or `read_metrics`"
    listed = isinstance(given, Iterable) and getattr(given, "ndim", True)
    if isinstance(given, str | Mapping) or not listed:
        raise TypeError(f"{expected}, a list; got {_checks.kind(given)}")
    every = list(given)
    for i, one in enumerate(every):
        if not isinstance(one, Mapping):
            raise TypeError(f"{expected}; history[{i}] is {_checks.kind(one)}")
    return every


def metrics(every: Sequence[_groups.Record], higher: Mapping[str, bool]) -> None:
    """Raises unless there are records, and `higher` has flags for metrics of theirs.

    Where no trial has left a metric, any name may be right.
    """
    if not every:
        raise ValueError("records: expected one or more, got none")
    if not isinstance(higher, Mapping):
        raise TypeError(
            f"higher: expected {{metric: is more better?}}, got {type(higher).__name__}"
        )
    if not higher:
        raise ValueError("higher: expected one or more metrics, got none")
    for name, more in higher.items():
        _checks.boolean(f"higher[{name!r}]", more)
    known = {name for one in every for name in flat(one["metrics"] or {})}
    if known:
        _checks.known_names("higher", known, higher)


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested metrics as {"a/b": float}; what is not finite is NaN."""
    columns: dict[str, float] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            columns |= flat(value, f"{prefix}{name}/")
            continue
        try:
            number = math.nan if value is None else float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"metrics[{prefix + name!r}]: expected a number, got "
                f"{reprlib.repr(value)}"
            ) from None
        columns[prefix + name] = number if math.isfinite(number) else math.nan
    return columns
