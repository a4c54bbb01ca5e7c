"""Successive halving: at a rung the worst trials stop. Plans, ranks, places, pure."""

import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _checks
from headwise import _scalars


class Halving(NamedTuple):
    """At which steps the worst trials stop: see `halving`. Plain JSON, a study's text.

    Example:
        >>> plan = hw.sweeps.halving("dice", True, rungs=(100,), factor=3)
        >>> plan.below(1000), plan.keep == 1 / 3
        ((100, 300, 900), True)
    """

    metric: str
    more_is_better: bool
    rungs: tuple[int, ...]
    """Steps, rising."""
    factor: int | None
    """From the last rung on each is so many times the one before; None: no more."""
    keep: float
    """The part of those that come to a rung that goes on."""

    def below(self, steps: int) -> tuple[int, ...]:
        """The rungs of a training of so many steps; ValueError if there is none."""
        found = list(self.rungs)
        while self.factor is not None and found[-1] * self.factor < steps:
            found.append(found[-1] * self.factor)
        found = [rung for rung in found if rung < steps]
        if not found:
            raise ValueError(
                f"halving: expected a rung below {steps} steps, got {list(self.rungs)}"
            )
        return tuple(found)

    def score(self, metrics: Any) -> float:
        """The metrics of a trial as one number: more is better, -inf if it is broken.

        Raises:
            ValueError: the metric is not among them.
        """
        value = _scalars.at("halving: metric", metrics, self.metric)
        number = math.nan if value is None else float(value)
        if not math.isfinite(number):
            return -math.inf
        return number if self.more_is_better else -number

    def survivors(self, scores: Any, now: Any) -> np.ndarray:
        """Which of the trials that come to a rung now go on.

        Those among the best `keep` of all that have come to it so far, rounded up; of
        equal scores the first. Where all come at once that is successive halving; where
        places are filled again and trials come later, its asynchronous form: who comes
        later is measured against those before, who were not against them.

        Args:
            scores: [N] at this rung, of `score`; NaN for who has not come to it.
            now: bool [N], who comes now; they have scores.

        Returns:
            bool [N], True for those of `now` that go on.
        """
        scores, now = np.asarray(scores, np.float64), np.asarray(now, bool)
        if scores.shape != now.shape or scores.ndim != 1:
            raise ValueError(
                f"scores, now: expected [N] both, got {scores.shape} and {now.shape}"
            )
        came = np.flatnonzero(~np.isnan(scores))
        if (now & np.isnan(scores)).any():
            missing = np.flatnonzero(now & np.isnan(scores)).tolist()
            raise ValueError(
                f"now: expected scores of all that come, {missing} have none"
            )
        order = came[np.argsort(-scores[came], kind="stable")]
        # Not a hair more than a whole number: 0.07 * 100 is 7.000000000000001.
        count = math.ceil(self.keep * len(came) - 1e-9)
        best = np.zeros(len(now), bool)
        best[order[:count]] = True
        return best & now


def halving(
    metric: str,
    more_is_better: bool,
    rungs: Sequence[int],
    *,
    factor: int | None = None,
    keep: float = 1 / 3,
) -> Halving:
    """A plan of successive halving: at each rung the worst trials of a study stop.

    At a rung the best part of the trials that have come to it goes on, and the places
    of the others are given to trials that wait; when none waits, the survivors go on
    as a smaller program. A trial that was stopped has a record with `stopped`, the
    metrics of that step, and no `error`: it is neither broken nor a whole result.

    Args:
        metric: which of those that `evaluate` returns decides; a nested one is a path,
            `left/dice`. One that is not finite is the worst.
        more_is_better: whether the largest is the best.
        rungs: steps after which trials are compared, rising.
        factor: go on from the last rung in multiples: `rungs=(100,), factor=3` is 100,
            300, 900, ... as far as the training goes.
        keep: the part that goes on, rounded up, in (0, 1). With `factor` 3 and `keep`
            1/3 every rung costs as many steps as any other.

    Returns:
        `Halving`, for `hw.sweeps.run(program, ..., halving=...)`.

    Raises:
        ValueError: rungs that do not rise, a `factor` below 2, a `keep` outside (0, 1).

    Example:
        >>> plan = hw.sweeps.halving("loss", False, (100, 300))
        >>> scores = [plan.score({"loss": x}) for x in (0.5, float("nan"), 0.2)]
        >>> print(scores, plan.survivors(scores, [True, True, True]))
        [-0.5, -inf, -0.2] [False False  True]

    References:
        Jamieson and Talwalkar, "Non-stochastic best arm identification and
        hyperparameter optimization", AISTATS 2016; Li et al., "A system for massively
        parallel hyperparameter tuning", MLSys 2020, section 3.2, of which this is the
        form that stops.
    """
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"metric: expected the name of a metric, got {metric!r}")
    _checks.boolean("more_is_better", more_is_better)
    steps = _checks.positive_ints("rungs", rungs)
    if not steps or list(steps) != sorted(set(steps)):
        raise ValueError(f"rungs: expected steps that rise, got {list(steps)}")
    if factor is not None and _checks.positive_int("factor", factor) < 2:
        raise ValueError(f"factor: expected 2 or more, got {factor}")
    inside = "a number in (0, 1)"
    _checks.in_range("keep", keep, inside, lambda x: 0 < x < 1)
    return Halving(metric, bool(more_is_better), steps, factor, float(keep))


def places(
    running: Sequence[int], waiting: Sequence[int], size: int
) -> tuple[list[int], int]:
    """Who has the places of a program next, and how many places it has.

    Those that run keep theirs, in order; those that wait get what is free, in order.
    When nobody is left to wait, a program half as large takes over as often as all find
    room in it: at most log2(size) sizes are ever compiled.

    Example:
        >>> places([2, 5], [6, 7, 8], size=4)
        ([2, 5, 6, 7], 4)
        >>> places([2, 5], [6], size=8)
        ([2, 5, 6], 4)
    """
    taken = [*running, *waiting][:size]
    while size > 1 and len(taken) <= -(-size // 2):
        size = -(-size // 2)
    return taken, size
