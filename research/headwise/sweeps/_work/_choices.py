"""How the trials of each program run: measured, within the memory that there is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax

from headwise.sweeps._cohort import _choice
from headwise.sweeps._cohort import _forecast
from headwise.sweeps._cohort import _memory
from headwise.sweeps._cohort import _modes
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _groups


class How(NamedTuple):
    """How trials are to run, as far as the caller says."""

    mode: str
    """Of `_modes.MODES`, or auto."""
    size: int | None
    workers: int
    here: int | None = None
    """How many of them share the memory of this machine; None: all."""


class Choices:
    """What is chosen for each program.

    Args:
        groups: the programs of a study.
        how: what its caller says.
        steps: of a trial.
    """

    def __init__(self, groups: _groups.Groups, how: How, steps: int):
        self.how = how
        self._groups, self._steps = groups, steps
        self._of_size: dict[int, _choice.Choice] = {}

    def check(self, every: Sequence[_trials.Trial], here: bool = True) -> None:
        """Raises ValueError for what takes more memory than there is.

        What will not run here is compiled, and no step of it is run.
        """
        for group, trials in self._groups.split(every):
            self.of(group, trials, measured=here)

    def of(
        self,
        group: _groups.Group,
        trials: Sequence[_trials.Trial],
        measured: bool = True,
    ) -> _choice.Choice:
        """How trials of a program run; with a size that was given, measured once.

        As many trials of the same program are measured once in a process; a choice
        that is not `measured` is not kept.

        Raises:
            ValueError: as `_choice.choose`.
        """
        how = self.how
        if id(group) in self._of_size:
            return self._of_size[id(group)]
        shared = -(-len(trials) // how.workers)
        device = jax.devices()[0]
        limit = _memory.free(device)
        if limit is not None and device.platform == "cpu":  # others are a process' own
            limit //= how.here or how.workers
        number = min(how.size or shared, len(trials))
        rows = _trials.stacked(trials[:number], self._groups.static(trials))
        known = group.parts.programs.setdefault("choices", {})
        key, most = (how, number, self._steps), math.inf if limit is None else limit
        choice = known.get(key)
        if choice is None or choice.size < number or choice.nbytes > most:
            choice = _choice.choose(
                group.program,
                rows,
                self._steps,
                modes=_modes.MODES if how.mode == "auto" else (how.mode,),
                size=how.size,
                limit=limit,
                measured=measured,
            )
            if not measured:
                return choice
            known[key] = choice
        if how.size is not None:
            self._of_size[id(group)] = choice
        return choice


def words(group: _groups.Group, choice: _choice.Choice, trials: int, steps: int) -> str:
    """The plan of so many trials of a program, on one line."""
    said = _forecast.line(
        trials,
        choice.size,
        choice.mode,
        choice.why,
        choice.seconds(trials, steps),
        choice.nbytes,
    )
    named = " ".join(f"{name}={value}" for name, value in group.values.items())
    return f"{named}: {said}" if named else said
