"""Lists of trials: every combination of weightings, other settings and seeds."""

import itertools
import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks
from headwise.sweeps._design import _designs
from headwise.sweeps._design import _weightings
from headwise.sweeps._design._trials import Trial
from headwise.sweeps._design._trials import Varied

RESERVED = ("weights", "seed")
"""What a program is given by these names; nothing that varies may have them."""


def trials(
    design: Mapping[str, Sequence[float] | np.ndarray] | Iterable[Trial] | None,
    seeds: Sequence[int] | None = None,
    *,
    vary: Mapping[str, Sequence[Varied] | np.ndarray] | None = None,
    heads: Iterable[str] | None = None,
) -> list[Trial]:
    """Every combination of weightings, other settings and seeds, as a list of trials.

    Lists add with `+`: a design for static weights, and another for balancers.

    Args:
        design: {head: [K]}, of `grid`, `simplex`, ...; a list of trials, such as those
            of `table`; None for no weights, where a balancer finds them.
        seeds: distinct ints. None: 0, or the seeds that trials of the design have.
        vary: {name: levels} of what is crossed with the design, such as learning rates
            (`numpy.geomspace` spaces them evenly in their logarithm) or balancers:
            numbers, texts or bools.
        heads: names of all heads; a design of others is an error.

    Returns:
        `Trial`s: the first name of `vary` changes slowest, then its others, then the
        weighting, and the seed fastest.

    Raises:
        ValueError: an empty design, a weight that is negative or not finite, heads
            that are missing or unknown, seeds that are no distinct int32 of 0 or more,
            levels that are no finite numbers, texts or bools, the same trial twice.

    Example:
        >>> design = hw.sweeps.grid({"a": [1], "b": [0.1, 1]})
        >>> for trial in hw.sweeps.trials(design, (0, 1), vary={"lr": [0.003]})[:3]:
        ...     print(trial.weights, trial.seed, trial.varied)
        {'a': 1.0, 'b': 0.1} 0 {'lr': 0.003}
        {'a': 1.0, 'b': 0.1} 1 {'lr': 0.003}
        {'a': 1.0, 'b': 1.0} 0 {'lr': 0.003}
    """
    every = product(design, seeds, vary=vary, heads=heads)
    check_distinct(every)
    return every


def product(
    design: Mapping[str, Any] | Iterable[Trial] | None,
    seeds: Sequence[int] | None = None,
    *,
    vary: Mapping[str, Any] | None = None,
    heads: Iterable[str] | None = None,
) -> list[Trial]:
    """As `trials`, which may hold a trial twice."""
    levels = _levels({} if vary is None else vary)
    if design is None or isinstance(design, Mapping):
        weightings = [{}] if design is None else _designs.rows(design)
        own = seeds_of((0,) if seeds is None else seeds)
        given = [Trial(w, s, {}) for w in weightings for s in own]
    else:
        given = _given(design)
        if seeds is not None:
            bare = dict.fromkeys(trial._replace(seed=0) for trial in given)
            own = seeds_of(seeds)
            given = [trial._replace(seed=s) for trial in bare for s in own]
    if not given:
        raise ValueError("design: expected one or more trials, got none")
    if heads is not None:
        heads = _checks.head_names("heads", heads)
        for trial in given:
            if trial.weights:
                _checks.same_names("design", heads, trial.weights)
    for trial in given:
        if twice := trial.varied.keys() & levels.keys():
            raise ValueError(
                f"vary: expected names that the design does not vary, got "
                f"{_checks.listing(twice)}"
            )
    return [
        trial._replace(varied=trial.varied | dict(zip(levels, row, strict=True)))
        for row in itertools.product(*levels.values())
        for trial in given
    ]


def check_distinct(every: Sequence[Trial]) -> None:
    """Raises ValueError if a trial is there twice; says where."""
    first: dict[str, int] = {}
    for i, trial in enumerate(every):
        j = first.setdefault(trial.key, i)
        if j != i:
            raise ValueError(
                f"trials: expected distinct ones, got the same at {j} and {i}: "
                f"{_words(trial)}"
            )


