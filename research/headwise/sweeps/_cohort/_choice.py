"""How trials are run as one program: the way that is measured to be the fastest.

A way is a mode of `_modes` and how many trials at a time. `_race` says which are
likely, and which of them wins.
"""

import functools
import math
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax

from headwise import _xla
from headwise.sweeps._cohort import _arithmetic
from headwise.sweeps._cohort import _forecast
from headwise.sweeps._cohort import _memory
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _modes_in_turn
from headwise.sweeps._cohort import _race
from headwise.sweeps._cohort import _stopwatch

LONG = 2e-3
"""Seconds of a step of one trial on a CPU from which on it is not tried with others at
a time: there is no overhead of small operations that they could share. (0.16 ms, an
MLP: alike; 5.4 ms, a conv net of digits: vmapped 6.5; 20.8 ms, one of volumes: 28.)"""


class Choice(NamedTuple):
    """How trials are to be run, and what that costs."""

    mode: str
    size: int
    """Trials of one cohort: all, or equal pieces that fit."""
    why: str
    """In words."""
    seconds_a_step: float
    """Of one step of one trial."""
    bytes_a_trial: float
    compiles: int
    """Cohorts that were compiled to find this."""
    compile_seconds: float
    """Of the chosen one."""

    def seconds(self, trials: int, steps: int) -> float:
        """That so many trials take, padding and compiling too."""
        padded = self.size * _memory.pieces(trials, self.size)
        return padded * steps * self.seconds_a_step + self.compile_seconds

    @property
    def nbytes(self) -> float:
        """Of one cohort."""
        return self.size * self.bytes_a_trial


def choose(
    program: Any,
    trials: Any,
    steps: int,
    *,
    modes: Sequence[str] = _modes.MODES,
    size: int | None = None,
    limit: int | None = None,
    threads: int | None = None,
    devices: Sequence[Any] | None = None,
    measured: bool = True,
) -> Choice:
    """How trials of one program are run: measured, within the memory that there is.

    Args:
        program: a `Program`.
        trials: what its `init` takes, every leaf with a leading axis of trials.
        steps: of each trial.
        modes: that are allowed; one alone is taken.
        size: the trials of a cohort; None: as many as fit.
        limit: bytes that a cohort may take; None: what is free now.
        threads: that trials may have side by side; None: one a core.
        devices: that trials may be split over; None: all.
        measured: else no step is run: the likeliest way that fits, of seconds 0.

    Raises:
        ValueError: a cohort of `size`, or one trial alone, takes more memory than there
            is; the largest size that fits is named.
    """
    devices = list(jax.devices() if devices is None else devices)
    number = jax.tree.leaves(trials)[0].shape[0]
    most = number if size is None else min(size, number)
    limit = _memory.free(devices[0]) if limit is None else limit

    def cohort(mode: str, size: int) -> _modes.Cohort:
        part = _first(trials, size)
        return _modes.cohort(
            program, mode, part, steps=steps, threads=threads, devices=devices
        )

    needs = {mode: _Needs(functools.partial(cohort, mode)) for mode in modes}

    def attempt(mode: str) -> _race.Way | None:
        need = needs[mode]
        fits = _memory.largest(need, most, limit, even=size is None)
        if fits == 0 or (fits < most and size is not None):
            return None
        one, part = cohort(mode, fits), _first(trials, fits)
        return _race.Way(
            fits,
            need(fits),
            need.seconds[fits],
            lambda: _stopwatch.step(one, part, steps) / fits if measured else 0.0,
        )

    cpu = devices[0].platform == "cpu"
    step = cohort(modes[0], 1).parts.step.program
    order = _race.likely(
        modes,
        trials=number,
        cores=threads or _modes_in_turn.cores(),
        devices=len(devices),
        cpu=cpu,
        slow_loops=_xla.slow_in_loops(step),
        convolves=any(map(_xla.convolves, step.eqns)),
        small=_arithmetic.of_products(step) < _arithmetic.SMALL,
    )

    def hopeless(mode: str, seconds: float) -> bool:
        return cpu and mode == "vmap" and seconds > LONG

    ways, seconds, left_out = _race.decide(order, attempt, number, steps, hopeless)
    if not ways:
        raise ValueError(_too_much(needs, most, limit))
    mode, way = next(iter(ways.items()))
    why = _forecast.measured(mode, seconds)
    if left_out:
        why += "; others take longer to compile than they could save"
    if way.size < most and limit is not None:
        why += f"; {way.size} at a time fit into {_forecast.size(limit)}"
    return Choice(
        mode,
        way.size,
        why,
        seconds[mode],
        way.nbytes / way.size,
        sum(len(need.nbytes) for need in needs.values()),
        way.compile_seconds,
    )


class _Needs:
    """Bytes of a cohort by its size, each compiled once; how long that took."""

    def __init__(self, cohort: Callable[[int], _modes.Cohort]):
        self._cohort = cohort
        self.nbytes: dict[int, float] = {}
        self.seconds: dict[int, float] = {}

    def __call__(self, size: int) -> float:
        if size not in self.nbytes:
            start = time.perf_counter()
            self.nbytes[size] = _memory.needed(self._cohort(size))
            self.seconds[size] = time.perf_counter() - start
        return self.nbytes[size]


def _first(trials: Any, size: int) -> Any:
    return jax.tree.map(lambda x: x[:size], trials)


def _too_much(needs: dict[str, _Needs], most: int, limit: int | None) -> str:
    """What takes more memory than there is, and how much would not."""
    assert limit is not None
    fits = {
        mode: max((k for k, n in need.nbytes.items() if n <= limit), default=0)
        for mode, need in needs.items()
        if need.nbytes
    }
    mode = max(fits, key=lambda mode: fits[mode])
    size = most if fits[mode] else 1
    nbytes = needs[mode].nbytes[size]
    takes = f"take {_forecast.size(nbytes)}" if math.isfinite(nbytes) else "do not fit"
    what = f"{size} trials as one program" if size > 1 else "one trial"
    return (
        f"size: {what} ({_forecast.WORDS[mode]}) {takes}, and "
        f"{_forecast.size(limit)} are free: "
        + (
            f"{fits[mode]} is the largest size that fits"
            if fits[mode]
            else "give a smaller model or batch"
        )
    )
