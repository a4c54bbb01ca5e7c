"""Runs all trials of a sweep, keeps what is done, survives trials that diverge."""

import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress

from headwise import _files
from headwise.sweeps import _designs

Train = Callable[[dict[str, jax.Array], jax.Array], Mapping[str, Any]]


def run(
    train: Train,
    design: Mapping[str, Sequence[float] | np.ndarray],
    seeds: Sequence[int] = (0,),
    *,
    folder: str | os.PathLike | None = None,
    batched: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
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
        folder: every finished trial is a line of `trials.jsonl` there, written at
            once; trials found in it are not run again. None keeps nothing.
        batched: one program for all trials, instead of one trial after the other.
        progress: show a bar (on a terminal).

    Returns:
        K * S records in the order of the design, seeds innermost: {"weights", "seed",
        "metrics", "finite", "seconds", "error"}. A trial whose metrics are not
        finite, or that raises `FloatingPointError` (as `hw.training.fit` does), has
        `finite` False; the others go on.

    Raises:
        ValueError: duplicate seeds, a design whose heads differ in length, or a metric
            that is not a scalar (it is named).

    Example:
        >>> def train(weights, seed):
        ...     return {"best_x": weights["b"] / (weights["a"] + weights["b"])}
        >>> design = hw.sweeps.grid({"a": [1.0], "b": [1.0, 3.0]})
        >>> for record in hw.sweeps.run(train, design, batched=True, progress=False):
        ...     print(record["weights"], record["metrics"])
        {'a': 1.0, 'b': 1.0} {'best_x': 0.5}
        {'a': 1.0, 'b': 3.0} {'best_x': 0.75}
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: expected one or more distinct ints, got {seeds}")
    trials = [(w, seed) for w in _designs.rows(design) for seed in seeds]
    path = None
    done: dict[str, dict[str, Any]] = {}
    if folder is not None:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        path = pathlib.Path(folder) / "trials.jsonl"
        found = read_trials(path)
        done = {_identity(r["weights"], r["seed"]): r for r in found}
        _files.write_records(path, found)  # without a line torn by a kill
    open_trials = [t for t in trials if _identity(*t) not in done]

    def keep(record: dict[str, Any]) -> None:
        done[_identity(record["weights"], record["seed"])] = record
        if path is not None:
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")

    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("sweep", total=len(trials))
        bar.update(task, completed=len(trials) - len(open_trials))
        if batched and open_trials:
            for record in _together(train, open_trials):
                keep(record)
            bar.update(task, completed=len(trials))
        else:
            before = len(trials) - len(open_trials)
            for i, (weights, seed) in enumerate(open_trials, start=before + 1):
                shown = " ".join(f"{n}={w:g}" for n, w in weights.items())
                shown = f"{shown} seed={seed}"
                bar.update(task, description=shown)
                record = _alone(train, weights, seed)
                keep(record)
                bar.advance(task)
                if progress and not bar.console.is_terminal:
                    # Where no bar can be drawn (a log file), a line a trial.
                    state = record["error"] or f"{record['seconds']:.1f} s"
                    print(f"trial {i}/{len(trials)} {shown}: {state}", flush=True)
            bar.update(task, description="sweep")
    return [done[_identity(*trial)] for trial in trials]


def read_trials(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The finished trials of a study; a torn last line is left out.

    Args:
        path: of `trials.jsonl`, or of its folder.

    Returns:
        Records as `run` returns them; [] if there is no file.

    Example:
        >>> read_trials("/nowhere")
        []
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "trials.jsonl"
    return _files.read_records(path)


def _identity(weights: Mapping[str, float], seed: int) -> str:
    return json.dumps([dict(sorted(weights.items())), seed])


def _plain(tree: Any, path: str = "metrics") -> Any:
    if isinstance(tree, Mapping):
        return {n: _plain(value, f"{path}[{n!r}]") for n, value in tree.items()}
    if np.shape(tree) != ():
        raise ValueError(
            f"train: expected a scalar for {path}, got shape {np.shape(tree)}"
        )
    return float(tree)


def _leaves(tree: Any) -> list[float]:
    if isinstance(tree, dict):
        return [x for value in tree.values() for x in _leaves(value)]
    return [tree]


def _json_safe(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _json_safe(value) for name, value in tree.items()}
    return tree if math.isfinite(tree) else None


def _result(
    weights: dict[str, float], seed: int, metrics: Any, seconds: float
) -> dict[str, Any]:
    metrics = _plain(metrics)
    finite = all(math.isfinite(x) for x in _leaves(metrics))
    return {
        "weights": weights,
        "seed": seed,
        "metrics": _json_safe(metrics),
        "finite": finite,
        "seconds": round(seconds, 3),
        "error": None if finite else "a metric is not finite",
    }


def _alone(train: Train, weights: dict[str, float], seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    arrays = {name: jnp.float32(w) for name, w in weights.items()}
    try:
        metrics = jax.device_get(train(arrays, jnp.int32(seed)))
    except FloatingPointError as error:
        record = _result(weights, seed, {}, time.perf_counter() - start)
        return record | {"finite": False, "error": str(error)}
    return _result(weights, seed, metrics, time.perf_counter() - start)


def _together(
    train: Train, trials: list[tuple[dict[str, float], int]]
) -> list[dict[str, Any]]:
    start = time.perf_counter()
    names = list(trials[0][0])
    stacked = {
        name: jnp.asarray([weights[name] for weights, _ in trials], jnp.float32)
        for name in names
    }
    seeds = jnp.asarray([seed for _, seed in trials], jnp.int32)
    metrics = jax.device_get(jax.jit(jax.vmap(train))(stacked, seeds))
    each = (time.perf_counter() - start) / len(trials)

    def row(k: int) -> Any:
        return jax.tree.map(lambda x: np.asarray(x)[k], metrics)

    return [
        _result(weights, seed, row(k), each) for k, (weights, seed) in enumerate(trials)
    ]
