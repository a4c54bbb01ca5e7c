"""The next batch of a search, from the results of those before it in a fixed order."""

import hashlib
import itertools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _checks
from headwise import _records
from headwise import _scalars
from headwise.sweeps._design._trials import Trial
from headwise.sweeps._search import _optuna
from headwise.sweeps._search import _space

_TRIES = 20
"""How many points are drawn for each that is wanted, where some were asked before."""


class Study(NamedTuple):
    """What decides which trials a search asks for."""

    ranges: _space.Space
    highest: dict[str, bool]
    """{metric: is more better?}."""
    constraints: dict[str, Callable[[Mapping[str, Any]], float]]
    seeds: list[int]
    sampler: str
    size: int
    """Points a batch."""
    lag: int
    text: str
    """All of this and the seed: what a batch's seed is a hash of."""


class Result(NamedTuple):
    """What is known of a point, over all its seeds."""

    point: _space.Point
    records: list[_records.Record]
    whole: bool
    """Whether all its trials have records."""
    values: list[float] | None
    """One a metric, None where a trial has no whole result."""
    constraints: list[float] | None


def batch(
    study: Study,
    budget: int,
    records: Sequence[_records.Record],
    number: int,
    asked: Sequence[Sequence[Trial]] = (),
) -> list[Trial] | None:
    """The trials of a batch; None while results are missing.

    [] beyond the budget, or where nothing is left to ask for.
    """
    _checks.nonnegative_int("batch", number)
    known = by_trial(study, records)
    every = [list(trials) for trials in asked[:number]]
    while len(every) <= number:
        found = _next(study, budget, known, every)
        if not found:
            return found
        every.append(found)
    return every[number]


def by_trial(
    study: Study, records: Sequence[_records.Record]
) -> dict[str, _records.Record]:
    """The records by what tells the trials of a search apart."""
    names = [name for name, range_ in study.ranges.items() if not range_.head]
    found = {}
    for record in records:
        settings = record["settings"]
        varied = {name: settings[name] for name in names if name in settings}
        found[Trial(record["weights"], record["seed"], varied).key] = record
    return found


def results(
    study: Study, known: Mapping[str, _records.Record], trials: Sequence[Trial]
) -> list[Result]:
    """What is known of the points of a batch, in the order in which they were asked."""
    points: dict[str, tuple[_space.Point, list[Trial]]] = {}
    for trial in trials:
        same = points.setdefault(trial._replace(seed=0).key, (_space.point(trial), []))
        same[1].append(trial)
    found = []
    for point, seeds in points.values():
        records = [known[trial.key] for trial in seeds if trial.key in known]
        whole = len(records) == len(seeds)
        values = constraints = None
        if whole and all(record["finite"] for record in records):
            means = _mean([record["metrics"] for record in records])
            values = [
                float(_scalars.at("metrics", means, name)) for name in study.highest
            ]
            constraints = [
                _number(f"constraints[{name!r}]", bound(means))
                for name, bound in study.constraints.items()
            ]
        found.append(Result(point, records, whole, values, constraints))
    return found


def _next(
    study: Study,
    budget: int,
    known: Mapping[str, _records.Record],
    asked: Sequence[Sequence[Trial]],
) -> list[Trial] | None:
    batches = [results(study, known, trials) for trials in asked]
    b = len(batches)
    count = min(study.size, budget - sum(map(len, batches)))
    if count <= 0:
        return []
    seen, unseen = (batches[: max(0, b - study.lag)], batches[max(0, b - study.lag) :])
    if not all(result.whole for points in seen for result in points):
        return None
    digest = hashlib.sha256(f"{study.text}\n{b}".encode()).digest()
    before = {_key(study, result.point) for points in batches for result in points}
    drawn = _optuna.draw(
        ranges=study.ranges,
        highest=list(study.highest.values()),
        constraints=list(study.constraints),
        sampler=study.sampler,
        seed=int.from_bytes(digest[:4], "big"),
        told=_told(seen, list(study.highest.values()), study.lag),
        pending=[result.point for points in unseen for result in points],
        generation=max(2, min([study.size, *map(len, seen)])),
    )
    points: dict[str, _space.Point] = {}
    # A point that was asked before would tell nothing new; where all were, it ends.
    for params in itertools.islice(drawn, _TRIES * count):
        point = {n: _space.rounded(r, params[n]) for n, r in study.ranges.items()}
        if (key := _key(study, point)) not in before:
            points.setdefault(key, point)
        if len(points) == count:
            break
    drawn.close()
    return [
        _space.trial(study.ranges, point, seed)
        for point in points.values()
        for seed in study.seeds
    ]


def _key(study: Study, point: _space.Point) -> str:
    return _space.trial(study.ranges, point, 0).key


def _told(
    seen: Sequence[Sequence[Result]], highest: Sequence[bool], lag: int
) -> list[_optuna.Told]:
    """What the sampler is told: of a point without a result the worst of all others.

    Where no point has a result, nothing is known of what is worst, and nothing told.
    """
    every = [result for points in seen for result in points]
    done = [result for result in every if result.values is not None]
    if not done:
        return []
    least = [
        (min if more else max)(column)
        for more, column in zip(highest, zip(*(r.values for r in done)), strict=True)
    ]
    bounds = [max(column) for column in zip(*(r.constraints for r in done))]
    return [
        _optuna.Told(
            result.point,
            least if result.values is None else result.values,
            bounds if result.constraints is None else result.constraints,
            i // (lag + 1),
        )
        for i, points in enumerate(seen)
        for result in points
    ]


def _mean(trees: Sequence[Any]) -> Any:
    """The mean over the seeds of every metric that all of them have."""
    if not isinstance(trees[0], Mapping):
        return float(np.mean(trees))
    names = [name for name in trees[0] if all(name in tree for tree in trees)]
    return {name: _mean([tree[name] for tree in trees]) for name in names}


def _number(argument: str, given: Any) -> float:
    number = float(given)
    if np.isfinite(number):
        return number
    raise ValueError(f"{argument}: expected it to return a finite number, got {given}")
