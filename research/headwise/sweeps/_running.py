"""A cohort of a worker: chunk after chunk until the records of its trials are there."""

import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from headwise import _interrupts
from headwise.sweeps import _ends
from headwise.sweeps import _members
from headwise.sweeps import _modes
from headwise.sweeps import _pace
from headwise.sweeps import _places
from headwise.sweeps import _trials

MARKS = 16
"""Steps of a trial at which its digest is taken, about."""


class Job(NamedTuple):
    """What a worker is to do with each cohort of a program."""

    steps: int
    static: tuple[str, ...]
    maker: _ends.Maker
    report_every: int
    checkpoint_every: float | None
    """Seconds."""
    halving: Any
    stop_on_failure: bool


def marks(steps: int) -> list[int]:
    """The steps after which the digest of a state is taken: a function of `steps`.

    Example:
        >>> marks(3), marks(100)[:3], marks(100)[-1]
        ([1, 2, 3], [7, 14, 21], 100)
    """
    every = -(-steps // MARKS)
    return [*range(every, steps, every), steps]


def carry_out(
    program: Any, job: Job, store: Any, claim: Any, text: Mapping[str, Any], view: Any
) -> None:
    """Trains a cohort to its end and commits the records of its trials.

    Raises:
        LostClaim: another worker has taken it over.
        FloatingPointError: a trial failed, and the job stops on failure.
        KeyboardInterrupt: a signal came; there is a checkpoint.
    """
    with _interrupts.Interrupts(on=True) as interrupts:
        course = _Course(program, job, store, claim, text, view)
        while course.busy:
            course.chunk()
            course.settle()
            stops = interrupts.noted is not None or course.failure is not None
            if course.busy and (stops or course.pace.save_due):
                course.save()
            if stops:
                store.wait(claim)
                interrupts.stop()
            if course.failure is not None:
                raise FloatingPointError(course.failure)
    course.keep_curves()
    store.finished(claim)


class _Course:
    """A cohort on its way."""

    def __init__(
        self, program: Any, job: Job, store: Any, claim: Any, text: Any, view: Any
    ):
        self._program, self._job, self._store = program, job, store
        self._claim, self._view = claim, view
        self._names, self._mode = text["trials"], text["mode"]
        self._trials = [_trials.Trial(**row) for row in text["rows"]]
        self._marks = marks(job.steps)
        self._rungs = list(job.halving.below(job.steps)) if job.halving else []
        self._dues = np.array(sorted({*self._marks, *self._rungs}))
        self.pace = _pace.Pace(job.checkpoint_every)
        self.failure: str | None = None
        self._rows: list[dict[str, Any]] = []
        claim.beat("compiling")
        self._whole = text["size"]
        now = self._begin(self._whole)
        found = store.restore(claim.number, now)
        if found is not None:
            now = _places.Now(found[0].members, *map(np.asarray, found[0][1:]))
            now = now if not self._rungs else _places.compacted(now)
        if not self._rungs:  # else each is wanted for the ranks of the others
            done = store.records()
            there = [n >= 0 and self._names[n] not in done for n in now.places]
            now = now._replace(places=np.where(there, now.places, -1))
        self._now = _places.resting(now)
        self._look()

    @property
    def busy(self) -> bool:
        """Whether a trial is on its way."""
        return bool((self._now.places >= 0).any())

    def chunk(self) -> None:
        """Runs steps until something is due, or a chunk is long enough."""
        due = self._next_due()
        left = (due - self._t)[self._on_its_way]
        number = min(int(left.min()), self.pace.steps)
        start = time.perf_counter()
        members, reports = self._cohort.advance(self._now.members, number, due)
        self._now = self._now._replace(members=members)
        self._look()
        self._keep_rows(reports)
        seconds = time.perf_counter() - start
        self.pace.ran(number, seconds)
        self._now = self._now._replace(
            ran=np.int32(self._now.ran + number),
            seconds=np.float32(self._now.seconds + seconds),
        )
        self._tell(number / max(seconds, 1e-9))

    def settle(self) -> None:
        """Takes digests, ranks, and commits the records of who has come to an end."""
        now, t = self._now, self._t
        there = now.places >= 0
        frozen = there & (self._stopped >= 0)
        for row, mark in enumerate(self._marks):
            if (at := there & ~frozen & (t == mark)).any():
                now.digests[row, now.places[at]] = self._digest[at]
        done = there & ~frozen & (t == self._job.steps)
        ranked = there & ~frozen & np.isin(t, self._rungs) & ~done
        metrics: Any = None
        if done.any() or ranked.any():
            metrics = jax.device_get(self._cohort.finish(now.members))
        cut = self._ranked(metrics, ranked, frozen)
        for place in np.flatnonzero(frozen | done | cut):
            end: dict[str, Any] = {"metrics": {}}
            if frozen[place]:
                stopped, cause = int(self._stopped[place]), int(self._cause[place])
                error = _ends.broken(stopped, cause, self._heads)
                end |= {"stopped": stopped, "error": error}
            else:
                end["metrics"] = _ends.of_member(metrics, place)
                if cut[place]:
                    end["stopped"] = int(t[place])
            self._commit(int(now.places[place]), end)
        ended = frozen | done | cut
        if ended.any():
            self._now = now._replace(places=np.where(ended, -1, now.places))
            self._move()

    def save(self) -> None:
        """Keeps curves, and starts to write a checkpoint."""
        start = time.monotonic()
        self.keep_curves()
        whole = _places.whole(self._now, self._whole)
        self._store.save(self._claim, int(self._now.ran), whole)
        self.pace.saved(time.monotonic() - start)

    def keep_curves(self) -> None:
        """Keeps the rows that were reported since the last time."""
        rows, self._rows = self._rows, []
        if rows:
            chunk = jax.tree.map(lambda *parts: np.concatenate(parts), *rows)
            self._store.curves(self._claim, int(self._now.ran), chunk)
