"""When a run ends before its last step: pure functions of its records.

`fit(stop=)` asks after each record. Since nothing but the records counts, a run that
was interrupted decides as one that was not.
"""

import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from headwise import _checks
from headwise.training import _series

Stop = Callable[[Sequence[_series.Record]], str | None]
"""`stop(history)` -> why the run ends now, in words; None if it goes on."""

MODES = ("min", "max")


def patience(metric: str, patience: int, *, min_delta: float = 0.0, mode: str) -> Stop:
    """Stops a run whose metric has not become better for some records in a row.

    Better than the best so far by more than `min_delta`. A value that is not finite is
    never better. Records that do not hold the metric (those between two validations)
    do not count.

    Conventions: Keras' `EarlyStopping`, where a record is an epoch.

    Args:
        metric: path in a record: "validation/accuracy", "values/a", "grad_norm".
        patience: so many records that are not better, in a row.
        min_delta: >= 0.
        mode: "min" if less is better, "max" if more is.

    Returns:
        `stop(history) -> str | None`, for `fit(stop=)`.

    Raises:
        ValueError, TypeError: an argument is no such. When called: no record holds the
            metric (lists what they hold).

    Example:
        >>> stop = hw.training.patience("values/a", 2, mode="min")
        >>> history = [{"step": t, "values": {"a": x}} for t, x in enumerate([3, 1, 2])]
        >>> print(stop(history))
        None
        >>> print(stop([*history, {"step": 3, "values": {"a": 1}}]))
        values/a: no better than 1 of step 1 in 2 records
    """
    _series.check("metric", metric)
    patience = _checks.positive_int("patience", patience)
    _checks.nonnegative("min_delta", min_delta)
    delta = float(min_delta)
    _checks.choice("mode", MODES, mode)

    def wait(
        now: tuple[_series.Point, int], point: _series.Point
    ) -> tuple[_series.Point, int]:
        best, waited = now
        if _series.is_better(point.value, best.value, mode, delta):
            return point, 0
        return best, waited + 1

    def stop(history: Sequence[_series.Record]) -> str | None:
        begun = _series.Point(0, math.nan), 0
        best, waited = _series.folded("patience", metric, history, begun, wait)
        if waited < patience:
            return None
        than = f"{best.value:.4g} of step {best.step}"
        if math.isnan(best.value):
            than = "not finite"
        return f"{metric}: no better than {than} in {waited} records"

    return _looking_at(stop, metric)


def reached(metric: str, target: float, *, mode: str) -> Stop:
    """Stops a run once a metric is as good as a target.

    Args:
        metric: path in a record, as in `patience`.
        target: a number; as good as it is good enough.
        mode: "min" if less is better, "max" if more is.

    Returns:
        `stop(history) -> str | None`, for `fit(stop=)`.

    Raises:
        ValueError, TypeError: as in `patience`.

    Example:
        >>> stop = hw.training.reached("values/a", 0.5, mode="min")
        >>> print(stop([{"step": 7, "values": {"a": 0.25}}]))
        values/a: 0.25 of step 7 reaches 0.5
    """
    _series.check("metric", metric)
    _checks.number("target", target)
    wanted = float(target)
    _checks.choice("mode", MODES, mode)

    def look(first: _series.Point | None, point: _series.Point) -> _series.Point | None:
        good = point.value == wanted or _series.is_better(point.value, wanted, mode)
        return point if first is None and good else first

    def stop(history: Sequence[_series.Record]) -> str | None:
        first = _series.folded("reached", metric, history, None, look)
        if first is None:
            return None
        step, value = first
        return f"{metric}: {value:.4g} of step {step} reaches {wanted:.4g}"

    return _looking_at(stop, metric)


def out_of_time(seconds: float) -> Stop:
    """Stops a run that has trained for so long, at its next record.

    Each record of such a run tells `seconds`: the time in `fit` so far, compilation
    included. A run that goes on counts on from its checkpoint; time in which no process
    ran, and steps that are trained a second time, are left out.

    Args:
        seconds: > 0.

    Returns:
        `stop(history) -> str | None`, for `fit(stop=)`.

    Raises:
        ValueError: `seconds` is not positive.

    Example:
        >>> stop = hw.training.out_of_time(60)
        >>> print(stop([{"step": 7, "seconds": 59.0}]))
        None
        >>> print(stop([{"step": 7, "seconds": 59.0}, {"step": 8, "seconds": 61.5}]))
        seconds: 61.5 of step 8 reaches 60
    """
    _checks.positive("seconds", seconds)
    return reached("seconds", seconds, mode="max")


def any_of(*stops: Stop) -> Stop:
    """Stops a run as soon as one of several reasons is there; it tells the first.

    Args:
        *stops: of `patience`, `reached`, `out_of_time`, or functions of your own.

    Returns:
        `stop(history) -> str | None`, for `fit(stop=)`.

    Raises:
        TypeError: one of them is no function.

    Example:
        >>> stop = hw.training.any_of(
        ...     hw.training.reached("values/a", 0.5, mode="min"),
        ...     lambda history: "three records" if len(history) == 3 else None,
        ... )
        >>> print(stop(3 * [{"step": 7, "values": {"a": 2.0}}]))
        three records
    """
    for i, stop in enumerate(stops):
        _checks.function(f"stops[{i}]", stop)

    def first(history: Sequence[_series.Record]) -> str | None:
        return next(filter(None, (stop(history) for stop in stops)), None)

    return _looking_at(first, *(m for stop in stops for m in metrics(stop)))


def metrics(function: Any) -> tuple[str, ...]:
    """The metrics that a function of records says it looks at."""
    return getattr(function, "metrics", ())


def _looking_at(function: Stop, *metrics: str) -> Stop:
    function.__dict__["metrics"] = metrics
    return function
