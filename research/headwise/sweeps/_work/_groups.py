"""Trials by program: each program is made and traced once."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax

from headwise import _checks
from headwise import _program
from headwise import _records
from headwise.sweeps._cohort import _program as _parts
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _made_by


class Group(NamedTuple):
    """Trials that share a program."""

    values: dict[str, Any]
    """Those that are static."""
    program: _program.Program
    fingerprint: dict[str, Any]
    parts: _parts.Parts


class Groups:
    """The programs of a study, each made and traced once.

    Args:
        program: a `Program`, or what makes one of static values.
        static: names of numbers that are no arrays in it.
    """

    def __init__(self, program: Any, static: Sequence[str]):
        if isinstance(static, str) or not isinstance(static, Collection):
            raise TypeError(
                f"static: expected a tuple of names, got {_checks.kind(static)}"
            )
        self._program, self._names = program, tuple(static)
        self._made: dict[str, Group] = {}

    def static(self, every: Sequence[_trials.Trial]) -> tuple[str, ...]:
        """The static names that some of these trials have."""
        there = {name for trial in every for name in trial.varied}
        return tuple(name for name in self._names if name in there)

    def split(
        self, every: Sequence[_trials.Trial]
    ) -> list[tuple[Group, list[_trials.Trial]]]:
        """The trials by program; raises for what is wrong with one."""
        found = _trials.groups(every, self.static(every))
        return [(self.of(values, trials[0]), trials) for values, trials in found]

    def of(self, values: Mapping[str, Any], trial: _trials.Trial) -> Group:
        """The group of static values, whose trials have the names of this one."""
        names = sorted(trial.weights), sorted(trial.varied)
        key = _records.canonical([dict(values), *names])
        if key not in self._made:
            program = made(self._program, values)
            like = _trials.stacked([trial], self.static([trial]))
            parts = _parts.parts(program, jax.tree.map(lambda x: x[0], like))
            self._made[key] = Group(
                dict(values), program, _made_by.program(parts), parts
            )
        return self._made[key]


def made(program: Any, values: Mapping[str, Any]) -> _program.Program:
    """The program of static values."""
    if isinstance(program, _program.Program):
        if values:
            raise TypeError(
                f"program: expected a function make({', '.join(values)}) -> Program, "
                "since these vary and are no arrays; got one Program"
            )
        return program
    _checks.function("program", program)
    found = program(**values)
    _parts.check(found)
    return found
