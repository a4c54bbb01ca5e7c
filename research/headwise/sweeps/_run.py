"""Runs all trials of a sweep, keeps what is done, survives trials that diverge."""

import os
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress

from headwise import _checks
from headwise import _provenance
from headwise import _records
from headwise.sweeps import _designs

_CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
Train = Callable[[dict[str, jax.Array], jax.Array], Mapping[str, Any]]


def run(
    train: Train,
    design: Mapping[str, Sequence[float] | np.ndarray],
    seeds: Sequence[int] = (0,),
    *,
    settings: Mapping[str, Any] | None = None,
    folder: str | os.PathLike | None = None,
    batched: bool = False,
    progress: bool = True,
) -> list[_records.Record]:
    """Trains once for every weighting and seed.

    The weights reach `train` as arrays, so that a step which takes them as data
    (`hw.balancers.constant` keeps them in its state) is compiled once for all
    trials. With `batched` the whole sweep is one `jax.vmap` in one program: the
    fastest for small models and on accelerators. On a CPU convolutions are slower
    when batched over trials; there trials one after the other win.

    Args:
        train: `(weights {name: float32 scalar}, seed int32 scalar) -> {metric:
            scalar}` (may be nested). Pure and traceable if `batched`.
        design: {name: [K]}, of `hw.sweeps.grid`, `simplex`, ...
        seeds: S distinct ints; every weighting is trained with each.
        settings: {name: value} of all else that decides what comes out (learning
            rate, steps, ...): written into each record, and trials with others are
            other trials.
        folder: every finished trial is a line of `trials.jsonl` there, written at
            once; trials found in it are not run again, if it was this `train` that
            ran them: its source, and the numbers that it takes from outside, are
            kept in `made_with`. None keeps nothing.
        batched: one program for all trials, instead of one trial after the other.
        progress: show a bar (on a terminal).

    Returns:
        K * S `Record`s in the order of the design, seeds innermost. A trial whose
        metrics are not finite, or that raises `FloatingPointError` (as
        `hw.training.fit` does), has `finite` False; the others go on.

    Raises:
        ValueError: seeds that are no distinct ints, a design whose heads differ in
            length, or a metric that is not a scalar (it is named); trials in the
            folder were run by another `train` (what differs is named).

    Example:
        >>> def train(weights, seed):
        ...     return {"best_x": weights["b"] / (weights["a"] + weights["b"])}
        >>> design = hw.sweeps.grid({"a": [1.0], "b": [1.0, 3.0]})
        >>> for record in hw.sweeps.run(train, design, batched=True, progress=False):
        ...     print(record["weights"], record["metrics"])
        {'a': 1.0, 'b': 1.0} {'best_x': 0.5}
        {'a': 1.0, 'b': 3.0} {'best_x': 0.75}
    """
    _checks.function("train", train)
    seeds = _checks.distinct_ints("seeds", seeds)
    _checks.boolean("batched", batched)
    _checks.boolean("progress", progress)
    trials = [(w, seed) for w in _designs.rows(design) for seed in seeds]
    settings = dict(settings or {})

    def identity(weights: Mapping[str, float], seed: int) -> str:
        trial = {"weights": weights, "seed": seed, "settings": settings}
        return _records.identity(trial)

    kept = [] if folder is None else _records.read(folder)
    done = {_records.identity(record): record for record in kept}
    open_trials = [trial for trial in trials if identity(*trial) not in done]
    made_by = _provenance.function(train)
    wanted = {identity(*trial) for trial in trials}
    _check_train(folder, made_by, [done[name] for name in wanted & set(done)])

    def keep(*records: _records.Record) -> None:
        if folder is not None:
            _records.append(folder, *records)
        done.update({_records.identity(record): record for record in records})

    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("sweep", total=len(trials))
        before = len(trials) - len(open_trials)
        bar.update(task, completed=before)
        if batched and open_trials:
            keep(*_together(train, open_trials, settings, made_by))
            bar.update(task, completed=len(trials))
        else:
            for i, (weights, seed) in enumerate(open_trials, start=before + 1):
                shown = " ".join(f"{n}={w:g}" for n, w in weights.items())
                shown = f"{shown} seed={seed}"
                bar.update(task, description=shown)
                record = _alone(train, weights, seed, settings, made_by)
                keep(record)
                bar.advance(task)
                if progress and not bar.console.is_terminal:
                    # Where no bar can be drawn (a log file), a line a trial.
                    state = record["error"] or f"{record['seconds']:.1f} s"
                    print(f"trial {i}/{len(trials)} {shown}: {state}", flush=True)
            bar.update(task, description="sweep")
    return [done[identity(*trial)] for trial in trials]


