"""Which way to turn each weight: derivatives of final metrics in the log weights."""

import os
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise import _records
from headwise._program import Program
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _program
from headwise.sweeps._design import _trials
from headwise.sweeps._slopes import _at_end
from headwise.sweeps._slopes import _kept
from headwise.sweeps._slopes import _neighbours
from headwise.sweeps._slopes import _tangents
from headwise.sweeps._slopes import _turns
from headwise.typing import PyTree

METHODS = ("auto", "forward", "differences")
_FAR = 100.0
"""A tangent so many times as long as the state: 1 % of a weight moves all of it."""
_DEARER = 1.5
"""Tangents may take so many times the operations of neighbours: they are exact."""
_STEP = jax.ShapeDtypeStruct((), jnp.int32)


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
            method they were. None keeps nothing.
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
            found = _of_group(one, new, rows, steps, method, change, mode)
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


def _of_group(
    program: Program,
    trials: list[_trials.Trial],
    rows: _trials.Arrays,
    steps: int,
    method: str,
    change: float,
    mode: str,
) -> _turns.Slopes:
    """The slopes of trials that are one program."""
    heads = tuple(sorted(rows["weights"]))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), rows)
    state = jax.eval_shape(program.init, like)
    names, flat = zip(*_tangents.without_derivative(program, state).items())
    shape = (len(trials), len(names))
    forward = np.zeros(shape, bool)
    values, found = np.full(shape, np.nan), np.full((*shape, len(heads)), np.nan)
    reach, notes = np.full((len(trials), len(heads)), np.nan), []
    carrying = _tangents.carrying(program, heads)
    if method != "differences" and _goes_forward(program, carrying, like, method):
        ends = _at_end.of(carrying, rows, steps, mode)
        values = _columns(ends.metrics["values"], names)
        slopes = [_columns(ends.metrics["slopes"][head], names) for head in heads]
        found, reach = np.stack(slopes, axis=2), _columns(ends.metrics["reach"], heads)
        over = np.array([_tangents.is_of_them(cause) for cause in ends.broke])
        diverged = np.array([cause is not None for cause in ends.broke]) & ~over
        values[over | diverged] = found[over | diverged] = np.nan
        reach[over], reach[diverged] = np.inf, np.nan
        far = ~(reach.max(axis=1) <= _FAR) & ~diverged
        forward = np.full(shape, True)
        if method == "auto":
            forward = diverged[:, None] | (~far[:, None] & ~np.array(flat))
        notes = _turns.notes(names, flat, trials, reach, far, method)
    again = np.flatnonzero(~forward.all(axis=1))
    if len(again):
        near, who = _neighbours.of(
            jax.tree.map(lambda x: x[again], rows), heads, change
        )
        ends = _at_end.of(program, near, steps, mode)
        near_values = _columns(_tangents.flat(ends.metrics), names)
        near_values[[cause is not None for cause in ends.broke]] = np.nan
        wanted = ~forward[again]
        values[again] = np.where(wanted, near_values[: len(again)], values[again])
        by_change = _neighbours.slopes(near, heads, who, near_values)
        found[again] = np.where(wanted[:, :, None], by_change, found[again])
    found[~np.isfinite(found) | ~np.isfinite(values)[:, :, None]] = np.nan
    return _turns.Slopes(
        tuple(trials), names, heads, values, found, reach, forward, tuple(notes)
    )


def _columns(by_name: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """[K, names], a copy in float64."""
    return np.stack([np.asarray(by_name[n], np.float64) for n in names], axis=1)


def _goes_forward(
    program: Program, carrying: Program, like: PyTree, method: str
) -> bool:
    """Whether there is a forward mode, and unless it is asked for, a cheap one."""
    try:
        carried = jax.eval_shape(carrying.init, like)
        # Lowered, since a trace alone does not say all.
        operations = _operations(carrying.step, carried)
        jax.jit(carrying.init).lower(like)
        jax.jit(carrying.evaluate).lower(carried)
    except (TypeError, NotImplementedError):
        if method == "forward":
            raise
        return False
    neighbours = 1 + 2 * len(like["weights"])
    dear = _DEARER * neighbours * _operations(program.step, carried.state)
    return method == "forward" or operations <= dear


def _operations(step: Callable, state: PyTree) -> float:
    """Of one step, counted before it is compiled; 0 where nobody counts."""
    return (jax.jit(step).lower(state, _STEP).cost_analysis() or {}).get("flops", 0.0)
