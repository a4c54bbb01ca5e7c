"""Runs all trials of a sweep, keeps what is done, survives trials that fail."""

import logging
import os
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise import _provenance
from headwise import _records
from headwise import _scalars
from headwise.sweeps import _designs
from headwise.sweeps import _kept
from headwise.sweeps import _progress

_LOG = logging.getLogger("headwise")
_MEMORY = "out of memory"

_CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where a traced number is made one of Python or NumPy."""

Train = Callable[[dict[str, jax.Array], jax.Array], Mapping[str, Any]]
_Trial = tuple[dict[str, float], int]
"""Weights and seed."""


def run(
    train: Train,
    design: Mapping[str, Sequence[float] | np.ndarray],
    seeds: Sequence[int] = (0,),
    *,
    settings: Mapping[str, Any] | None = None,
    folder: str | os.PathLike | None = None,
    batched: bool = False,
    progress: bool = True,
    retry: bool = False,
) -> list[_records.Record]:
    """Trains once for every weighting and seed.

    The weights reach `train` as arrays, so that a step which takes them as data
    (`hw.balancers.constant` keeps them in its state) is compiled once for all
    trials. With `batched` the whole sweep is one `jax.vmap` in one program: the
    fastest for small models and on accelerators. On a CPU convolutions are slower
    when batched over trials; there trials one after the other win.

    Args:
        train: `(weights {name: float32 scalar}, seed int32 scalar) -> {metric:
            scalar}` (may be nested; a metric of `hw.metrics` stands for its value).
            Pure and traceable if `batched`.
        design: {name: [K]}, of `hw.sweeps.grid`, `simplex`, ...
        seeds: S distinct ints; every weighting is trained with each.
        settings: {name: value} of all else that decides what comes out (learning
            rate, steps, ...): written into each record, and trials with others are
            other trials.
        folder: every finished trial is a line of `trials.jsonl` there, written at
            once; trials found in it are not run again, if it was this `train` that
            ran them: its source, and the numbers that it takes from outside, are
            kept in `made_with`. Processes that sweep in one folder at the same time
            share its trials. None keeps nothing.
        batched: one program for all trials, instead of one trial after the other; in
            parts, if it runs out of memory.
        progress: show a bar (on a terminal).
        retry: run the trials again whose record in the folder is not finite; else they
            are done like the others.

    Returns:
        K * S `Record`s in the order of the design, seeds innermost; rows that are the
        same trial share one. A trial whose metrics are not finite, that raises
        `FloatingPointError` (as `hw.training.fit` does) or runs out of memory
        (`out_of_memory`), has `finite` False; the others go on. Other errors end
        the sweep: the trial is not done, and what is done is kept.

    Raises:
        ValueError: seeds that are no distinct int32 of 0 or more, a design whose heads
            differ in length, or a metric that is not a scalar (it is named).
        TypeError: metrics that are no dict.
        StudyError: trials in the folder were run by another `train` (what differs is
            named).

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
    for name, flag in (("batched", batched), ("progress", progress), ("retry", retry)):
        _checks.boolean(name, flag)
    settings = _records.json_settings(settings or {})
    seeds = _seeds(seeds)
    rows = [(w, seed) for w in _designs.rows(design) for seed in seeds]
    order = [
        _records.identity({"weights": w, "seed": seed, "settings": settings})
        for w, seed in rows
    ]
    trials = dict(zip(order, rows, strict=True))  # rows that are the same train once
    made_by = _provenance.function(train)
    checked = _checked(train)
    many = _traceable(checked)
    size = len(trials) if batched else 1
    with (
        _kept.Kept(folder, list(trials), made_by, retry) as kept,
        _progress.bar(progress, len(trials)) as bar,
    ):
        while names := kept.take(size):
            chosen = [trials[name] for name in names]
            start = time.perf_counter()
            try:
                with bar.running(chosen, len(kept.done)):
                    ends = (
                        _together(many, chosen) if batched else _alone(checked, *chosen)
                    )
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if len(chosen) > 1:
                    size = -(-len(chosen) // 2)
                    _LOG.warning(
                        "%d trials as one program are out of memory: on with %d",
                        len(chosen),
                        size,
                    )
                    continue
                ends = [{"metrics": {}, "error": f"{_MEMORY}: {_first_line(error)}"}]
            seconds = (time.perf_counter() - start) / len(chosen)
            made_with = _provenance.made_with() | {"train": made_by}
            records = [
                _records.record(
                    weights,
                    seed,
                    **end,
                    settings=settings,
                    seconds=round(seconds, 3),
                    mode="vmap" if batched else "loop",
                    made_with=made_with,
                )
                for (weights, seed), end in zip(chosen, ends, strict=True)
            ]
            kept.keep(names, records)
            bar.done(chosen, records, len(kept.done))
    _tell_memory(folder, list(kept.done.values()))
    return [kept.done[name] for name in order]


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


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of this machine or of a device.

    That is no fault of the program: `run` makes a record of such a trial and goes on.

    Args:
        error: anything that was raised.

    Returns:
        True for `MemoryError` and for RESOURCE_EXHAUSTED of JAX.

    Example:
        >>> out_of_memory(MemoryError()), out_of_memory(TypeError("x"))
        (True, False)
    """
    device = isinstance(error, jax.errors.JaxRuntimeError)
    return isinstance(error, MemoryError) or (
        device and "RESOURCE_EXHAUSTED" in str(error)
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _tell_memory(
    folder: str | os.PathLike | None, records: Sequence[_records.Record]
) -> None:
    count = sum((record["error"] or "").startswith(_MEMORY) for record in records)
    if count:
        kept = " and count as done: retry=True tries them again" if folder else ""
        _LOG.warning("%d of %d trials ran out of memory%s", count, len(records), kept)


def _seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds; ValueError for what is no int32 of 0 or more, or comes twice."""
    if not hasattr(seeds, "__iter__"):
        raise TypeError(f"seeds: expected a sequence of ints, got {seeds!r}")
    ints = _checks.distinct_ints("seeds", seeds)
    for i, seed in enumerate(ints):
        if not 0 <= seed < 2**31:
            raise ValueError(f"seeds[{i}]: expected 0 <= seed < 2**31, got {seed}")
    return ints


def _checked(train: Train) -> Train:
    """`train`, whose metrics are looked at before they are computed."""

    def checked(weights: dict[str, jax.Array], seed: jax.Array) -> Mapping[str, Any]:
        metrics = _scalars.scalars(train(weights, seed))
        _records.check_metrics(metrics)
        return metrics

    return checked


def _alone(train: Train, trial: _Trial) -> list[dict[str, Any]]:
    """How one trial ends; one that raises `FloatingPointError` with its text.

    The error of `hw.training.fit` also knows the step at which the trial stopped.
    """
    weights, seed = trial
    arrays = {name: jnp.float32(w) for name, w in weights.items()}
    try:
        return [{"metrics": jax.device_get(train(arrays, jnp.int32(seed)))}]
    except FloatingPointError as error:
        stopped = getattr(error, "step", None)
        return [{"metrics": {}, "error": str(error), "stopped": stopped}]


def _together(many: Callable[..., Any], trials: Sequence[_Trial]) -> list[dict]:
    """How trials end that run as one program."""
    stacked = {
        name: jnp.asarray([weights[name] for weights, _ in trials], jnp.float32)
        for name in trials[0][0]
    }
    seeds = jnp.asarray([seed for _, seed in trials], jnp.int32)
    metrics = jax.device_get(many(stacked, seeds))
    return [
        {"metrics": jax.tree.map(lambda x: np.asarray(x)[k], metrics)}  # noqa: B023
        for k in range(len(trials))
    ]
