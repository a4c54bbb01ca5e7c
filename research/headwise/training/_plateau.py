"""What falls on a plateau: a factor, from the records of a run."""

import math
from collections.abc import Callable
from collections.abc import Sequence

from headwise import _checks
from headwise.training import _series
from headwise.training import _stop


def plateau(
    metric: str,
    *,
    factor: float,
    patience: int,
    mode: str,
    min_delta: float = 1e-4,
    cooldown: int = 0,
    least: float = 0.0,
) -> Callable[[Sequence[_series.Record]], float]:
    """A factor that falls whenever a metric has not become better for some records.

    For `fit(adjust=)`: a learning rate that goes by validation. (By the training value
    of each step, inside of the compiled program: `optax.contrib.reduce_on_plateau`.)

    Conventions: Keras' `ReduceLROnPlateau`, where a record is an epoch and `least` is
    `min_lr` as a part of the first rate. PyTorch's waits for one record more, and its
    threshold is relative.

    Args:
        metric: path in a record: "validation/loss", "values/a".
        factor: in (0, 1): what it is multiplied by.
        patience: so many records that are not better, in a row; then it falls.
        mode: "min" if less is better, "max" if more is.
        min_delta: >= 0; better is better by more than that.
        cooldown: so many records after a fall do not count.
        least: in [0, 1], where it falls no further.

    Returns:
        `f(history) -> float` in (0, 1]: 1 at first.

    Raises:
        ValueError, TypeError: an argument is no such. When called: no record holds the
            metric (lists what they hold).

    Example:
        >>> scale = hw.training.plateau("values/a", factor=0.5, patience=2, mode="min")
        >>> values = [3.0, 1.0, 1.0, 1.0, 0.5, 0.7, 0.6]
        >>> history = [{"step": t, "values": {"a": x}} for t, x in enumerate(values)]
        >>> print([scale(history[:n]) for n in range(1, 8)])
        [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    """
    _series.check("metric", metric)
    _checks.in_range("factor", factor, "a number in (0, 1)", lambda x: 0 < x < 1)
    patience = _checks.positive_int("patience", patience)
    _checks.choice("mode", _stop.MODES, mode)
    _checks.nonnegative("min_delta", min_delta)
    cooldown = _checks.nonnegative_int("cooldown", cooldown)
    _checks.fraction("least", least)
    part, delta, end = float(factor), float(min_delta), float(least)

    def fall(
        before: tuple[float, float, int, int], point: _series.Point
    ) -> tuple[float, float, int, int]:
        now, best, waited, cooling = before
        cooling, waited = max(0, cooling - 1), 0 if cooling else waited
        if _series.is_better(point.value, best, mode, delta):
            best, waited = point.value, 0
        elif not cooling:
            waited += 1
            if waited >= patience and now > end:
                now, waited, cooling = max(now * part, end), 0, cooldown
        return now, best, waited, cooling

    def scale(history: Sequence[_series.Record]) -> float:
        begun = 1.0, math.nan, 0, 0
        return _series.folded("plateau", metric, history, begun, fall)[0]

    scale.__dict__["metrics"] = (metric,)
    return scale
