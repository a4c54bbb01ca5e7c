"""Optuna as a sampler: told what is known, asked for points, forgotten.

Nothing of it lives on between two batches, neither a study of its nor a sampler.
"""

import contextlib
import importlib
import warnings
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise.sweeps._search import _space

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "random")
_GENERATIONS = {"nsga2": "NSGAIISampler", "nsga3": "NSGAIIISampler"}


class Told(NamedTuple):
    """What a sampler is told of a point."""

    point: _space.Point
    values: list[float]
    constraints: list[float]
    generation: int


def load(sampler: str) -> Any:
    """The module `optuna`; ImportError that says how to get what is missing."""
    try:
        if sampler == "gp":
            importlib.import_module("torch")
        import optuna
    except ModuleNotFoundError as error:
        what = f"sampler 'gp' needs {error.name}" if sampler == "gp" else "Optuna"
        way = "torch" if error.name == "torch" else "headwise[search]"
        raise ImportError(
            f"search: expected {what}, which is not installed: pip install {way}"
        ) from error
    return optuna


@contextlib.contextmanager
def quiet(sampler: str = "random") -> Iterator[Any]:
    """The module, which says nothing meanwhile: no study, no experimental feature."""
    optuna = load(sampler)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def draw(
    *,
    ranges: _space.Space,
    highest: Sequence[bool],
    constraints: Sequence[str],
    sampler: str,
    seed: int,
    told: Sequence[Told],
    pending: Sequence[_space.Point],
    generation: int,
) -> Generator[dict[str, Any]]:
    """Points of a new sampler that knows what it is told and what is pending.

    Each knows of those drawn before it. To be closed when there are enough.

    Args:
        ranges: of the space.
        highest: for each metric, whether more is better.
        constraints: their names; met where the number is <= 0.
        sampler: one of `SAMPLERS`.
        seed: of the sampler; 32 bits.
        told: points with results.
        pending: points without, which are not to be asked for again.
        generation: how many points are one, for the samplers that have them.
    """
    with quiet(sampler) as optuna:
        made = _sampler(optuna, sampler, seed, generation)
        study = optuna.create_study(sampler=made, directions=directions(highest))
        for one in told:
            system = {}
            if sampler in _GENERATIONS:
                system[f"{_GENERATIONS[sampler]}:generation"] = one.generation
            bounds = dict(zip(constraints, one.constraints, strict=True))
            study.add_trial(
                frozen(
                    optuna,
                    ranges,
                    one.point,
                    values=one.values,
                    constraints=bounds or None,
                    system_attrs=system,
                )
            )
        for point in pending:
            study.add_trial(frozen(optuna, ranges, point, state="RUNNING"))
        shape = distributions(optuna, ranges)
        while True:
            yield study.ask(shape).params


def directions(highest: Sequence[bool]) -> list[str]:
    """Optuna's names of them."""
    return ["maximize" if more else "minimize" for more in highest]


def frozen(
    optuna: Any,
    ranges: _space.Space,
    point: _space.Point,
    state: str = "COMPLETE",
    **what: Any,
) -> Any:
    """A point as a trial of Optuna's."""
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        params=dict(point),
        distributions=distributions(optuna, ranges),
        **what,
    )


def distributions(optuna: Any, ranges: _space.Space) -> dict[str, Any]:
    """The ranges in Optuna's classes."""
    made = optuna.distributions
    found = {}
    for name, given in ranges.items():
        if given.levels is not None:
            found[name] = made.CategoricalDistribution(given.levels)
        elif given.whole:
            found[name] = made.IntDistribution(given.low, given.high, log=given.log)
        else:
            found[name] = made.FloatDistribution(given.low, given.high, log=given.log)
    return found


def _sampler(optuna: Any, name: str, seed: int, generation: int) -> Any:
    samplers = optuna.samplers
    if name == "nsga2":
        return samplers.NSGAIISampler(population_size=generation, seed=seed)
    if name == "nsga3":
        return samplers.NSGAIIISampler(population_size=generation, seed=seed)
    kinds = {
        "tpe": samplers.TPESampler,
        "gp": samplers.GPSampler,
        "random": samplers.RandomSampler,
    }
    return kinds[name](seed=seed)
