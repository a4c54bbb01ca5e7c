"""What is due when: where the loop stops to record, to validate and to save."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from headwise import _checks

FREE, SHARE = 0.5, 0.05
"""Seconds, and the part of all that pass, that checkpoints may take unasked."""


class Stop(NamedTuple):
    """A step after which something may be due."""

    done: int
    """Number of steps done."""
    record: bool
    """Means of the window; `whole` if it ends there, and not for the run's end."""
    whole: bool
    validation: bool
    checkpoint: bool


class Periods(NamedTuple):
    """How often what is due, in steps; None: not before the end.

    What is due depends on the number of the step alone, not on where a run began.
    """

    steps: int
    """At the end, where everything is due."""
    log: int
    validate: int | None = None
    checkpoint: int | None = None
    report: int | None = None
    """Due in a step, not after it; never at the end."""
    marks: tuple[int, ...] = ()
    """Numbers of steps after which a leg ends, too."""

    def stops(self, done: int, end: int) -> Iterator[Stop]:
        """What is due on the way from one number of steps to another, which ends it.

        Example:
            >>> from headwise.training import _due
            >>> periods = _due.Periods(40, log=10, validate=15)
            >>> [stop.done for stop in periods.stops(0, 32)]
            [10, 15, 20, 30, 32]
        """
        while done < end:
            done = min(end, _next(done, self.log, self.validate, self.checkpoint))
            last, whole = done == self.steps, every(self.log, done)
            yield Stop(
                done,
                record=last or whole,
                whole=whole,
                validation=last or every(self.validate, done),
                checkpoint=last or every(self.checkpoint, done),
            )

    def leg(self, done: int, recorded: bool = False) -> int:
        """The number of steps up to which the state is needed by nobody else.

        Args:
            done: steps so far.
            recorded: whether a record needs the state, too.
        """
        if every(self.report, done):
            return done + 1
        log = self.log if recorded else None
        periods = (log, self.validate, self.checkpoint, self.report)
        marks = (mark for mark in self.marks if mark > done)
        return min(self.steps, _next(done, *periods), *marks)

    def longest(self, first: int) -> int:
        """The most steps of a leg, from step `first` on.

        At least two where only the end of the run makes it one: a run that goes on
        from its last but one step takes the program that it took before.
        """
        rest = max(2, self.steps - first)
        periods = (rest, self.validate, self.checkpoint, self.report)
        return min(p for p in periods if p is not None)


def periods(steps: int, **given: int | None) -> Periods:
    """Those that the arguments of `fit` name (`log_every` and so on).

    Raises:
        ValueError: one is no positive int.
    """
    for name, period in given.items():
        if name == "log_every" or period is not None:
            _checks.positive_int(name, period)
    fields = {name.removesuffix("_every"): period for name, period in given.items()}
    return Periods(steps, **fields)  # type: ignore[arg-type]


def every(period: int | None, number: int) -> bool:
    """Whether the number is a multiple of the period; None: never."""
    return period is not None and number % period == 0


def _next(done: int, *periods: int | None) -> int:
    """The first number after `done` that is a multiple of one of them."""
    return min((done - done % p + p for p in periods if p), default=2**62)


class Budget:
    """The time that may be spent on something beside the run: a little of all."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._spent = 0.0

    def left(self) -> bool:
        """Whether some of it is left."""
        return self._spent <= FREE + SHARE * (time.monotonic() - self._start)

    def __enter__(self) -> None:
        self._spent -= time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._spent += time.monotonic()
