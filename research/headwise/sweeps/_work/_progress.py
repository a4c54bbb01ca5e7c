"""What a sweep shows: a bar on a terminal, lines where none can be drawn."""

import contextlib
from collections.abc import Iterator
from collections.abc import Sequence

import rich.progress

from headwise import _records
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _ends


class Bar:
    """How far a sweep is."""

    def __init__(self, shown: rich.progress.Progress, total: int, quiet: bool):
        self._shown, self._total = shown, total
        self._task = shown.add_task("sweep", total=total)
        self._lines = not quiet and not shown.console.is_terminal

    @contextlib.contextmanager
    def running(self, trials: Sequence[_trials.Trial], done: int) -> Iterator[None]:
        """While these trials run; of several in one program no one knows how far."""
        self._shown.update(self._task, completed=done)
        if len(trials) == 1:
            self._shown.update(self._task, description=_ends.words(trials[0]))
            yield
            return
        words = f"{len(trials)} trials as one program"
        if self._lines:
            print(f"{words}: no word until all end", flush=True)
        moving = self._shown.add_task(words, total=None)
        try:
            yield
        finally:
            self._shown.remove_task(moving)

    def done(
        self,
        trials: Sequence[_trials.Trial],
        records: Sequence[_records.Record],
        done: int,
    ) -> None:
        """Counts them; a line each where there is no bar, or one for a program."""
        self._shown.update(self._task, completed=done, description="sweep")
        if not self._lines:
            return
        seconds = sum(record["seconds"] or 0.0 for record in records)
        state, name = f"{seconds:.1f} s", f"{len(trials)} trials as one program"
        if len(trials) == 1:
            state, name = records[0]["error"] or state, _ends.words(trials[0])
        print(f"trial {done}/{self._total} {name}: {state}", flush=True)


@contextlib.contextmanager
def bar(shown: bool, total: int) -> Iterator[Bar]:
    """A bar over so many trials, if it is to be shown."""
    columns = (
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, disable=not shown) as progress:
        yield Bar(progress, total, quiet=not shown)
