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
        """The next cohort: one trial, or as many as the memory had room for."""
        size = len(free) if self._batched else 1
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
        names, trials = list(rows), list(rows.values())
        if not names:
            return None
        claim.beat("running", trials=len(names))
        start = time.perf_counter()
        try:
            with self._bar.running(trials, self._count()):
                ends = self._ends(text["mode"], trials)
        except Exception as error:
            if not _memory_faults.out_of_memory(error):
                raise
            if len(names) > 1:
                size = -(-len(names) // 2)
                _LOG.warning(_memory_faults.SMALLER, len(names), size)
                return self._text(names[:size], size)
            ends = [{"metrics": {}, "error": _memory_faults.words(error)}]
        seconds = (time.perf_counter() - start) / len(names)
        records = [
            self._maker.record(trial, text["mode"], seconds, **end)
            for trial, end in zip(trials, ends, strict=True)
        ]
        for name, record in zip(names, records, strict=True):
            claim.check()
            self._store.commit(name, record)
        self._bar.done(trials, records, self._count())
        self._store.finished(claim)
        for trial, record in zip(trials, records, strict=True):
            if self._stop_on_failure and _ends.failed(record):
                raise FloatingPointError(_ends.failure(trial, record))
        return None

    def _ends(self, mode: str, trials: Sequence[_trials.Trial]) -> list[dict[str, Any]]:
        if mode == "vmap" and self._batched:
            return _alone.together(self._many, trials)
        return [end for trial in trials for end in _alone.alone(self._checked, trial)]

    def _count(self) -> int:
        return len(self._wanted.done())
