"""A cohort of a worker: chunk after chunk until the records of its trials are there."""

import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from headwise import _interrupts
from headwise.sweeps._cohort import _modes
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _ends
from headwise.sweeps._work import _job
from headwise.sweeps._work import _pace
from headwise.sweeps._work import _places


def carry_out(
    program: Any,
    job: _job.Job,
    store: Any,
    claim: Any,
    text: Mapping[str, Any],
    show: Callable[..., None],
) -> None:
    """Trains a cohort to its end and commits the records of its trials.

    Raises:
        LostClaim: another worker has taken it over.
        FloatingPointError: a trial failed, and the job stops on failure.
        KeyboardInterrupt: a signal came; there is a checkpoint.
    """
    with _interrupts.Interrupts(on=True) as interrupts:
        course = Course(program, job, store, claim, text, show)
        while course.busy:
            course.chunk()
            course.settle()
            failed = job.stop_on_failure and course.failure is not None
            stops = interrupts.noted is not None or failed
            if course.busy and (stops or course.pace.save_due):
                course.save()
            if stops and course.busy:
                store.wait(claim)
            interrupts.stop()
            if failed:
                raise FloatingPointError(course.failure)
    store.finished(claim)


class Course:
    """A cohort on its way."""

    def __init__(
        self,
        program: Any,
        job: _job.Job,
        store: Any,
        claim: Any,
        text: Mapping[str, Any],
        show: Callable[..., None],
    ):
        self._program, self._job, self._store = program, job, store
        self._claim, self._show, self._mode = claim, show, text["mode"]
        self._memory = text.get("memory")
        self._names = list(text["trials"])
        self._trials = [_trials.Trial(**row) for row in text["rows"]]
        self._marks = _job.marks(job.steps)
        self._rungs = list(job.halving.below(job.steps)) if job.halving else []
        self._dues = np.array(sorted({*self._marks, *self._rungs}), np.int32)
        self._rows: list[dict[str, Any]] = []
        self.pace = _pace.Pace(job.checkpoint_every)
        self.failure: str | None = None
        claim.beat("compiling", cohort=claim.number, trials=len(self._names))
        size, number = text["size"], len(self._names)
        places = np.arange(size) * (np.arange(size) < number)
        self._cohort = self._of_size(size)
        members = self._start(places)
        shape = number, size, len(self._marks), len(self._rungs)
        self._now = first = _places.first(members, *shape)
        self._like = jax.eval_shape(lambda: first)
        found = store.restore(claim.number, self._like)
        if found is not None:
            arrays = map(np.array, found[0][1:])
            self._now = _places.again(_places.Now(found[0].members, *arrays))
            self._cohort = self._of_size(len(self._now.places))
        if not self._rungs:  # else each is wanted for the ranks of the others
            done = store.records()
            there = [n >= 0 and self._names[n] not in done for n in self._now.places]
            left = np.where(there, self._now.places, -1).astype(np.int32)
            self._now = self._now._replace(places=left)
        self._now = _places.resting(self._now)
        self._look()

    @property
    def busy(self) -> bool:
        """Whether a trial is on its way."""
        return bool((self._now.places >= 0).any())

    def chunk(self) -> None:
        """Runs steps until something is due, or for as long as a chunk may be."""
        on_way = (self._now.places >= 0) & (self._stopped < 0)
        due = np.searchsorted(self._dues, self._t, side="right")
        until = self._dues[due.clip(max=len(self._dues) - 1)]
        number = min(int((until - self._t)[on_way].min()), self.pace.steps)
        start = time.perf_counter()
        members, reports = self._cohort.advance(self._now.members, number, until)
        self._now = self._now._replace(members=members)
        before = self._t.sum()
        self._look()
        self._report(reports)
        seconds = time.perf_counter() - start
        self.pace.ran(number, seconds)
        now = self._now
        ran, took = np.int32(now.ran + number), np.float32(now.seconds + seconds)
        self._now = now._replace(ran=ran, seconds=took)
        self._tell(float(self._t.sum() - before) / max(seconds, 1e-9))

    def settle(self) -> None:
        """Takes digests and ranks; commits the records of who has come to an end."""
        places, t = self._now.places, self._t
        frozen = (places >= 0) & (self._stopped >= 0)
        whole = (places >= 0) & ~frozen
        self._mark(whole & np.isin(t, self._marks))
        done = whole & (t == self._job.steps)
        ranked = whole & ~done & np.isin(t, self._rungs)
        metrics: Any = None
        if done.any() or ranked.any():
            metrics = self._cohort.finish(self._now.members)
        cut = self._rank(metrics, ranked, frozen)
        ended = frozen | done | cut
        if ended.any():  # first: nobody trains again what has a record
            self.keep_curves()
        for place in np.flatnonzero(ended).tolist():
            if frozen[place]:
                self._commit(place, **self._broken(place))
            else:
                stopped = {"stopped": int(t[place])} if cut[place] else {}
                own = _ends.of_member(metrics, place)
                self._commit(place, metrics=own, **stopped)
        if ended.any():
            left = np.where(ended, -1, places).astype(np.int32)
            self._now = self._now._replace(places=left)
            if self._rungs:
                self._move()
            else:
                self._now = _places.resting(self._now)
            self._look()

    def save(self) -> None:
        """Keeps curves, and starts to write a checkpoint."""
        start = time.monotonic()
        self.keep_curves()
        whole = _places.whole(self._now, self._like)
        self._store.save(self._claim, int(self._now.ran), whole)
        self.pace.saved(time.monotonic() - start)

    def keep_curves(self) -> None:
        """Keeps the rows that were reported since the last time."""
        rows, self._rows = self._rows, []
        if rows:
            chunk = jax.tree.map(lambda *parts: np.concatenate(parts), *rows)
            if self._rungs:
                names = [self._names[n] if n >= 0 else "" for n in self._now.places]
                chunk["trials"] = np.array(names)
            self._store.curves(self._claim, int(self._now.ran), chunk)

    def _of_size(self, size: int) -> Any:
        """The program for so many places."""
        like = _trials.stacked([self._trials[0]] * size, self._job.static)
        every, steps = self._job.report_every, self._job.steps
        return _modes.cohort(self._program, self._mode, like, every=every, steps=steps)

    def _start(self, places: np.ndarray) -> Any:
        trials = [self._trials[max(place, 0)] for place in places]
        return self._cohort.start(_trials.stacked(trials, self._job.static))

    def _look(self) -> None:
        """Fetches how far the members are."""
        members, size = self._now.members, len(self._now.places)
        t, stopped, cause = jax.device_get((members.t, members.stopped, members.cause))
        self._t, self._stopped, self._cause = t[:size], stopped[:size], cause[:size]

    def _report(self, reports: Any) -> None:
        """Keeps the rows of a chunk until they are written."""
        if not len(reports.t):
            return
        report = reports.report
        named = report if isinstance(report, Mapping) else {"report": report}
        t = np.where(self._now.places >= 0, reports.t, -1)
        self._rows.append({**named, "t": t})

    def _mark(self, which: np.ndarray) -> None:
        """A link more in the digests of some members, which are kept."""
        if not which.any():
            return
        members = self._cohort.mark(self._now.members, which)
        self._now = self._now._replace(members=members)
        digests = np.asarray(members.digest)[: len(which)]
        rows = np.searchsorted(self._marks, self._t[which])
        self._now.digests[rows, self._now.places[which]] = digests[which]

    def _rank(self, metrics: Any, ranked: np.ndarray, frozen: np.ndarray) -> np.ndarray:
        """Whom halving stops, of those that have come to a rung."""
        plan = self._job.halving
        if plan is None or not (ranked | frozen).any():
            return np.zeros(len(ranked), bool)
        own = {p: _ends.of_member(metrics, p) for p in np.flatnonzero(ranked).tolist()}
        scores, cut = _places.ranked(plan, self._rungs, self._now, self._t, own, frozen)
        self._now = self._now._replace(scores=scores)
        return cut

    def _move(self) -> None:
        """Gives free places to trials that wait, or goes on with fewer."""
        now = _places.moved(self._now, len(self._trials), self._start)
        if len(now.places) != len(self._now.places):
            self._cohort = self._of_size(len(now.places))
        self._now = _places.resting(now)

    def _commit(self, place: int, **end: Any) -> None:
        n = int(self._now.places[place])
        trial, name = self._trials[n], self._names[n]
        seconds = float(self._now.seconds) / len(self._trials)
        chain = _ends.chain(self._marks, self._now.digests[:, n])
        more = {"digests": chain, "memory": self._memory}
        record = self._job.maker.record(trial, self._mode, seconds, **end, **more)
        self._claim.check()
        self._store.commit(name, record)
        if _ends.failed(record):
            self.failure = self.failure or _ends.failure(trial, record)

    def _broken(self, place: int) -> dict[str, Any]:
        """How a member ends that was frozen."""
        stopped = int(self._stopped[place])
        what = self._cohort.parts.cause(int(self._cause[place])) or "the state"
        name = self._names[int(self._now.places[place])]
        self._store.event("frozen", trial=name, step=stopped, head=what)
        error = f"step {stopped}: {what} is not finite"
        return {"metrics": {}, "stopped": stopped, "error": error}

    def _tell(self, rate: float) -> None:
        numbers = _places.numbers(self._now, self._t, self._stopped)
        steps, over = self._job.steps, numbers.pop("over")
        left = steps * (len(self._trials) - over) - numbers["ahead"]
        numbers |= {"cohort": self._claim.number, "steps": steps}
        numbers |= {"rate": rate, "left": left / max(rate, 1e-9)}
        self._claim.beat("running", **numbers)
        self._show(mode=self._mode, **numbers)
