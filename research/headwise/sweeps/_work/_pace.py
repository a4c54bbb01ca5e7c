"""How long a chunk of steps is, and when a checkpoint is due: by measured time."""

import time

SECONDS = 1.0
"""A chunk's: after it a worker looks whether it is to stop, and shows how far it is."""
SHARE = 0.02
"""Of the time, for checkpoints."""
FIRST = 10.0
"""Seconds between two checkpoints at least, if nothing is said."""
_FASTER = 8
"""How many times longer than the last a chunk may be."""


class Pace:
    """The pace of a cohort.

    Args:
        every: seconds between two checkpoints; None: as often as takes `SHARE` of the
            time, by what the last one cost.
    """

    def __init__(self, every: float | None):
        self._every, self._cost = every, 0.0
        self._saved = time.monotonic()
        self._most = 1  # the first call compiles, so its time tells nothing

    @property
    def steps(self) -> int:
        """The most steps of the next chunk."""
        return self._most

    def ran(self, steps: int, seconds: float) -> None:
        """A chunk took so long."""
        if steps == 1:
            self._most = _FASTER
            return
        fit = int(SECONDS * steps / max(seconds, 1e-9))
        self._most = max(1, min(fit, _FASTER * max(steps, self._most)))

    @property
    def save_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        every = self._every
        if every is None:
            every = max(FIRST, self._cost / SHARE)
        return time.monotonic() - self._saved >= every

    def saved(self, seconds: float) -> None:
        """A checkpoint was written; it took so long."""
        self._cost, self._saved = seconds, time.monotonic()
