"""What a worker is to do with each cohort of a study, and when digests are due."""

from typing import NamedTuple

from headwise.sweeps._search import _halving
from headwise.sweeps._work import _ends

MARKS = 16
"""Steps of a trial at which its digest is taken, about."""


class Job(NamedTuple):
    """What a worker is to do with each cohort of a study."""

    steps: int
    static: tuple[str, ...]
    maker: _ends.Maker
    report_every: int
    checkpoint_every: float | None
    """Seconds."""
    halving: _halving.Halving | None
    stop_on_failure: bool


def marks(steps: int) -> list[int]:
    """The steps after which the digest of a state is taken: a function of `steps`.

    Example:
        >>> marks(3), marks(100)[:3], marks(100)[-1]
        ([1, 2, 3], [7, 14, 21], 100)
    """
    every = -(-steps // MARKS)
    return [*range(every, steps, every), steps]
