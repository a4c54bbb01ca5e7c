"""A profiler trace of some steps of a run, in its workdir."""

import logging
import pathlib
from typing import Any

import jax

from headwise import _checks

_LOG = logging.getLogger("headwise")


def check(profile: Any, workdir: Any) -> None:
    """Raises ValueError unless it says which steps, and there is a place for them."""
    if profile is None:
        return
    if workdir is None:
        raise ValueError("profile: expected a workdir, where the trace goes, got none")
    if not isinstance(profile, tuple | list):
        _checks.positive_int("profile", profile)
        return
    ends = [_checks.nonnegative_int("profile", x) for x in profile]
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise ValueError(
            f"profile: expected (start, stop) with start < stop, got {profile!r}"
        )


def steps_of(profile: Any, first: int, steps: int, log_every: int) -> tuple[int, int]:
    """The steps start <= t < stop that are traced; start == stop: none.

    Args:
        profile: None; (start, stop); or how many, after the first record, since all is
            compiled by then.
        first: the step that the run begins with.
        steps: at the end.
        log_every: steps of a record.
    """
    if profile is None:
        return first, first
    if isinstance(profile, tuple | list):
        start, stop = profile
    else:
        start = first - first % log_every + log_every
        start = start if start < steps else first
        stop = start + profile
    if stop <= first or start >= steps:
        _LOG.warning(
            "profile: nothing is traced: steps %d to %d are not among those from %d "
            "to %d",
            start,
            stop,
            first,
            steps,
        )
        return first, first
    return max(start, first), min(stop, steps)


class Trace:
    """Traces a range of steps into a folder; a context manager.

    Args:
        folder: made if need be.
        start, stop: of the steps.
        on: whether this process traces.
    """

    def __init__(
        self, folder: pathlib.Path | None, start: int, stop: int, *, on: bool = True
    ):
        self._folder, self._start, self._stop = folder, start, stop if on else start
        self._running = False

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._running:
            self._end()

    def at(self, done: int) -> None:
        """Begins or ends the trace where that is due, when so many steps are done."""
        if self._running and done >= self._stop:
            self._end()
        elif self._start <= done < self._stop and not self._running:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def _end(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
        _LOG.info(
            "steps %d to %d are traced: %s", self._start, self._stop, self._folder
        )
