"""A trial: what is trained, what tells it from others, how several become arrays."""

import hashlib
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import numpy as np

from headwise import _checks
from headwise import _records
from headwise.sweeps._design import _weightings

Varied: TypeAlias = float | int | str | bool
Arrays = dict[str, Any]
"""{"weights": {head: float32}, "seed": int32, name: float32}, for a program."""


class Trial(NamedTuple):
    """One training of a study: its weights, its seed, and what else varies.

    Plain numbers and texts, so that it is a line of JSON (`trial._asdict()`) and back
    (`Trial(**line)`). What stays the same in a study is not in it.

    Example:
        >>> trial = hw.sweeps.Trial({"a": 1.0, "b": 0.1}, seed=0, varied={"lr": 0.003})
        >>> trial.varied["lr"], len({trial, trial})
        (0.003, 1)
    """

    weights: dict[str, float]
    """{} where a balancer finds them."""
    seed: int
    varied: dict[str, Varied] = {}  # noqa: RUF012  # nobody writes into a trial
    """{name: number, text or bool} of what `vary` names."""

    @property
    def key(self) -> str:
        """What tells it from the other trials of its study: 16 hex digits."""
        return key(self, {})

    def __hash__(self) -> int:
        return hash(self.key)


def key(trial: Trial, settings: Mapping[str, Any]) -> str:
    """What tells a trial from all others: a hash of all that changes its result.

    Of weights, seed and settings, where those that vary win, in any order and at full
    precision; as `hw.sweeps.identity` of its record.

    Returns:
        16 hex digits.

    Example:
        >>> trial = Trial({"a": 1.0}, 0, {"lr": 0.1})
        >>> key(trial, {"steps": 10}) == key(trial, {"steps": 10.0, "lr": 0.2})
        True
    """
    record = {"weights": trial.weights, "seed": trial.seed}
    text = _records.identity(record | {"settings": {**settings, **trial.varied}})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def groups(
    every: Sequence[Trial], static: Iterable[str] = ()
) -> list[tuple[dict[str, Varied], list[Trial]]]:
    """The trials by program: those of a group differ in arrays alone.

    Args:
        every: trials.
        static: names of varied numbers that make another program; texts and bools
            always do.

    Returns:
        [(values that are static, trials)], in the order in which they first come.

    Raises:
        ValueError: a name that nothing varies; a number that float32 cannot hold.

    Example:
        >>> pairs = (("mgda", 0.1), ("famo", 0.1), ("mgda", 1.0))
        >>> every = [Trial({}, 0, {"balancer": b, "lr": lr}) for b, lr in pairs]
        >>> [(values, len(group)) for values, group in groups(every)]
        [({'balancer': 'mgda'}, 2), ({'balancer': 'famo'}, 1)]
    """
    listed = isinstance(static, Iterable) and getattr(static, "ndim", 1) != 0
    if not listed or isinstance(static, str):
        raise TypeError(f"static: expected names, got {_checks.kind(static)}")
    static = frozenset(static)
    _checks.known_names("static", {n: 0 for t in every for n in t.varied}, static)
    found: dict[Hashable, tuple[dict[str, Varied], list[Trial]]] = {}
    for trial in every:
        _arrays(trial, static)
        values = {n: x for n, x in trial.varied.items() if _is_static(n, x, static)}
        names = (sorted(trial.weights), sorted(trial.varied))
        program = _records.canonical([values, *names])
        found.setdefault(program, (values, []))[1].append(trial)
    return list(found.values())


def stacked(every: Sequence[Trial], static: Iterable[str] = ()) -> Arrays:
    """Trials of one group as arrays, a trial an entry of the leading axis.

    Returns:
        {"weights": {head: float32 [K]}, "seed": int32 [K], name: float32 [K]}.

    Example:
        >>> two = stacked([Trial({"a": w}, 0, {"lr": 0.5}) for w in (1.0, 2.0)])
        >>> print(two["weights"]["a"], two["seed"], two["lr"])
        [1. 2.] [0 0] [0.5 0.5]
    """
    static = frozenset(static)
    rows = [_arrays(trial, static) for trial in every]

    def column(*path: str) -> np.ndarray:
        found: list[Any] = rows
        for name in path:
            found = [row[name] for row in found]
        return np.stack(found)

    names = {name: column(name) for name in rows[0] if name != "weights"}
    heads = {head: column("weights", head) for head in rows[0]["weights"]}
    return {"weights": heads, **names}


def _arrays(trial: Trial, static: frozenset[str]) -> Arrays:
    """What the program of one trial is given: scalars of NumPy."""
    weights = {n: _float32(f"weights[{n!r}]", w) for n, w in trial.weights.items()}
    numbers = {
        name: _float32(name, number)
        for name, number in trial.varied.items()
        if not _is_static(name, number, static)
    }
    return {"weights": weights, "seed": np.int32(trial.seed), **numbers}


def _is_static(name: str, value: Varied, static: frozenset[str]) -> bool:
    return name in static or isinstance(value, str | bool)


def _float32(name: str, number: Any) -> np.float32:
    size = abs(number)
    fits = number == 0 or _weightings.SMALLEST <= size <= _weightings.LARGEST
    if fits and (isinstance(number, float) or int(np.float32(number)) == number):
        return np.float32(number)
    raise ValueError(
        f"{name}: expected a number that a program can take (float32), got {number!r}; "
        f"static=[{name!r}] makes each of its values another program"
    )
