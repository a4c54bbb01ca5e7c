"""One metric over the records of a run, by its path: `validation/iou/liver`.

What is decided by records (`fit(stop=, best=, adjust=)`) reads them through here.
"""

import math
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from headwise import _checks

CarryT = TypeVar("CarryT")
Record = Mapping[str, Any]

_SOMETIMES = ("validation", "contributions", "conflicts", "broken", "seconds")
"""What a record holds only where it is due, or known."""
_NOTHING: dict[str, Any] = {}
"""Where a record does not hold a metric."""


class Point(NamedTuple):
    """What a record says of a metric."""

    step: int
    value: float
    """NaN where the record says None: it was not finite."""


def series(argument: str, metric: str, history: Sequence[Record]) -> list[Point]:
    """The records that hold a metric, one point each.

    Args:
        argument: name of what wants it, for the error.
        metric: names joined by "/", as in TensorBoard.
        history: of `fit`.

    Raises:
        ValueError: no record holds it, and those that could are there: lists what they
            hold.

    Example:
        >>> from headwise.training import _series
        >>> history = [{"step": 5, "values": {"a": 0.5}}, {"step": 6}]
        >>> _series.series("metric", "values/a", history)
        [Point(step=5, value=0.5)]
    """
    keys = _keys(metric, history)
    if keys is None:
        _refuse(argument, metric, history, _names(history))
        return []
    return [*_points(keys, history)]


class Records(list):
    """The records of a run so far, a list that remembers what was made of its past.

    Args:
        records: those so far.
        past: of the run, whose records grow; filled by `folded`.
    """

    def __init__(self, records: Sequence[Record], past: dict[Any, "Past"]):
        super().__init__(records)
        self.past = past

    def __reduce__(self) -> Any:
        """Its copies are lists."""
        return list, (list(self),)


class Past(NamedTuple):
    """What is known of all records of a run but the newest, which may change yet."""

    number: int
    keys: tuple[str, ...] | None
    """Where the metric is in them."""
    names: frozenset[str]
    """Of what they hold, as long as they do not hold the metric."""
    carry: Any


def folded(
    argument: str,
    metric: str,
    history: Sequence[Record],
    start: CarryT,
    update: Callable[[CarryT, Point], CarryT],
) -> CarryT:
    """`update(... update(update(start, point), point) ..., point)` over `series`.

    Of `Records`, what was made of the earlier ones is taken from there, so that the
    time that a run spends on its records is proportional to their number.

    Args:
        argument, metric, history: as in `series`.
        start: for no point.
        update: `update(carry, point) -> carry`, a pure function and the same object in
            each call: by it the past is found again.

    Example:
        >>> from headwise.training import _series
        >>> history = [{"step": t, "a": x} for t, x in enumerate([1.0, 2.0, 4.0])]
        >>> add = lambda total, point: total + point.value
        >>> past = {}
        >>> for n in (2, 3):
        ...     records = _series.Records(history[:n], past)
        ...     print(_series.folded("metric", "a", records, 0.0, add), past[add].carry)
        3.0 1.0
        7.0 3.0
    """
    past = history.past if isinstance(history, Records) else {}
    nothing = Past(0, None, frozenset(), start)
    known = past.get(update, nothing)
    if known.number >= len(history):  # it was made shorter
        known = nothing
    new = history[known.number :]
    keys = _keys(metric, new) or known.keys
    if known.keys not in (None, keys):  # it is somewhere else than it was
        known, new = nothing, history
    names, carry = known.names, known.carry
    if keys is None:
        _refuse(argument, metric, history, names | _names(new))
        names |= _names(new[:-1])
    else:
        for point in _points(keys, new[:-1]):
            carry = update(carry, point)
    if new:
        past[update] = Past(len(history) - 1, keys, names, carry)
    for point in _points(keys, new[-1:]):
        carry = update(carry, point)
    return carry


def check(argument: str, metric: Any) -> str:
    """The path; raises TypeError unless it is a text that is not empty."""
    if not isinstance(metric, str) or not metric:
        raise TypeError(
            f"{argument}: expected the path of a metric in a record, such as "
            f"'validation/accuracy' or 'values/a', got {_checks.kind(metric)}"
        )
    return metric


def is_better(value: float, than: float, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a value is better by more than `min_delta`; NaN never is.

    Any number is better than NaN.
    """
    if math.isnan(than):
        return not math.isnan(value)
    return value < than - min_delta if mode == "min" else value > than + min_delta


def first_best(points: Sequence[Point], mode: str) -> Point | None:
    """The best point, of equal ones the first; None if all are NaN."""
    best = Point(0, math.nan)
    for point in points:
        if is_better(point.value, best.value, mode):
            best = point
    return None if math.isnan(best.value) else best


def _points(keys: tuple[str, ...] | None, history: Sequence[Record]) -> Iterator[Point]:
    """Of the records that hold a metric; none if it is not known where."""
    for record in history if keys is not None else ():
        found: Any = record
        for key in keys or ():
            found = found.get(key, _NOTHING) if isinstance(found, Mapping) else _NOTHING
        if found is not _NOTHING:
            yield Point(record["step"], math.nan if found is None else found)


def _names(history: Sequence[Record]) -> frozenset[str]:
    return frozenset(name for record in history for name in record)


def _keys(metric: str, history: Sequence[Record]) -> tuple[str, ...] | None:
    """Where a metric is in records, taken from the newest one that holds it."""
    for record in reversed(history):
        near = {name: x for name, x in record.items() if metric.startswith(name)}
        for keys in _leaves(near):
            # A table or TensorBoard writes the "/" inside of a name as "%2F".
            if metric in ("/".join(keys), "/".join(map(_one_part, keys))):
                return keys
    return None


def _leaves(node: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each number of a record."""
    for name, child in node.items():
        if isinstance(child, Mapping):
            yield from _leaves(child, *above, name)
        elif isinstance(child, int | float | None):
            yield (*above, name)


def _one_part(name: str) -> str:
    return name.replace("/", "%2F")


def _refuse(
    argument: str, metric: str, history: Sequence[Record], names: frozenset[str]
) -> None:
    """Raises if a record holds what the metric should be in, or all that ever comes.

    Args:
        argument, metric, history: as in `series`.
        names: of what the records hold.
    """
    top = metric.split("/")[0]
    if top in names or ("values" in names and top not in _SOMETIMES):
        leaves = {keys for record in history for keys in _leaves(record)}
        hidden = {"step", "contributions"} - {top}
        known = {"/".join(keys) for keys in leaves if keys[0] not in hidden}
        _checks.known_names(f"{argument}: metric", sorted(known), [metric])
