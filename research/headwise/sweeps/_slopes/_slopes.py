"""Which way to turn each weight: derivatives of final metrics in the log weights."""

import os
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _checks
from headwise import _records
from headwise._program import Program
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _program
from headwise.sweeps._design import _trials
from headwise.sweeps._slopes import _kept
from headwise.sweeps._slopes import _of_program
from headwise.sweeps._slopes import _turns

METHODS = ("auto", "forward", "differences")
_AT_ONCE = 8
"""Trials whose slopes are found before they are kept: what a kill may lose."""


def slopes(
    program: Program | Callable[..., Program],
    trials: Sequence[_trials.Trial],
    steps: int,
    *,
    method: str = "auto",
    change: float = 0.05,
    mode: str = "auto",
    static: Sequence[str] = (),
    folder: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
) -> _turns.Slopes:
    """For every trial the derivative of each final metric in each log weight.

    ::

        slope[metric, head] = d metric / d log w_head = w_head * d metric / d w_head

    so 1 % more weight changes the metric by slope / 100. Of a weight of 0 it is 0: no
    factor moves it. The seed stays the same, so what is random does not count.

    `"forward"` differentiates the training itself: one tangent a head goes through all
    steps beside the state (forward mode, exact to rounding; a step costs about 1 + 2 H
    times as much). `"differences"` trains neighbours with the same seed, ::

        slope = w * (metric(w+) - metric(w-)) / (w+ - w-)      w± = w * (1 ± change)

    right to the order of change², 2 H trainings more a trial. A metric that counts or
    compares, such as an accuracy, is constant in pieces: forward mode says 0, and
    differences need a `change` that moves it. `"auto"` goes forward, and takes
    differences for such metrics, for trials whose tangents explode, and where the
    training has no forward mode or one that takes more operations.

    A long training may be chaotic: then the tangents grow without end, and are right
    only for changes too small to matter. `reach` tells how long they are at the end,
    beside the state; where it is over 100 there is a warning. One of NaN is told as the
    largest number: Adam's square root has no slope where a gradient is 0 in all steps
    (a bias before batch normalisation), unless it has `eps_root`.

    Args:
        program: `hw.sweeps.Program`, or a function of the static values that makes it.
        trials: of `hw.sweeps.trials`; all with weights of the same heads.
        steps: of the training.
        method: `"auto"`, `"forward"` or `"differences"`.
        change: of the neighbours' weights, in (0, 1).
        mode: how trials run as one program, as in `hw.sweeps.run`; `"auto"`: as is
            measured to be the fastest, within the memory that there is.
        static: names of varied numbers that make another program.
        folder: of their study: slopes are kept there, a file a trial, for
            `hw.sweeps.read`, and those that are there are not found again, by whatever
            method they were: after a kill the same call goes on, and eight trials'
            are lost at most. None keeps nothing.
        settings: of the study, as `hw.sweeps.run` was given.

    Returns:
        `Slopes`: `slopes[i]` is {metric: {head: float}} of a trial; NaN where it or
        its neighbour diverged. `print` shows a table, `.table(higher)` which way to
        turn.

    Raises:
        ValueError: no trials; trials without weights or of other heads; `method`,
            `change` or `steps` is none. TypeError: forward mode is asked for and the
            training has none (what has `jax.custom_vjp` has not). StudyError: the
            folder is not there.

    Example:
        >>> program = hw.sweeps.Program(                  # x = a + 2 b after one step
        ...     init=lambda trial: (trial["weights"], jnp.zeros(())),
        ...     step=lambda s, t: ((s[0], s[0]["a"] + 2 * s[0]["b"]), {}),
        ...     evaluate=lambda s: {"square": s[1] ** 2},
        ... )
        >>> trial = hw.sweeps.Trial({"a": 1.0, "b": 0.5}, seed=0, varied={})
        >>> hw.sweeps.slopes(program, [trial], steps=1)[0]      # 2 x * (a, 2 b), x = 2
        {'square': {'a': 4.0, 'b': 4.0}}
    """
    _checks.choice("method", METHODS, method)
    _checks.choice("mode", ("auto", *_modes.MODES), mode)
    steps = _checks.nonnegative_int("steps", steps)
    _checks.in_range("change", change, "a number in (0, 1)", lambda x: 0 < x < 1)
    if not isinstance(program, Program):
        _checks.function("program", program)
    trials = _checked(trials)
    plain = _records.json_settings(settings or {}) | {"steps": steps}
    kept = _kept.Kept(folder, plain, {"method": method, "change": change})
    parts: list[_turns.Slopes] = []
    for values, group in _trials.groups(trials, static):
        there, new = kept.split(group)
        parts += there
        if new:
            one = program if isinstance(program, Program) else program(**values)
            _program.check(one)
            rows = _trials.stacked(new, static)
            way = _of_program.way(one, rows, steps, method, change, mode)
            number = len(new) if folder is None else _AT_ONCE
            for first in range(0, len(new), number):
                some = new[first : first + number]
                found = _of_program.of(way, some, _trials.stacked(some, static))
                kept.keep(found)
                parts.append(found)
    found = _turns.joined(trials, parts)
    for note in found.notes:
        warnings.warn(note, stacklevel=2)
    return found


def _checked(given: Any) -> list[_trials.Trial]:
    """The trials, all with weights of the same heads."""
    trials = list(given) if isinstance(given, Sequence) else [given]
    for i, trial in enumerate(trials):
        if not isinstance(trial, _trials.Trial):
            raise TypeError(
                "trials: expected a list of hw.sweeps.Trial, as hw.sweeps.trials gives "
                f"it; got {_checks.kind(trial)} in the place of [{i}]"
            )
    if not trials:
        raise ValueError("trials: expected one or more, got none")
    for i, trial in enumerate(trials):
        if not trial.weights:
            raise ValueError(
                f"trials[{i}]: expected weights, got none: where a balancer finds them "
                "there is nothing to turn"
            )
        _checks.same_names(f"trials[{i}].weights", trials[0].weights, trial.weights)
    return trials
