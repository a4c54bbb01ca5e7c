"""A study of programs before anything of it is written: made, traced, refused."""

import os
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _checks
from headwise import _program
from headwise import _records
from headwise.sweeps._cohort import _modes
from headwise.sweeps._design import _product
from headwise.sweeps._design import _trials
from headwise.sweeps._store import _read
from headwise.sweeps._store import _store
from headwise.sweeps._store import _study
from headwise.sweeps._work import _choices
from headwise.sweeps._work import _groups
from headwise.sweeps._work import _made_by


class Prepared(NamedTuple):
    """What a study is, and how its trials run."""

    text: dict[str, Any]
    """Of its folder."""
    settings: dict[str, Any]
    """Of its records."""
    groups: _groups.Groups
    choices: _choices.Choices


def prepared(
    program: Any,
    rows: Sequence[_trials.Trial],
    *,
    steps: int | None,
    static: Sequence[str],
    settings: Mapping[str, Any],
    folder: str | os.PathLike | None,
    how: _choices.How,
    retry: bool = False,
    search: Any = None,
    halving: Any = None,
    here: bool = True,
) -> Prepared:
    """Makes and traces the programs of a study; see `check` for what it raises."""
    if steps is None:
        raise ValueError("steps: expected a positive int, got None")
    counts = {"steps": steps, "workers": how.workers}
    given = {"size": how.size, "workers_here": how.here}
    counts |= {name: count for name, count in given.items() if count is not None}
    for name, count in counts.items():
        _checks.positive_int(name, count)
    _checks.choice("mode", ("auto", *_modes.MODES), how.mode)
    settings = _with_steps(settings, steps)
    text = {"a study of": "programs", "program": _made_by.study(program)}
    text |= {"settings": settings}
    if halving is not None:
        halving.below(steps)
        text["halving"] = halving._asdict()
    if search is not None:
        text["search"] = search.text
    groups = _groups.Groups(program, static)
    groups.split(rows)
    done = set() if folder is None else _store.check(folder, text)
    choices = _choices.Choices(groups, how, steps)
    # Others have begun, or will take a part of the programs: these are not all tried.
    begun = folder is None or how.workers > 1 or _read.cohorts(_study.local(folder))
    if how.size is not None or (here and not begun):
        names = ((_trials.key(row, settings), row) for row in rows)
        left = [row for name, row in names if retry or name not in done]
        choices.check(left, here)
    return Prepared(text, settings, groups, choices)


def check(
    program: _program.Program | Any,
    design: Mapping[str, Any] | Iterable[_trials.Trial] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    steps: int,
    vary: Mapping[str, Sequence[_trials.Varied] | np.ndarray] | None = None,
    static: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    folder: str | os.PathLike | None = None,
    mode: str = "auto",
    size: int | None = None,
    workers: int = 1,
    workers_here: int | None = None,
    retry: bool = False,
    here: bool = False,
) -> None:
    """Raises what `run` would raise before it trains; writes nothing.

    Every program is made and traced. Where a size of cohorts is given, the compiler is
    asked whether one fits into the memory of this machine.

    Args:
        program, design, seeds, steps, vary, static, settings, folder, mode, size: as
            `run` will be given.
        workers, workers_here, retry: the same.
        here: whether trials will run in this process: how they do is measured now, by
            a few steps of each program, so that one trial that takes more memory than
            there is is found out; `run` does not measure again.

    Raises:
        ValueError: no trials, an argument that is wrong, or a size that takes more
            memory than there is (the largest that fits is named), or one trial alone.
        TypeError: a program that is none, or a function of it that cannot be traced.
        StudyError: the folder is of another study.

    Example:
        >>> program = hw.sweeps.Program(
        ...     init=lambda trial: trial["weights"],
        ...     step=lambda weights, t: (weights["a"], {}),
        ...     evaluate=lambda weights: weights,
        ... )
        >>> try:
        ...     hw.sweeps.check(program, {"a": [1.0]}, steps=3)
        ... except TypeError as error:
        ...     print("program.step: expected the same type" in str(error))
        True
    """
    rows = _product.product(design, seeds, vary=vary)
    if design is not None and not isinstance(design, Mapping):
        _product.check_distinct(rows)
    prepared(
        program,
        rows,
        steps=steps,
        static=static,
        settings=_records.json_settings({} if settings is None else settings),
        folder=folder,
        how=_choices.How(mode, size, workers, workers_here),
        retry=retry,
        here=here,
    )


def _with_steps(settings: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Settings of which the steps are one: they decide what comes out."""
    if settings.get("steps", steps) != steps:
        raise ValueError(
            f"settings['steps']: expected that of steps, {steps}, got "
            f"{settings['steps']}"
        )
    return {**settings, "steps": steps}
