"""Processes that train one model: they stop, save and fail at the same step.

Each runs the same program on its part of the devices. What only one of them knows (that
a signal came, that its disk is full, what time it is) is told to all now and then, by a
collective that costs a fraction of a millisecond; which steps lie between follows from
what was told before, so that all of them stop there.
"""

import sys
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from headwise import _hosts
from headwise import _interrupts

T = TypeVar("T")

SECONDS = 1.0
"""Between two of these times, at most, in which no process hears of another."""
GROWTH = 8


class Together:
    """What the processes of a run agree on between its steps; alone, nothing.

    Args:
        state: of the run: those on whose devices it lies train together.
        workdir: of `fit`.

    Raises:
        ValueError: there are several, and the state lies on one of them.
    """

    def __init__(self, state: Any, workdir: Any):
        self.on = _hosts.spans(state)
        if _hosts.several() and workdir is not None and not self.on:
            raise ValueError(
                "state: expected parameters on the devices of all processes, as "
                "jax.device_put(params, hw.training.fsdp_shardings(params, mesh)) puts "
                "them, got some on devices of this process alone"
            )
        self._stretch = 1 if self.on else sys.maxsize
        self._steps, self._since = 0, time.perf_counter()
        self._heard: str | None = None
        self._error: Exception | None = None
        self._last: Any = None
        self._interrupts = _interrupts.Interrupts(workdir is not None, self.on)
        self._quiet = _hosts.quiet(self.on)

    def __enter__(self) -> "Together":
        self._quiet.__enter__()
        self._interrupts.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._quiet.__exit__(None, None, None)
        self._interrupts.__exit__(*error)

    @property
    def speaks(self) -> bool:
        """Whether this process is the one that prints."""
        return not self.on or _hosts.first()

    def shared(self, value: T) -> T:
        """What the first of them has."""
        return _hosts.shared(value) if self.on else value

    def hurry(self) -> bool:
        """Whether to stop after this step, although nothing is due."""
        self._steps += 1
        if self.on:
            return self._steps >= self._stretch
        return self._interrupts.noted is not None

    @property
    def noted(self) -> str | None:
        """The signal that ends the run, in all processes."""
        return self._heard if self.on else self._interrupts.noted

    def each(self, function: Callable[..., T], *args: Any) -> T:
        """What a function gives here; what it raises in one is raised in all."""
        if not self.on:
            return function(*args)
        value: Any = None
        try:
            value = function(*args)
        except Exception as error:
            self._error = error
        self._raise()
        return value

    def tried(self, function: Callable[..., Any], *args: Any) -> Any:
        """What a function gives here; what it raises is raised in all (`agree`).

        Other processes would wait for ever for one that does not go on: it goes with
        them to the next step at which all agree, with what it had last, in vain.
        """
        if not self.on:
            return function(*args)
        try:
            self._last = function(*args)
        except Exception as error:
            self.failed(error)
        return self._last

    def failed(self, error: Exception) -> None:
        """Keeps an error of this process alone, which is raised in all (`agree`)."""
        self._error = self._error or error

    def act(self) -> None:
        """Does what the signal does; if that ends nothing, the run goes on."""
        self._heard = None
        self._interrupts.act()

    def agree(self) -> None:
        """All have come to the same step: whether one of them got a signal."""
        if not self.on:
            return
        here, now = self._interrupts.noted, time.perf_counter()
        mine = here is not None, int(1e6 * min(now - self._since, 1000.0))
        rows = self._raise(mine)
        if rows[:, 0].any():
            names = _hosts.gathered(here)
            self._heard = next(name for name in names if name is not None)
            self._interrupts.hear(self._heard)
        seconds = max(float(rows[:, 1].max()) / 1e6, 1e-6)
        fitting = int(self._steps * SECONDS / seconds)
        self._stretch = max(1, min(GROWTH * max(self._steps, 1), fitting))
        self._steps, self._since = 0, time.perf_counter()

    def _raise(self, numbers: Sequence[int] = ()) -> Any:
        """The numbers of all, unless one of them has failed."""
        error, self._error = self._error, None
        return _hosts.agreed(numbers, error)
