"""The trials that a run is asked for, by their names in the store, and what is done."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from headwise import _records
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _compose
from headwise.sweeps._work import _ends


class Wanted:
    """Trials by name, and the records of those that are done, by whomever.

    A trial that failed has another attempt, of another name, if it is tried again.

    Args:
        settings: of the study; with the trial they are its key.
        store: of the study.
        retry: whether what failed is tried again.
        check: is given records that are found in the store, before they are given back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        store: Any,
        retry: bool,
        check: Callable[[Iterable[_records.Record]], None],
    ):
        self._settings, self._store, self._retry = dict(settings), store, retry
        self._check = check
        self._older = {_records.identity(record): record for record in store.older()}
        self.trials: dict[str, _trials.Trial] = {}
        self._found: dict[str, _records.Record] = {}

    def add(self, trials: Iterable[_trials.Trial]) -> list[str]:
        """More trials; returns the names of these, in order."""
        records, names = self._store.records(), []
        for trial in trials:
            key = _trials.key(trial, self._settings)
            name = _compose.attempt(key, records, self._retry)
            names.append(name)
            self.trials[name] = trial
            settings = {**self._settings, **trial.varied}
            same = {"weights": trial.weights, "seed": trial.seed, "settings": settings}
            before = self._older.get(_records.identity(same))
            # One that is older than the store has no name in it.
            again = before is not None and self._retry and _ends.failed(before)
            if before is not None and name == key and not again:
                self._check([before])
                self._found[name] = before
        return names

    def done(self) -> dict[str, _records.Record]:
        """{name: record} of those that are done."""
        records = self._store.records()
        new = {
            name: records[name]
            for name in self.trials
            if name not in self._found and name in records
        }
        self._check(new.values())
        self._found |= new
        return self._found

    def left(self) -> list[str]:
        """Names of those that are not done, in order."""
        done = self.done()
        return [name for name in self.trials if name not in done]
