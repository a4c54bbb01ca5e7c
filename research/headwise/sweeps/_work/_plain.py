"""Work of a study whose trials a plain function trains: alone, or by `jax.vmap`."""

import logging
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise.sweeps._cohort import _memory_faults
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _alone
from headwise.sweeps._work import _ends
from headwise.sweeps._work import _wanted

_LOG = logging.getLogger("headwise")
PARTS = 128
"""A worker takes one of so many parts of the trials that are free, at least one trial:
each look at the study costs as much as there are trials, and there are few looks; what
is left in the end is shared trial by trial."""


class Plain:
    """How the trials of a plain function are composed and trained.

    Args:
        train: the function.
        wanted: the trials of this run.
        store: of the study.
        maker: of the records.
        batched: many as one program, instead of one after the other.
        bar: shows how far it is.
        stop_on_failure: whether a trial that fails ends the run.
    """

    def __init__(
        self,
        train: _alone.Train,
        wanted: _wanted.Wanted,
        store: Any,
        maker: _ends.Maker,
        batched: bool,
        bar: Any,
        stop_on_failure: bool,
    ):
        self._wanted, self._store = wanted, store
        self._maker, self._batched, self._bar = maker, batched, bar
        self._stop_on_failure = stop_on_failure
        checked = _alone.checked(train)
        self._checked, self._many = checked, _alone.traceable(checked)

    def compose(
        self, free: Sequence[str], cohorts: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The next cohort: a part of the trials, or as many as have room in memory."""
        size = len(free) if self._batched else -(-len(free) // PARTS)
        for cohort in cohorts:
            if "instead_of" in cohort and cohort["mode"] == self.mode:
                size = min(size, cohort["size"])
        return self._text(free[:size], size)

    @property
    def mode(self) -> str:
        """As it stands in records."""
        return "vmap" if self._batched else "loop"

    def _text(self, names: Sequence[str], size: int) -> dict[str, Any]:
        rows = [self._wanted.trials[name]._asdict() for name in names]
        return {"trials": list(names), "rows": rows, "mode": self.mode, "size": size}

    def carry_out(self, claim: Any, text: Mapping[str, Any]) -> dict[str, Any] | None:
        """Trains what is not done of a cohort, and commits its records."""
        done = self._store.records()
        pairs = zip(text["trials"], text["rows"], strict=True)
        rows = {n: _trials.Trial(**row) for n, row in pairs if n not in done}
        if not rows:
            return None
        claim.beat("running", trials=len(rows))
        count = len(self._wanted.done())
        if self._batched and text["mode"] == "vmap":
            smaller = self._together(claim, rows, count)
            if smaller is not None:
                return smaller
        else:
            for k, (name, trial) in enumerate(rows.items()):
                self._one(claim, text["mode"], name, trial, count + k)
        self._store.finished(claim)
        return None

    def _one(
        self, claim: Any, mode: str, name: str, trial: _trials.Trial, count: int
    ) -> None:
        """One trial, committed as soon as it ends."""
        start = time.perf_counter()
        with self._bar.running([trial], count):
            try:
                (end,) = _alone.alone(self._checked, trial)
            except Exception as error:
                if not _memory_faults.out_of_memory(error):
                    raise
                end = {"metrics": {}, "error": _memory_faults.words(error)}
        self._commit(claim, mode, start, {name: trial}, [end], count)

    def _together(
        self, claim: Any, rows: Mapping[str, _trials.Trial], count: int
    ) -> dict[str, Any] | None:
        """Trials as one program; the text of a smaller one if it has no room."""
        names, trials, start = list(rows), list(rows.values()), time.perf_counter()
        try:
            with self._bar.running(trials, count):
                ends = _alone.together(self._many, trials)
        except Exception as error:
            if not _memory_faults.out_of_memory(error):
                raise
            if len(names) > 1:
                size = -(-len(names) // 2)
                _LOG.warning(_memory_faults.SMALLER, len(names), size)
                return self._text(names[:size], size)
            ends = [{"metrics": {}, "error": _memory_faults.words(error)}]
        self._commit(claim, "vmap", start, rows, ends, count)
        return None

    def _commit(
        self,
        claim: Any,
        mode: str,
        start: float,
        rows: Mapping[str, _trials.Trial],
        ends: Sequence[dict[str, Any]],
        count: int,
    ) -> None:
        """The records of trials that ran at a time, after so many others."""
        seconds = (time.perf_counter() - start) / len(rows)
        trials = list(rows.values())
        records = [
            self._maker.record(trial, mode, seconds, **end)
            for trial, end in zip(trials, ends, strict=True)
        ]
        for name, record in zip(rows, records, strict=True):
            claim.check()
            self._store.commit(name, record)
        self._bar.done(trials, records, count + len(rows))
        for trial, record in zip(trials, records, strict=True):
            if self._stop_on_failure and _ends.failed(record):
                raise FloatingPointError(_ends.failure(trial, record))
