"""What is due when: where the loop stops to record, to validate and to save."""

import time
from collections.abc import Iterator
from typing import NamedTuple

FREE, SHARE = 0.5, 0.05
"""Seconds, and the part of all that pass, that checkpoints may take unasked."""


class Stop(NamedTuple):
    """A step after which the host looks at results, and what is due there."""

    done: int
    """Number of steps done."""
    record: bool
    """Means of the window; `whole` if it ends there, and not for the run's end."""
    whole: bool
    validation: bool
    checkpoint: bool


def stops(
    first: int,
    steps: int,
    log_every: int,
    validate_every: int | None,
    checkpoint_every: int | None,
) -> Iterator[Stop]:
    """Where a run from step `first` to `steps` stops; everything is due at the end.

    Where it stops depends on the number of the step alone, not on `first`.

    Example:
        >>> from headwise.training import _due
        >>> [tuple(stop)[0] for stop in _due.stops(0, 40, 10, 15, None)]
        [10, 15, 20, 30, 40]
    """
    periods = [p for p in (log_every, validate_every, checkpoint_every) if p]
    done = first
    while done < steps:
        done = min(steps, *(done - done % period + period for period in periods))
        last = done == steps
        whole = done % log_every == 0
        yield Stop(
            done,
            record=last or whole,
            whole=whole,
            validation=last or every(validate_every, done),
            checkpoint=last or every(checkpoint_every, done),
        )


def every(period: int | None, number: int) -> bool:
    """Whether the number is a multiple of the period; None: never."""
    return period is not None and number % period == 0


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