def _given(design: Iterable[Any]) -> list[Trial]:
    """A list of trials, checked; plain tuples and lines of JSON are none."""
    listed = isinstance(design, Iterable) and getattr(design, "ndim", True)
    if isinstance(design, str) or not listed:
        raise TypeError(
            "design: expected {head: weights}, trials or None, got "
            f"{_checks.kind(design)}"
        )
    found = []
    for i, trial in enumerate(design):
        if not isinstance(trial, Trial):
            raise TypeError(
                f"design: expected a dict by name of head, got {_checks.kind(design)}; "
                f"or trials: design[{i}]: expected a Trial, got {_checks.kind(trial)} "
                '(hw.sweeps.Trial({"a": 1.0}, seed=0) is one)'
            )
        weights = {
            name: _weightings.weight(f"design[{i}].weights[{name!r}]", weight)
            for name, weight in sorted(trial.weights.items())
        }
        varied = {
            name: level(f"design[{i}].varied[{name!r}]", value)
            for name, value in trial.varied.items()
        }
        check_varied(f"design[{i}].varied", varied)
        found.append(Trial(weights, seed(f"design[{i}].seed", trial.seed), varied))
    return found


def _levels(vary: Mapping[str, Any]) -> dict[str, list[Varied]]:
    """What `vary` says, as plain values; raises for what is none."""
    if not isinstance(vary, Mapping):
        raise TypeError(f"vary: expected {{name: levels}}, got {_checks.kind(vary)}")
    check_varied("vary", vary)
    levels = {}
    for name, given in vary.items():
        argument = f"vary[{name!r}]"
        if isinstance(given, str | Mapping) or not hasattr(given, "__len__"):
            raise ValueError(f"{argument}: expected a list of levels, got {given!r}")
        if len(given) == 0:
            raise ValueError(f"{argument}: expected one or more levels, got none")
        levels[name] = [level(f"{argument}[{i}]", x) for i, x in enumerate(given)]
    return levels


def check_varied(argument: str, names: Iterable[Any]) -> None:
    """Raises unless these can be names beside `weights` and `seed`."""
    for name in names:
        if not isinstance(name, str) or not name or name in RESERVED:
            raise ValueError(
                f"{argument}: expected names other than {', '.join(RESERVED)}, got "
                f"{name!r}"
            )


def level(argument: str, given: Any) -> Varied:
    """A value of what varies, as Python's own; raises ValueError for what is none."""
    if hasattr(given, "dtype") and np.shape(given) == ():
        array = np.asarray(given)[()]
        given = _weightings.decimal(array) if array.dtype == "f4" else array.item()
    if not isinstance(given, str | bool | int | float):
        raise ValueError(
            f"{argument}: expected a number, a text or a bool, got {given!r}"
        )
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError(f"{argument}: expected a finite number, got {given!r}")
    return given


def seeds_of(seeds: Sequence[int]) -> list[int]:
    """The seeds; ValueError for what is no int32 of 0 or more, or comes twice."""
    if not hasattr(seeds, "__iter__") or getattr(seeds, "ndim", 1) == 0:
        raise TypeError(f"seeds: expected a sequence of ints, got {seeds!r}")
    ints = _checks.distinct_ints("seeds", seeds)
    return [seed(f"seeds[{i}]", number) for i, number in enumerate(ints)]


def seed(argument: str, given: Any) -> int:
    """A seed as an int; raises ValueError unless it is an int32 of 0 or more."""
    if not 0 <= _checks.integer(argument, given) < 2**31:
        raise ValueError(f"{argument}: expected 0 <= seed < 2**31, got {given}")
    return int(given)


def _words(trial: Trial) -> str:
    return ", ".join(
        f"{name}={value}"
        for name, value in [
            *trial.weights.items(),
            ("seed", trial.seed),
            *trial.varied.items(),
        ]
    )
