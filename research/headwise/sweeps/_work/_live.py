"""What a study shows while it runs: one table on a terminal, else a line now and then.

A `Snapshot` is made rows or a line of text by pure functions; the rest shows them.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import rich
import rich.console
import rich.live
import rich.table
import rich.text

from headwise import _text
from headwise.sweeps._cohort import _forecast

PERIOD = 10.0
"""Seconds between two lines where there is no terminal."""
REFRESH = 0.2
"""Seconds between two pictures of the table."""


class Snapshot(NamedTuple):
    """How far a study is."""

    trials: int
    done: int
    running: int = 0
    frozen: int = 0
    """Trials that broke: they count as done once they have a record."""
    rate: float | None = None
    """Steps of trials a second, over all that run."""
    left: float | None = None
    """Seconds to the end."""
    best: str | None = None
    memory: float | None = None
    """Bytes."""
    doing: str | None = None
    """What goes on now, in words."""


def rows(snapshot: Snapshot) -> list[tuple[str, str]]:
    """The table's rows, name and text; what is not known has none."""
    told = [
        ("trials", f"{snapshot.done} of {snapshot.trials} done"),
        ("running", str(snapshot.running)),
        ("frozen", str(snapshot.frozen) if snapshot.frozen else None),
        ("speed", _speed(snapshot.rate)),
        ("time left", _time(snapshot.left)),
        ("best so far", snapshot.best),
        ("memory", None if snapshot.memory is None else _size(snapshot.memory)),
        ("now", snapshot.doing),
    ]
    return [(name, _text.printable(text)) for name, text in told if text is not None]


def line(snapshot: Snapshot) -> str:
    """The same as one line of text."""
    parts = [f"{snapshot.done}/{snapshot.trials} trials"]
    parts += [f"{snapshot.running} running"] if snapshot.running else []
    parts += [f"{snapshot.frozen} frozen"] if snapshot.frozen else []
    speed, left = _speed(snapshot.rate), _time(snapshot.left)
    parts += [speed] if speed else []
    parts += [f"{left} left"] if left else []
    parts += [f"best {snapshot.best}"] if snapshot.best else []
    parts += [_size(snapshot.memory)] if snapshot.memory is not None else []
    parts += [snapshot.doing] if snapshot.doing else []
    return _text.printable(", ".join(parts))


def best(records: Sequence[Mapping[str, Any]]) -> str | None:
    """The first metric of what is done: from where to where it goes.

    Which end is the better one is known to who made the metric.
    """
    found: dict[str, list[float]] = {}
    for record in records:
        for name, value in record["metrics"].items():
            if record["finite"] and isinstance(value, int | float):
                found.setdefault(name, []).append(float(value))
            break
    for name, values in found.items():
        low, high = f"{min(values):.4g}", f"{max(values):.4g}"
        return f"{name} {low}" if low == high else f"{name} {low} to {high}"
    return None


class View:
    """Where a study is shown; made by `live`."""

    def __init__(self, console: rich.console.Console, on: bool, period: float):
        self._console, self._on, self._period = console, on, period
        self._table: rich.live.Live | None = None
        self._last, self._shown = -math.inf, ""

    def say(self, text: str) -> None:
        """A line that stays: above the table, or by itself."""
        if self._on:
            self._print(_text.printable(text))

    def show(self, snapshot: Snapshot) -> None:
        """The newest state. Cheap: most calls show nothing where nothing moves."""
        if not self._on:
            return
        now, over = time.monotonic(), snapshot.done >= snapshot.trials
        if self._table is not None:
            if over or now - self._last >= REFRESH:
                self._last = now
                self._table.update(table(snapshot), refresh=True)
            return
        text = line(snapshot)
        if text != self._shown and (over or now - self._last >= self._period):
            self._last, self._shown = now, text
            self._print(text)

    def _print(self, text: str) -> None:
        if self._table is None:
            print(text, flush=True)  # a whole line, however long
        else:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def _running(self) -> Iterator["View"]:
        moves = self._console.is_interactive or self._console.is_jupyter
        if not (self._on and moves):
            yield self
            return
        with rich.live.Live(console=self._console, auto_refresh=False) as self._table:
            yield self


def table(snapshot: Snapshot) -> rich.table.Table:
    """The rows as rich draws them."""
    grid = rich.table.Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="ellipsis", no_wrap=True)
    for name, text in rows(snapshot):
        grid.add_row(rich.text.Text(name), rich.text.Text(text))
    return grid


@contextlib.contextmanager
def live(
    on: bool,
    *,
    console: rich.console.Console | None = None,
    period: float = PERIOD,
) -> Iterator[View]:
    """Shows a study while the block runs.

    Args:
        on: whether to show anything.
        console: where; None: standard output.
        period: seconds between two lines where the table cannot be drawn.
    """
    with View(console or rich.get_console(), on, period)._running() as view:
        yield view


def _speed(rate: float | None) -> str | None:
    if rate is None or not rate > 0:
        return None
    return f"{_forecast.digits(rate, 3)} steps/s"


def _time(seconds: float | None) -> str | None:
    if seconds is None or not math.isfinite(seconds):
        return None
    return _forecast.duration(max(seconds, 0.0))


def _size(nbytes: float) -> str:
    return _forecast.size(nbytes)
