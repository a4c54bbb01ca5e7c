"""Adaptive search: which trials next, as a function of the study and its results."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise import _checks
from headwise import _provenance
from headwise import _records
from headwise.sweeps._design import _product
from headwise.sweeps._design._trials import Trial
from headwise.sweeps._search import _ask
from headwise.sweeps._search import _dashboard
from headwise.sweeps._search import _optuna
from headwise.sweeps._search import _space


class Search(NamedTuple):
    """An adaptive search as pure functions: see `search`.

    Example:
        >>> plan = hw.sweeps.search({"a": (1, 1), "b": (0.01, 1)}, metrics={"m": "max"})
        >>> plan.text["sampler"], plan.text["space"]["b"]["low"], plan.budget
        ('tpe', 0.01, 64)
    """

    ask: Callable[..., list[Trial] | None]
    """`ask(records, batch, asked=())`: the trials of a batch; [] when the budget is
    spent; None while results that it must see are missing.

    `records` are those of the study, in any order, more or fewer; `asked` the trials of
    the batches before, as far as they are kept: what is left out is worked out again.
    """
    project: Callable[..., None]
    """`project(path, records, asked)`: writes the search as a file that Optuna's
    dashboard shows (`optuna-dashboard PATH`). Nothing ever reads it back."""
    text: dict[str, Any]
    """All that decides which trials are asked for, as plain JSON; not the budget."""
    budget: int
    """How many weightings are tried."""


def search(
    space: Mapping[str, tuple[float, float]],
    *,
    metrics: Mapping[str, str | bool],
    vary: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    sampler: str = "tpe",
    batch: int = 8,
    budget: int = 64,
    constraints: Mapping[str, Callable[[Mapping[str, Any]], float]] | None = None,
    lag: int = 0,
    seed: int = 0,
) -> Search:
    """An adaptive search for weights, by a sampler of Optuna, that anyone can repeat.

    Trials are asked for in batches. A batch is a function of the search, its number,
    and the results of the batches before it in the order in which they were asked:
    whoever asks, whenever, in whatever order results came in, gets the same trials. So
    a search goes on after a kill, and several processes share one. The sampler is made
    afresh for each batch, of a seed that is a hash of the search and the number.

    A trial that failed, was stopped or has a metric that is not finite counts as the
    worst that was seen; it is not forgotten.

    Args:
        space: {head: (lowest, highest)} of the weights, positive, searched in their
            logarithm; equal ends fix a weight. {} where only `vary` is searched.
        metrics: {metric: "max" or "min"} of what to improve; True is "max". Several
            are traded off against each other. A nested one is a path, `left/dice`.
        vary: {name: range or levels} of what else is searched: a tuple (lowest,
            highest) of floats, in their logarithm, or of ints; (lowest, highest,
            "linear"); or a list of numbers, texts or bools.
        seeds: each point is trained with all of them, and its metrics are their means.
        sampler: "tpe" (any number of metrics), "nsga2", "nsga3" (several), "gp" (slow,
            fewest trials; needs PyTorch), "random".
        batch: points a batch; for "nsga2" and "nsga3" a generation.
        budget: points in all.
        constraints: {name: function of a trial's metrics}, met where it is <= 0.
        lag: how many batches may be unfinished when the next is asked: 0 waits for
            all, 1 keeps every process busy at the price of results a batch old.
        seed: another one is another search.

    Returns:
        `Search`. `hw.sweeps.run(program, search=...)` does what it says.

    Raises:
        ImportError: Optuna is missing (`pip install headwise[search]`).
        ValueError, TypeError: a range that is none, an unknown direction or sampler.

    Example:
        >>> plan = hw.sweeps.search(
        ...     {"a": (1, 1), "b": (0.01, 1)}, metrics={"m": "max"}, batch=2, budget=6
        ... )
        >>> first = plan.ask([], 0)
        >>> [trial.weights["a"] for trial in first], plan.ask([], 1)
        ([1.0, 1.0], None)
        >>> records = [hw.sweeps.record(*trial[:2], {"m": 0.5}) for trial in first]
        >>> plan.ask(records, 1) == plan.ask(records[::-1], 1, asked=[first])
        True
    """
    ranges = _space.space(space, {} if vary is None else vary)
    if not isinstance(metrics, Mapping) or not metrics:
        raise ValueError(
            f"metrics: expected {{metric: 'max' or 'min'}}, got {metrics!r}"
        )
    highest = {
        _name("metrics", name): _is_max(f"metrics[{name!r}]", direction)
        for name, direction in metrics.items()
    }
    own = _product.seeds_of(seeds)
    _checks.choice("sampler", _optuna.SAMPLERS, sampler)
    least = 2 if sampler.startswith("nsga") else 1
    if _checks.positive_int("batch", batch) < least:
        raise ValueError(f"batch: expected {least} or more for {sampler}, got {batch}")
    _checks.positive_int("budget", budget)
    _checks.nonnegative_int("lag", lag)
    _checks.nonnegative_int("seed", seed)
    bounds = {} if constraints is None else constraints
    if not isinstance(bounds, Mapping):
        raise TypeError(
            "constraints: expected {name: function of the metrics}, got "
            f"{_checks.kind(bounds)}"
        )
    for name, bound in bounds.items():
        _checks.takes(f"constraints[{_name('constraints', name)!r}]", bound, "metrics")
    _optuna.load(sampler)
    text = {
        "space": {n: made.text() for n, made in ranges.items() if made.head},
        "vary": {n: made.text() for n, made in ranges.items() if not made.head},
        "metrics": {n: "max" if more else "min" for n, more in highest.items()},
        "seeds": own,
        "sampler": sampler,
        "batch": batch,
        "constraints": {n: _provenance.function(f) for n, f in bounds.items()},
        "lag": lag,
        "seed": seed,
    }
    text = _records.json_settings(text)
    study = _ask.Study(
        ranges,
        highest,
        dict(bounds),
        own,
        sampler,
        batch,
        lag,
        _records.canonical(text),
    )

    def ask(
        records: Iterable[_records.Record] | Mapping[str, _records.Record],
        batch: int,
        asked: Sequence[Sequence[Trial]] = (),
    ) -> list[Trial] | None:
        return _ask.batch(study, budget, _listed(records), batch, asked)

    def project(
        path: Any,
        records: Iterable[_records.Record] | Mapping[str, _records.Record],
        asked: Sequence[Sequence[Trial]],
    ) -> None:
        _dashboard.project(study, path, _listed(records), asked)

    return Search(ask, project, text, budget)


def _listed(records: Any) -> list[_records.Record]:
    return list(records.values() if isinstance(records, Mapping) else records)


def _name(argument: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"{argument}: expected names (str), got {name!r}")
    return name


def _is_max(argument: str, direction: Any) -> bool:
    if isinstance(direction, bool):
        return direction
    _checks.choice(argument, ("max", "min"), direction)
    return direction == "max"
