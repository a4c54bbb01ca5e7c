"""An adaptive search in a study: batches that are asked for once, by any worker."""

from typing import Any

from headwise.sweeps._design import _trials
from headwise.sweeps._work import _wanted


class Asked:
    """The batches of a search so far.

    Args:
        search: of `hw.sweeps.search`; None asks for nothing.
        store: of the study; it keeps each batch as the first worker asked for it.
        wanted: the trials of this run, which grow.
    """

    def __init__(self, search: Any, store: Any, wanted: _wanted.Wanted):
        self._search, self._store, self._wanted = search, store, wanted
        self._batches: list[list[_trials.Trial]] = []
        self.names: list[str] = []
        """Of all trials that were asked for, in order."""

    def project(self) -> None:
        """Writes the file that Optuna's dashboard shows; nothing reads it back."""
        if self._search is not None and self._store.folder is not None:
            path, records = self._store.folder / "optuna.log", self._wanted.done()
            self._search.project(path, records, self._batches)

    def more(self) -> bool:
        """Asks for the next batch; whether there is one, and its results are wanted."""
        if self._search is None:
            return False
        number = len(self._batches)
        kept = self._store.asks(number)
        if kept is None:
            self.project()
            records = self._wanted.done()
            trials = self._search.ask(records, number, asked=self._batches)
            if not trials:  # the budget is spent, or results are missing
                return False
            self._store.ask(number, {"trials": [t._asdict() for t in trials]})
            kept = self._store.asks(number)
        trials = [_trials.Trial(**row) for row in kept["trials"]]
        self._batches.append(trials)
        self.names += self._wanted.add(trials)
        return True
