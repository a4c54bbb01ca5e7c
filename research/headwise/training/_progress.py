"""What is shown of a run: a bar on a terminal, a line a record anywhere else."""

import contextlib
import datetime
import math
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import rich.progress

from headwise import _columns
from headwise import _text

Show = Callable[[Mapping[str, Any]], None]
"""Takes the newest record."""


@contextlib.contextmanager
def progress(label: str, first: int, steps: int, on: bool) -> Iterator[Show]:
    """Shows a run from step `first` to `steps`; nothing unless `on`.

    A log file, a pipe and a terminal that cannot move its cursor get lines, each
    written at once.

    Args:
        label: of the run. What cannot be printed in it, or in the name of a head, is
            shown escaped.
        first, steps: done at the start, and at the end.
        on: whether to show anything.
    """
    label = _text.printable(label)
    columns = (
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[shown]}", markup=False),
    )
    console = rich.get_console()
    moves = console.is_interactive or console.is_jupyter
    bar = rich.progress.Progress(*columns, console=console, disable=not (on and moves))
    start = time.monotonic()
    with bar:
        task = bar.add_task(label, total=steps, completed=first, shown="")

        def show(record: Mapping[str, Any]) -> None:
            if not on:
                return
            done, shown = record["step"], _numbers(record)
            if moves:
                bar.update(task, completed=done, shown=shown)
                return
            passed = time.monotonic() - start
            left = passed * (steps - done) / max(done - first, 1)
            times = f"{_clock(passed)}, {_clock(left)} left"
            print(f"{label} {done}/{steps} ({times}) {shown}", flush=True)

        yield show


def _numbers(record: Mapping[str, Any]) -> str:
    """The values of the heads and what was validated, in one line."""
    values = record.get("values", {}).items()
    validated = list(_columns.flat(record.get("validation", {})))
    told = _pairs(values)
    return f"{told} | validation {_pairs(validated)}" if validated else told


def _pairs(pairs: Iterable[tuple[str, float | None]]) -> str:
    """Names and their numbers."""
    return " ".join(
        f"{_text.printable(name)} {math.nan if x is None else x:.3g}"
        for name, x in pairs
    )


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