def read_trials(path: str | os.PathLike) -> list[_records.Record]:
    """The finished trials of a study: an older name of `read`.

    Args:
        path: of `trials.jsonl`, or of its folder.

    Returns:
        Records as `run` returns them; [] if there is no file.

    Example:
        >>> read_trials("/nowhere")
        []
    """
    return _records.read(path)


def _check_train(
    folder: str | os.PathLike | None,
    now: Mapping[str, Any],
    records: Sequence[_records.Record],
) -> None:
    """Raises ValueError if records that would be given back are of another `train`.

    Where both texts are known they decide, and the name does not: it may have moved.
    """
    for record in records:
        before = record["made_with"].get("train")
        if before is None:  # an older record
            continue
        lines = []
        if None in (before["source"], now["source"]):
            if before["name"] != now["name"]:
                lines.append(f"it was {before['name']}, is {now['name']}")
        elif before["source"] != now["source"]:
            lines.append(f"the text of {before['name']} is not that of {now['name']}")
        for name in sorted({*before["uses"], *now["uses"]}):
            was, is_ = (by["uses"].get(name, "not set") for by in (before, now))
            if was != is_:
                lines.append(f"{name} was {was}, is {is_}")
        if lines:
            raise ValueError(
                f"folder {folder}: its trials were run by another train: "
                f"{'; '.join(lines)} (give another folder, or other settings: trials "
                "with others are other trials)"
            )


def _made_with(made_by: Mapping[str, Any]) -> dict[str, Any]:
    return _provenance.made_with() | {"train": dict(made_by)}


def _alone(
    train: Train,
    weights: dict[str, float],
    seed: int,
    settings: Mapping[str, Any],
    made_by: Mapping[str, Any],
) -> _records.Record:
    """Runs one trial; one that raises `FloatingPointError` is recorded with its text.

    The error of `hw.training.fit` also knows the step at which the trial stopped.
    """
    start = time.perf_counter()
    arrays = {name: jnp.float32(w) for name, w in weights.items()}
    metrics, error, stopped = {}, None, None
    try:
        metrics = jax.device_get(train(arrays, jnp.int32(seed)))
    except FloatingPointError as raised:
        error, stopped = str(raised), getattr(raised, "step", None)
    return _records.record(
        weights,
        seed,
        metrics,
        settings=settings,
        stopped=stopped,
        error=error,
        seconds=round(time.perf_counter() - start, 3),
        mode="loop",
        made_with=_made_with(made_by),
    )


def _traceable(train: Train) -> Callable[..., Mapping[str, Any]]:
    """`train` over all trials in one program."""
    many = jax.jit(jax.vmap(train))

    def together(weights: Any, seeds: Any) -> Mapping[str, Any]:
        try:
            return many(weights, seeds)
        except TypeError as error:
            # NumPy's own words name the tracer that it was given.
            if not isinstance(error, _CONCRETE) and "Tracer" not in str(error):
                raise
            raise TypeError(
                "batched: expected a train that can be traced; this one makes a number "
                "of Python or NumPy of a weight or the seed (float(w), if w > 0, "
                "np.random.default_rng(seed)): keep them arrays (jnp, jnp.where, "
                "jax.random.key(seed)), or give batched=False"
            ) from error

    return together


def _together(
    train: Train,
    trials: list[tuple[dict[str, float], int]],
    settings: Mapping[str, Any],
    made_by: Mapping[str, Any],
) -> list[_records.Record]:
    """Runs all trials as one program; each is given an equal part of its time."""
    start = time.perf_counter()
    names = list(trials[0][0])
    stacked = {
        name: jnp.asarray([weights[name] for weights, _ in trials], jnp.float32)
        for name in names
    }
    seeds = jnp.asarray([seed for _, seed in trials], jnp.int32)
    metrics = jax.device_get(_traceable(train)(stacked, seeds))
    seconds = round((time.perf_counter() - start) / len(trials), 3)
    made_with = _made_with(made_by)

    def row(k: int) -> Any:
        return jax.tree.map(lambda x: np.asarray(x)[k], metrics)

    return [
        _records.record(
            weights,
            seed,
            row(k),
            settings=settings,
            seconds=seconds,
            mode="vmap",
            made_with=made_with,
        )
        for k, (weights, seed) in enumerate(trials)
    ]
